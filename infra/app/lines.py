"""Reads what a program writes a line at a time, from a file or standard input, however long or broken a line is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from infra.core.errors import BadInput

MOST_LINE = 1 << 20  # bytes


def opened(file: str) -> IO[bytes]:
    """A file to be read. Raises BadInput."""
    try:
        return Path(file).open("rb")
    except OSError as error:
        raise BadInput(f"{file} can't be read: {error.strerror}.", "Name a file with JSON lines, or - for standard input.") from None


def bounded(lines: IO[bytes]) -> Iterator[bytes]:
    """Lines; of one that is too long only the beginning, one byte more than allowed."""
    while line := lines.readline(MOST_LINE + 1):
        rest = line
        while rest and not rest.endswith(b"\n") and len(rest) > MOST_LINE:
            rest = lines.readline(MOST_LINE + 1)
        yield line


def reason(error: ValueError) -> str:
    """What is wrong with a line, in a few words."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'the line'}: {first['msg']}"
    return str(error)
