"""A real HTTP server on loopback that takes webhooks, and answers as it is told to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

Answer = int | Literal["drop", "hang", "drip"]
"""An HTTP status; or the connection is dropped, nothing is answered, or a header comes byte by byte without end."""


@dataclass(slots=True)
class Taken:
    """One request: its headers in lower case, its body, and what was answered."""

    headers: dict[str, str]
    body: bytes
    answer: Answer

    @property
    def data(self) -> dict[str, Any]:
        """The body's data."""
        found: dict[str, Any] = json.loads(self.body)["data"]
        return found


@dataclass(slots=True)
class Receiver:
    """What came, and how the next request is answered. `over` ends those that hang."""

    answer: Callable[[int], Answer] = lambda _: 204
    url: str = ""
    requests: list[Taken] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    over: threading.Event = field(default_factory=threading.Event)

    def taken(self) -> list[Taken]:
        """Those that were answered with 2xx."""
        with self.lock:
            return [one for one in self.requests if isinstance(one.answer, int) and one.answer < 300]

    def until(self, condition: Callable[[], object], seconds: float = 30.0) -> None:
        """Wait for a condition. Fails the test when it does not come true in time."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not in time; {[(one.answer, one.body[:200]) for one in self.requests]}"
            time.sleep(0.02)


@contextmanager
def receiving(answer: Callable[[int], Answer] = lambda _: 204) -> Iterator[Receiver]:
    """A running receiver; `answer` maps the number of a request, from 0, to what it does."""
    receiver = Receiver(answer)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_for(receiver))
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.over.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


def handler_for(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    """The request handler of one receiver."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            with receiver.lock:
                answer = receiver.answer(len(receiver.requests))
                receiver.requests.append(Taken({name.lower(): value for name, value in self.headers.items()}, body, answer))
            self.close_connection = True
            if answer == "hang":
                receiver.over.wait(30)
            elif answer == "drip":
                self._drip()
            elif isinstance(answer, int):
                self.send_response(answer)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

        def _drip(self) -> None:
            try:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nx-long: ")
                while not receiver.over.wait(0.05):
                    self.wfile.write(b"a")
            except OSError:
                return

        do_GET = do_POST  # noqa: N815  the library's name for it

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the library's name for it
            del format, args

    return Handler
