"""A look at HTTPS shakes hands once: what the TLS probe left open is what HTTP asks on, and where it has ended a new one is made."""

from __future__ import annotations

import contextlib
import socket
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
    """A server of pages in TLS: how many shook hands, and whether it hangs up on the first of them at once."""

    port: int
    impatient: bool
    shaken: int = 0
    asked: int = 0

    def talk(self, peer: socket.socket, context: ssl.SSLContext) -> None:
        with contextlib.suppress(OSError), peer:
            peer.settimeout(10)
            with context.wrap_socket(peer, server_side=True, do_handshake_on_connect=False) as secure:
                secure.do_handshake()
                self.shaken += 1
                if self.impatient and self.shaken == 1:
                    return
                if secure.recv(4096).startswith(b"GET / "):
                    self.asked += 1
                    secure.sendall(PAGE)


@contextlib.contextmanager
def pages(folder: Path, impatient: bool) -> Iterator[Pages]:
    certificate, key, _ = make_certificate(folder, "pages.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = Pages(listener.getsockname()[1], impatient)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = listener.accept()
                    threading.Thread(target=found.talk, args=(peer, context), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield found
        listener.shutdown(socket.SHUT_RDWR)


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
