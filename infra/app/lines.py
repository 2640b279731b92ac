"""Reads what a program writes a line at a time, from a file or standard input, however long or broken a line is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TypeVar

from pydantic import ValidationError

from infra.app.output import progress, tell
from infra.core.errors import BadInput

T = TypeVar("T")
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


def each(lines: IO[bytes], doing: str, read: Callable[[int, bytes], T], wrong: list[int]) -> Iterator[tuple[int, T]]:
    """What `read` makes of each line that is not empty, with its number from 1, and a progress bar.

    Of a line that `read` refuses (ValueError) the number goes to `wrong`, and the reason to standard error.
    """
    with progress() as display:
        task = display.add_task(doing, total=None)
        for number, line in enumerate(bounded(lines), 1):
            if number % 500 == 0:
                display.update(task, completed=number)
            if not line.strip():
                continue
            try:
                if len(line) > MOST_LINE:
                    raise ValueError(f"it is longer than {MOST_LINE} bytes")
                found = read(number, line)
            except ValueError as error:
                wrong.append(number)
                tell(f"line {number}: {reason(error)}", style="red")
                continue
            yield number, found


def reason(error: ValueError) -> str:
    """What is wrong with a line, in a few words."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'the line'}: {first['msg']}"
    return str(error)
