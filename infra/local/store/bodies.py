"""Bodies of requests and answers: read within limits and a deadline, decompressed, compressed. RFC 9112 (chunks), RFC 7578 (forms)."""

from __future__ import annotations

import io
import socket
import time
import zlib
from collections.abc import Callable, Mapping
from email.message import Message
from email.parser import BytesParser
from typing import Any

import lz4.frame  # type: ignore[import-untyped]
from backports import zstd

from infra.local.store.dialect import NOT_IMPLEMENTED, Rejected

TOO_LARGE = 307

_DECOMPRESSORS: Mapping[str, Callable[[], Any]] = {
    "lz4": lz4.frame.LZ4FrameDecompressor,
    "zstd": zstd.ZstdDecompressor,
    "gzip": lambda: zlib.decompressobj(wbits=31),
    "deflate": lambda: zlib.decompressobj(wbits=15),
}
_COMPRESSORS: Mapping[str, Callable[[bytes], bytes]] = {
    "lz4": lz4.frame.compress,
    "zstd": lambda body: zstd.compress(body, level=1),
    "gzip": lambda body: zlib.compress(body, level=1, wbits=31),
    "deflate": lambda body: zlib.compress(body, level=1, wbits=15),
}


class DeadlineReader(io.RawIOBase):
    """Reads a socket until `deadline` (monotonic seconds), however slowly the bytes drip. Raises TimeoutError after it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.deadline = time.monotonic()

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Take what is there, waiting no longer than the deadline."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request took too long to arrive")
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


def read_body(stream: io.BufferedIOBase, headers: Message, limit: int) -> bytes:
    """One request's body, decompressed, of at most `limit` bytes before and after. Raises Rejected (413) and ConnectionError."""
    if "chunked" in (headers.get("Transfer-Encoding") or "").lower():
        raw = _read_chunks(stream, limit)
    else:
        length = headers.get("Content-Length") or "0"
        if not length.isascii() or not length.isdigit():
            raise Rejected(NOT_IMPLEMENTED, "Content-Length is no number.", 400)
        if int(length) > limit:
            raise _too_large(limit)
        raw = _exactly(stream, int(length))
    encoding = (headers.get("Content-Encoding") or "identity").lower()
    return raw if encoding == "identity" else _decompress(raw, encoding, limit)


def _read_chunks(stream: io.BufferedIOBase, limit: int) -> bytes:
    body = bytearray()
    while True:
        try:
            size = int(stream.readline(1024).split(b";")[0], 16)
        except ValueError:
            raise Rejected(NOT_IMPLEMENTED, "The body's chunks are broken.", 400) from None
        if size < 0 or len(body) + size > limit:
            raise _too_large(limit)
        if size == 0:
            while stream.readline(8192).strip():
                pass
            return bytes(body)
        body += _exactly(stream, size)
        stream.readline(8)


def _exactly(stream: io.BufferedIOBase, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise ConnectionError("the client closed the connection inside its request")
    return data


def _too_large(limit: int) -> Rejected:
    return Rejected(TOO_LARGE, f"The body is larger than {limit} bytes: send it in parts.", 413)


def _decompress(raw: bytes, encoding: str, limit: int) -> bytes:
    """Undo a Content-Encoding, frame after frame (clickhouse-connect sends a frame per block), never past the limit."""
    if encoding not in _DECOMPRESSORS:
        raise Rejected(NOT_IMPLEMENTED, f"Content-Encoding {encoding} is not supported: use {', '.join(_DECOMPRESSORS)}.", 415)
    body = bytearray()
    while raw:
        frame = _DECOMPRESSORS[encoding]()
        try:
            body += frame.decompress(raw, limit + 1 - len(body))
        except (RuntimeError, zlib.error, zstd.ZstdError) as error:
            raise Rejected(432, f"The body is no {encoding}: {error}.", 400) from None
        if len(body) > limit:
            raise _too_large(limit)
        if not frame.eof:
            raise Rejected(432, f"The body's {encoding} ends too early.", 400)
        raw = frame.unused_data or b""
    return bytes(body)


def compress(body: bytes, accepted: str) -> tuple[bytes, str]:
    """The body in the first encoding of ours that the client accepts, and that encoding's name ('' for none)."""
    names = {part.split(";")[0].strip().lower() for part in accepted.split(",")}
    name = next((one for one in _COMPRESSORS if one in names), "")
    return (_COMPRESSORS[name](body), name) if name else (body, "")


def read_form(body: bytes, content_type: str) -> dict[str, str]:
    """The fields of a multipart form: `query` and `param_…`. Raises Rejected for anything else (external tables)."""
    message = BytesParser().parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    fields: dict[str, str] = {}
    for part in message.get_payload() if message.is_multipart() else []:
        name = str(part.get_param("name", "", header="content-disposition"))  # type: ignore[union-attr]
        payload = part.get_payload(decode=True)  # type: ignore[union-attr]
        if (name != "query" and not name.startswith("param_")) or not isinstance(payload, bytes):
            raise Rejected(NOT_IMPLEMENTED, f"The form field {name!r} is not supported: only `query` and `param_…` are.")
        fields[name] = payload.decode()
    return fields
