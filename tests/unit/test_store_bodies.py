from __future__ import annotations

import io
import socket
import time
import zlib
from email.message import Message

import lz4.frame  # type: ignore[import-untyped]
import pytest
from backports import zstd

from infra.local.store.bodies import DeadlineReader, compress, read_body, read_form
from infra.local.store.dialect import Rejected


def headers(**values: str) -> Message:
    message = Message()
    for name, value in values.items():
        message[name.replace("_", "-")] = value
    return message


def read(data: bytes, limit: int = 100_000, **values: str) -> bytes:
    return read_body(io.BufferedReader(io.BytesIO(data)), headers(**values), limit)


def test_plain_and_chunked_bodies() -> None:
    assert read(b"abcdef", Content_Length="3") == b"abc"
    assert read(b"", Content_Length="0") == b""
    assert read(b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: 1\r\n\r\n", Transfer_Encoding="chunked") == b"abcde"


def test_a_broken_or_large_body_is_refused() -> None:
    for size in ("100001", "99999999999999999999", "-1", "x", "²"):
        with pytest.raises(Rejected):
            read(b"", Content_Length=size)
    for data in (b"zz\r\n", b"-5\r\n", b"fffffff\r\n"):
        with pytest.raises(Rejected):
            read(data, Transfer_Encoding="chunked")
    with pytest.raises(ConnectionError):
        read(b"ab", Content_Length="3")


@pytest.mark.parametrize("name", ["lz4", "zstd", "gzip", "deflate"])
def test_compression_goes_both_ways(name: str) -> None:
    raw = b"banner " * 5000
    packed, encoding = compress(raw, f"br, {name};q=1")
    assert (encoding, len(packed) < len(raw)) == (name, True)
    assert read(packed, Content_Length=str(len(packed)), Content_Encoding=name) == raw
    with pytest.raises(Rejected) as caught:
        read(packed, limit=len(raw) - 1, Content_Length=str(len(packed)), Content_Encoding=name)
    assert caught.value.status == 413
    for broken in (packed[:-3], b"nonsense"):
        with pytest.raises(Rejected):
            read(broken, Content_Length=str(len(broken)), Content_Encoding=name)


def test_frames_in_a_row_are_one_body() -> None:
    for pack, name in ((lz4.frame.compress, "lz4"), (zstd.compress, "zstd"), (lambda b: zlib.compress(b, wbits=31), "gzip")):
        data = pack(b"one ") + pack(b"two")
        assert read(data, Content_Length=str(len(data)), Content_Encoding=name) == b"one two"


def test_an_unknown_encoding_is_refused() -> None:
    assert compress(b"x", "br") == (b"x", "")
    with pytest.raises(Rejected):
        read(b"x", Content_Length="1", Content_Encoding="br")


def test_forms() -> None:
    parts = [("query", "SELECT {x:String}"), ("param_x", "größe")]
    body = "".join(f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in parts) + "--b--\r\n"
    assert read_form(body.encode(), "multipart/form-data; boundary=b") == dict(parts)
    with pytest.raises(Rejected):
        read_form(body.replace("param_x", "table").encode(), "multipart/form-data; boundary=b")


def test_a_slow_sender_meets_the_deadline() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        raw = DeadlineReader(ours)
        reader = io.BufferedReader(raw)
        raw.deadline = time.monotonic() + 0.2
        theirs.send(b"GET")
        with pytest.raises(TimeoutError):
            reader.readline()
