"""Small servers from Python's standard library, for machines where the lab's daemons are not installed.

`python -m infra.local.lab.plain_services KIND ADDRESS PORT [CERTIFICATE KEY]` serves one until it is ended.
"""

from __future__ import annotations

import http.server
import socketserver
import ssl
import sys
from http import HTTPStatus

# What is sent at first, and to the first line, before the connection is closed. Nmap knows both as generic, without a product.
GREETINGS = {
    "ftp": (b"220 Welcome to lab FTP\r\n", b"421 Service not available.\r\n"),
    "telnet": (b"\xff\xfb\x01login: ", b"\r\nLogin incorrect\r\n"),  # IAC WILL ECHO (RFC 854, RFC 857)
}


class Page(http.server.BaseHTTPRequestHandler):
    """One page for every request."""

    def do_GET(self) -> None:
        """Answer with the page."""
        body = b"<html><head><title>lab</title></head><body>Driftline lab</body></html>"
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


class Greeter(socketserver.StreamRequestHandler):
    """Greets, answers one line, and closes."""

    timeout = 30

    def handle(self) -> None:
        """Talk to one client."""
        server = self.server
        assert isinstance(server, GreetingServer)  # noqa: S101
        greeting, answer = GREETINGS[server.kind]
        try:
            self.wfile.write(greeting)
            if self.rfile.readline(512):
                self.wfile.write(answer)
        except OSError:
            return


class GreetingServer(socketserver.ThreadingTCPServer):
    """A text protocol that only greets."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, kind: str, address: tuple[str, int]) -> None:
        self.kind = kind
        super().__init__(address, Greeter)


class PageServer(http.server.ThreadingHTTPServer):
    """HTTP, or HTTPS: the handshake runs in the request's own thread, so that a silent client holds up no one."""

    tls: ssl.SSLContext | None = None

    def finish_request(self, request: object, client_address: object) -> None:
        """Serve one connection. A peer that breaks off the handshake is no error."""
        try:
            if self.tls is not None:
                request.settimeout(30)  # type: ignore[attr-defined]
                request = self.tls.wrap_socket(request, server_side=True)  # type: ignore[arg-type]
            super().finish_request(request, client_address)  # type: ignore[arg-type]
        except OSError:
            return


def serve(kind: str, address: str, port: int, certificate: str = "", key: str = "") -> None:
    """Serve one kind for ever."""
    server: socketserver.BaseServer
    if kind in GREETINGS:
        server = GreetingServer(kind, (address, port))
    else:
        server = pages = PageServer((address, port), Page)
        if certificate:
            pages.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            pages.tls.load_cert_chain(certificate, key)
    server.serve_forever(poll_interval=60)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
