"""A look at HTTPS shakes hands once: what the TLS probe left open is what HTTP asks on, and where it has ended a new one is made."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.core.settings import ScannerSettings
from tests.scanning import make_certificate, make_unit, scan

PAGE = b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nContent-Length: 28\r\nConnection: close\r\n\r\n<html><title>A</title></html>"


@dataclass
class Pages:
    """A server of pages in TLS: how many shook hands, how many asked, and whether it hangs up on the first of them at once."""

    impatient: bool
    port: int = 0
    shaken: int = 0
    asked: int = 0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Called once hands are shaken."""
        self.shaken += 1
        with contextlib.suppress(OSError):
            if not (self.impatient and self.shaken == 1) and (await reader.read(4096)).startswith(b"GET / "):
                self.asked += 1
                writer.write(PAGE)
                await writer.drain()
        writer.close()

    async def serve(self, context: ssl.SSLContext, ready: threading.Event, stop: asyncio.Event) -> None:
        server = await asyncio.start_server(self.talk, "127.0.0.1", 0, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            ready.set()
            await stop.wait()


@contextlib.contextmanager
def pages(folder: Path, impatient: bool) -> Iterator[Pages]:
    certificate, key, _ = make_certificate(folder, "pages.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    found, ready, stop, loop = Pages(impatient), threading.Event(), asyncio.Event(), asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(found.serve(context, ready, stop)))
    thread.start()
    try:
        assert ready.wait(10)
        yield found
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


@pytest.mark.parametrize("impatient", [False, True], ids=["patient", "hangs up after the handshake"])
def test_http_asks_on_the_connection_that_tls_left_open(tmp_path: Path, impatient: bool) -> None:
    with pages(tmp_path, impatient) as server:
        report = scan(make_unit(["127.0.0.1"], str(server.port), ("banner", "tls", "http")), None, ScannerSettings(), "connect")
    (service,) = report.hosts[0].services
    assert service.service == "https"
    assert service.tls is not None
    assert service.http is not None
    assert (service.http.status, service.http.title, service.product) == (200, "A", "nginx")
    assert (server.shaken, server.asked) == ((2, 1) if impatient else (1, 1))
