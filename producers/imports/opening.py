"""Opens a scanner's file: tells which form it has, and reads it in pieces."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from infra.core.errors import BadInput
from producers.imports.json_records import read_masscan, read_naabu
from producers.imports.nmap_xml import UnreadableScanError, read_xml
from producers.imports.scanfile import Finish, Item, ScanInfo

Scanner = Literal["nmap", "masscan", "naabu", "any"]
CHUNK = 1 << 16
MOST_BYTES = 4 << 30
BLANKS = b" \t\r\n\xef\xbb\xbf"


def items(path: Path, scanner: Scanner = "any", partial: bool = False) -> Iterator[Item]:
    """What a file says, in its order. `partial`: where the scan ended too early, take what came before.

    Raises BadInput, at the end for a scan that did not come to its own.
    """
    whole = partial
    try:
        with path.open("rb") as file:
            for item in _read(file, scanner, partial):
                whole = whole or (isinstance(item, Finish) and item.success)
                yield item
    except OSError as error:
        raise BadInput(f"{path} can't be read: {error.strerror}.", "Name a file that nmap, masscan or naabu wrote.") from None
    except UnreadableScanError as error:
        fix = "If the scan was interrupted, --partial takes what it wrote." if error.cut_off else "Nothing of it was taken."
        raise BadInput(f"{path} can't be read. {error}", fix) from None
    if not whole:
        raise BadInput(f"{path} is of a scan that did not come to its end.", "--partial takes what it wrote.")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, hex. Raises BadInput."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadInput(f"{path} can't be read: {error.strerror}.", "Name a file that nmap, masscan or naabu wrote.") from None


def _read(file: BinaryIO, scanner: Scanner, partial: bool) -> Iterator[Item]:
    chunks = _chunks(file)
    start = next(chunks, b"")
    first = start.lstrip(BLANKS)[:1]
    pieces = _again(start, chunks)
    if not first and scanner == "masscan":
        read: Iterable[Item] = [ScanInfo("masscan"), Finish(True)]  # it writes nothing where nothing answered
    elif not first:
        raise UnreadableScanError("It is empty.", cut_off=True)
    elif first == b"<" and scanner != "naabu":
        read = read_xml(pieces)
    elif first in b"[{" and scanner in ("masscan", "naabu"):
        read = read_naabu(pieces) if scanner == "naabu" else read_masscan(pieces)
    elif first in b"[{" and scanner == "any":
        read = read_masscan(pieces) if _is_masscan(start) else read_naabu(pieces)
    else:
        raise UnreadableScanError(f"It does not begin as {'a scanner' if scanner == 'any' else scanner} writes it.")
    try:
        for item in read:
            if isinstance(item, ScanInfo) and scanner not in ("any", item.scanner):
                raise UnreadableScanError(f"{item.scanner} wrote it, not {scanner}.")
            yield item
    except UnreadableScanError as error:
        if not (partial and error.cut_off):
            raise


def _is_masscan(start: bytes) -> bool:
    """masscan's records have `ports`, or a `rec_type`; naabu's have one `port` and no `rec_type`."""
    return b'"ports"' in start or b'"rec_type"' in start


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    total = 0
    while chunk := file.read(CHUNK):
        total += len(chunk)
        if total > MOST_BYTES:
            raise UnreadableScanError(f"It is larger than {MOST_BYTES >> 30} GB; split it.")
        yield chunk


def _again(start: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    if start:
        yield start
    yield from chunks
