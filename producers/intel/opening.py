"""Feeds as they lie on a disk: plain, gzip, zip or a folder, opened within limits. What is packed is told by its first bytes.

A bomb is refused: what unpacks to more than `RATIO` times its size (beyond the first `FREE` bytes), or to more than the limit.
"""

from __future__ import annotations

import gzip
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from producers.intel.statements import FeedError

RATIO, FREE = 100, 16 << 20
"""JSON of CVE records packs to a sixth up to a twentieth."""
CHUNK = 1 << 20
MOST_FILES = 2_000_000
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""How members of a zip file may be packed. Of the others zipfile unpacks a megabyte at once, whatever comes of it."""


@dataclass(frozen=True, slots=True)
class Opened:
    """One text of a feed: what it is called, and its bytes in chunks that are none empty."""

    name: str
    chunks: Iterator[bytes]


def open_feed(path: Path, wanted: re.Pattern[str], most: int) -> Iterator[Opened]:
    """The texts of a feed: a file, or those files of a folder or zip that are named like `wanted`. `most`: bytes that all may unpack to.

    Raises FeedError for a bomb or what is damaged, OSError for what can't be read.
    """
    limit = _Limit(most)
    if path.is_dir():
        yield from _folder(path, wanted, limit)
        return
    with path.open("rb") as file:
        begin = file.read(4)
        file.seek(0)
        if begin == b"PK\x03\x04":
            yield from _zip(file, wanted, limit)
        else:
            yield Opened(path.name, _chunks(file, limit, begin[:2] == b"\x1f\x8b"))


def lines(chunks: Iterator[bytes], most: int = 4096) -> Iterator[bytes]:
    """The lines of a text, with their ends. Raises FeedError for one of more than `most` bytes."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line + b"\n"
        if len(rest) > most:
            raise FeedError(f"a line has more than {most} bytes")
    if rest:
        yield rest


class _Limit:
    """How much may still be unpacked."""

    def __init__(self, most: int) -> None:
        self._most, self._left = most, most

    def take(self, count: int, packed: int, unpacked: int) -> None:
        """So many bytes came: of this file `unpacked` of `packed`. Raises FeedError where that is too much."""
        self.check(count, packed, unpacked)
        self._left -= count

    def check(self, count: int, packed: int, unpacked: int) -> None:
        """Raises FeedError if so many bytes would be too much."""
        if count > self._left:
            raise FeedError(f"it unpacks to more than {self._most >> 20} MB")
        if unpacked > FREE and unpacked > RATIO * packed:
            raise FeedError(f"it unpacks to more than {RATIO} times its size: a bomb")


def _chunks(file: BinaryIO, limit: _Limit, packed: bool) -> Iterator[bytes]:
    source = gzip.GzipFile(fileobj=file) if packed else file
    total = 0
    try:
        while chunk := source.read(CHUNK):
            total += len(chunk)
            limit.take(len(chunk), file.tell(), total)
            yield chunk
    except EOFError:
        raise FeedError("the gzip file was cut") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise FeedError(f"the gzip file is damaged ({error})") from None


def _folder(path: Path, wanted: re.Pattern[str], limit: _Limit) -> Iterator[Opened]:
    found = 0
    for file in sorted(path.rglob("*")):
        if file.is_symlink() or not wanted.fullmatch(file.name):
            continue
        found += 1
        with file.open("rb") as opened:
            yield Opened(str(file.relative_to(path)), _chunks(opened, limit, False))
    if not found:
        raise FeedError(f"the folder holds no file named like {wanted.pattern}")


def _zip(file: BinaryIO, wanted: re.Pattern[str], limit: _Limit) -> Iterator[Opened]:
    with _sound():
        archive = zipfile.ZipFile(file)
    with archive:
        found = [one for one in archive.infolist() if wanted.fullmatch(one.filename.rpartition("/")[2])]
        if not found:
            raise FeedError(f"the zip file holds no file named like {wanted.pattern}")
        _check(found, limit)
        for one in found:
            yield Opened(one.filename, _member(archive, one, limit))


@contextmanager
def _sound() -> Iterator[None]:
    """Whatever zipfile raises for what is no sound zip file becomes a FeedError; a name may be no UTF-8, an offset before the begin."""
    try:
        yield
    except FeedError:
        raise
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error, ValueError, struct.error) as error:
        raise FeedError(f"the zip file is cut, damaged or locked ({error})") from None


def _check(found: list[zipfile.ZipInfo], limit: _Limit) -> None:
    """What the table of contents says must be within the limits before anything is unpacked."""
    if len(found) > MOST_FILES:
        raise FeedError(f"the zip file holds more than {MOST_FILES} records")
    if other := next((one for one in found if one.compress_type not in METHODS), None):
        raise FeedError(f"{other.filename} is not packed by deflate, but by method {other.compress_type}")
    unpacked = sum(one.file_size for one in found)
    limit.check(unpacked, sum(one.compress_size for one in found), unpacked)


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: _Limit) -> Iterator[bytes]:
    total = 0
    with _sound(), archive.open(info) as member:
        while chunk := member.read(CHUNK):
            total += len(chunk)
            limit.take(len(chunk), info.compress_size, total)
            yield chunk
