"""The addresses of a sweep: a column of numbers for the batch, and text for people, made only of those that are asked for.

To write out 65,536 addresses and to look each up by its text takes longer than to probe them.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from processors.scan.scope.mask import Addresses, column_of, column_of_texts
from processors.scan.sweep.order import Indices
from schemas.targeting import Span

LAST_OCTETS = [str(number) for number in range(256)]


class HostList:
    """Addresses, each once, IPv4 before IPv6; where one stands is its row. Texts are in an address's canonical form."""

    def __init__(self, v4: Addresses, v6: Addresses) -> None:
        self._columns = {4: v4, 6: v6}

    @classmethod
    def of_texts(cls, texts: Iterable[str]) -> HostList:
        """These addresses in their order, a second naming left out. Raises OSError for what is no address."""
        names = dict.fromkeys(texts)
        return cls(*(column_of_texts([one for one in names if (":" in one) == (version == 6)], version) for version in (4, 6)))

    @classmethod
    def of_spans(cls, spans: Sequence[Span]) -> HostList:
        """All addresses of these spans, none of which overlaps another."""
        v4 = [np.arange(span.first, span.last + 1, dtype=np.uint32) for span in spans if span.version == 4]
        v6 = (number for span in spans if span.version == 6 for number in range(span.first, span.last + 1))
        return cls(np.concatenate(v4) if v4 else column_of((), 4), column_of(v6, 6))

    def column(self, version: int) -> tuple[Indices, Addresses]:
        """The rows and the addresses of one IP version."""
        before = len(self._columns[4]) if version == 6 else 0
        return np.arange(before, before + len(self._columns[version]), dtype=np.uint32), self._columns[version]

    def texts(self, rows: NDArray[np.integer]) -> list[str]:
        """The addresses at these rows, which are of one IP version. Of IPv4 each /24 is written once: that is the quickest."""
        v4, v6 = self._columns[4], self._columns[6]
        if len(rows) and rows[0] >= len(v4):
            return [socket.inet_ntop(socket.AF_INET6, one.ljust(16, b"\0")) for one in v6[rows - len(v4)].tolist()]
        high, low = (v4[rows] >> np.uint32(8)).tolist(), (v4[rows] & np.uint32(255)).tolist()
        prefixes = {one: socket.inet_ntoa((one << 8).to_bytes(4, "big"))[:-1] for one in set(high)}
        return [prefixes[one] + LAST_OCTETS[last] for one, last in zip(high, low, strict=True)]

    def row(self, address: str) -> int:
        """Where an address stands. Raises KeyError if it is none of these."""
        return self._rows[address]

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {address: row for row, address in enumerate(self)}

    def __getitem__(self, row: int) -> str:
        """The address at a row."""
        if row < len(self._columns[4]):
            return socket.inet_ntoa(int(self._columns[4][row]).to_bytes(4, "big"))
        return self.texts(np.array([row]))[0]

    def __iter__(self) -> Iterator[str]:
        """All addresses."""
        return chain.from_iterable(self.texts(self.column(version)[0]) for version in (4, 6))

    def __contains__(self, address: str) -> bool:
        return address in self._rows

    def __len__(self) -> int:
        return len(self._columns[4]) + len(self._columns[6])
