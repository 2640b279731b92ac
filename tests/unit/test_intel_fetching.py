"""Where a redirect may lead, what a feed's address may be, and when a server is asked whether something changed."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from infra.core.errors import BadInput
from infra.core.settings import IntelSettings, Settings
from producers.intel.fetching import Bounds, Validators, _next_place, fetch
from producers.intel.notes import Note, key_of, load_notes, save_notes
from producers.intel.sources import Source, configured, named
from producers.intel.statements import FeedError

AT = datetime(2026, 3, 1, tzinfo=UTC)
NOTE = Note(
    feed="kev", place="https://example.org/kev", as_of=AT, synced_at=AT, cluster="a", next_offset=7, etag='"1"', last_modified="Sun"
)


@pytest.mark.parametrize(
    ("place", "location", "leads"),
    [
        ("https://example.org/a", "/b", "https://example.org/b"),
        ("https://example.org/a", "https://mirror.example.org/b", "https://mirror.example.org/b"),
        ("http://example.org/a", "https://example.org/a", "https://example.org/a"),
        ("https://example.org/a", "http://example.org/a", None),
        ("http://example.org/a", "file:///etc/passwd", None),
        ("https://example.org/a", "ftp://example.org/a", None),
        ("https://example.org/a", "//other.example.org/a", "https://other.example.org/a"),
    ],
)
def test_where_a_redirect_leads(place: str, location: str, leads: str | None) -> None:
    response = httpx.Response(302, headers={"Location": location})
    if leads is None:
        with pytest.raises(FeedError, match="not followed"):
            _next_place(httpx.URL(place), response)
    else:
        assert str(_next_place(httpx.URL(place), response)) == leads


@pytest.mark.parametrize("place", ["ftp://example.org/kev", "file:///etc/passwd", "http://", "https://me:secret@example.org/", "http://[x"])
def test_what_is_no_feeds_address(place: str) -> None:
    with pytest.raises(BadInput):
        named({"kev": [place]})


def test_a_key_in_a_feeds_address_is_not_written_down() -> None:
    assert Source("kev", "https://example.org/kev.json?key=secret#secret").address == "https://example.org/kev.json"
    assert Source("kev", "/srv/kev.json").address == ""


def test_no_feed_is_switched_on_by_default_and_cve_records_come_last() -> None:
    assert configured(Settings()) == []
    on = Settings(intel=IntelSettings(feeds=("cve", "kev"), cve="/a", kev="/b"))
    assert configured(on) == [Source("kev", "/b"), Source("cve", "/a")]


def test_validators_are_of_the_same_topic_only() -> None:
    assert NOTE.validators("a", 9) == Validators('"1"', "Sun")
    assert NOTE.validators("b", 9) == Validators()
    assert NOTE.validators("a", 6) == Validators(), "the topic was made anew"


def test_notes_that_cannot_be_read_are_none(tmp_path: Path) -> None:
    assert load_notes(tmp_path) == {}
    save_notes(tmp_path, {key_of("kev", NOTE.place): NOTE})
    assert load_notes(tmp_path) == {key_of("kev", NOTE.place): NOTE}
    for content in ("", "[]", '{"a": 1}', "\udcff"):
        (tmp_path / "intel" / "notes.json").write_bytes(content.encode("utf-8", "surrogateescape"))
        assert load_notes(tmp_path) == {}


def test_a_body_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"body")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/"
    try:
        with pytest.raises(FeedError, match="took too long"):
            fetch(url, tmp_path / "x", Validators(), Bounds(100, -1.0))
        assert fetch(url, tmp_path / "x", Validators(), Bounds(100, 60.0)) == Validators()
        assert (tmp_path / "x").read_bytes() == b"body"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def answering(text: bytes, then: bytes = b"") -> Iterator[str]:
    """A server that answers anybody with `text`, and then with `then` again and again."""
    ended = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(text)
            try:
                while then and not ended.wait(0.05):
                    self.request.sendall(then)
            except OSError:
                pass

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("text", "then"), [(b"HTTP/1.1 200 OK\r\n", b"X-A: 1\r\n"), (b"HTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n")]
)
def test_headers_that_never_end_are_given_up(text: bytes, then: bytes, tmp_path: Path) -> None:
    with answering(text, then) as url, pytest.raises(FeedError, match="took too long: 0 bytes"):
        fetch(url, tmp_path / "x", Validators(), Bounds(100, 0.5))


def test_an_etag_that_cannot_be_sent_back_is_none(tmp_path: Path) -> None:
    with answering(b'HTTP/1.1 200 OK\r\nETag: "\xe9"\r\nLast-Modified: Sun\r\nContent-Length: 2\r\n\r\n{}') as url:
        assert fetch(url, tmp_path / "x", Validators(), Bounds(100, 20.0)) == Validators("", "Sun")


def test_a_redirect_to_what_is_no_name_is_refused(tmp_path: Path) -> None:
    location = b"http://" + b"a" * 70 + b".example/"
    with answering(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + location + b"\r\n\r\n") as url, pytest.raises(FeedError):
        fetch(url, tmp_path / "x", Validators(), Bounds(100, 20.0))
