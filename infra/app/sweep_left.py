"""What a sweep did not get to, written as targets: a sweep that was stopped goes on with them."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from infra.core.errors import BadInput
from processors.scan.local_sweep import Part, joined
from processors.scan.sweep.ledger import Ledger, PortState
from schemas.targeting import LIMIT_V6, Span

MOST_V4 = 1 << 24  # addresses of one target, as the command takes it


class Rest:
    """The addresses of which some port was not probed to the end. Those that no grant covers, or that are not believed, are none."""

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self._spans = [*spans]

    def add(self, ledger: Ledger) -> None:
        """A part that was begun."""
        open_rows = (ledger.states == PortState.OPEN).any(axis=1)
        if not open_rows.any():
            return
        rows, column = ledger.addresses.column(4)
        numbers = np.sort(column[open_rows[rows]]).astype(np.int64)
        runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1) if len(numbers) else []
        self._spans += [Span(4, int(run[0]), int(run[-1])) for run in runs]
        rows, column = ledger.addresses.column(6)
        texts = (bytes(one).ljust(16, b"\0") for one in column[open_rows[rows]])
        self._spans += [Span(6, number, number) for number in (int.from_bytes(one, "big") for one in texts)]

    def never_begun(self, parts: Iterable[Part]) -> None:
        """The parts that were not reached."""
        self._spans += [span for part in parts for span in part.spans]

    def write(self, file: Path) -> None:
        """Write them, a target a line; an empty file if nothing is left. Raises BadInput if it can't be written."""
        try:
            file.write_text("".join(f"{line}\n" for line in lines(self._spans)))
        except OSError as error:
            raise BadInput(f"What is left can't be written to {file}: {error.strerror}.") from None


def lines(spans: Iterable[Span]) -> Iterator[str]:
    """Spans as targets that `parse_target` reads: addresses, and ranges of at most as many as one target may name."""
    for span in joined(spans):
        most = MOST_V4 if span.version == 4 else LIMIT_V6
        for first in range(span.first, span.last + 1, most):
            last = min(span.last, first + most - 1)
            yield _text(span.version, first) if first == last else f"{_text(span.version, first)}-{_text(span.version, last)}"


def _text(version: int, number: int) -> str:
    return socket.inet_ntop(socket.AF_INET if version == 4 else socket.AF_INET6, number.to_bytes(4 if version == 4 else 16, "big"))
