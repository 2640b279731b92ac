"""What a UDP sweep asks of which port, and what an answer says: the table `payloads.toml`, read once. Pure but for that."""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from processors.scan.probing.evidence import Evidence, clean

TABLE = Path(__file__).with_name("payloads.toml")
PIECE = re.compile(r"'(?P<text>[^']*)'|<(?P<form>x?)(?P<size>[1-8])>|(?P<bytes>(?:[0-9a-f]{2})+)|(?P<blank> +)")


@dataclass(frozen=True, slots=True)
class Payload:
    """One question. `pieces` are bytes, or the length of an identifier and whether it is written as text."""

    name: str
    source: str
    pieces: tuple[bytes | tuple[int, bool], ...]
    answer: re.Pattern[bytes]
    says: re.Pattern[bytes] | None = None
    at: int | None = None
    pad: int = 0
    elsewhere: bool = False

    def written(self, cookie: bytes) -> bytes:
        """The datagram, with a cookie of 8 bytes in it where the protocol carries an identifier."""
        parts = (one if isinstance(one, bytes) else _identifier(cookie, *one) for one in self.pieces)
        return b"".join(parts).ljust(self.pad, b"\0")

    def reads(self, data: bytes, cookie: bytes) -> bool:
        """Whether this answers the question with this cookie."""
        shape = next((one for one in self.pieces if not isinstance(one, bytes)), None)
        if shape is not None:
            wanted = _identifier(cookie, *shape)
            if wanted not in data if self.at is None else data[self.at : self.at + len(wanted)] != wanted:
                return False
        return self.answer.match(data) is not None

    def evidence(self, data: bytes) -> Evidence:
        """What an answer says of the service."""
        found = self.says.search(data) if self.says else None
        return Evidence(service=self.name, banner=clean(found[1]) if found else "", sources=("udp",))


EMPTY = Payload("", "", (), re.compile(b"", re.DOTALL))
"""What a port gets of which nothing is known: any answer is one, and says nothing of the service."""


@cache
def load_payloads() -> Mapping[int, tuple[Payload, ...]]:
    """The questions by port, in the order in which they are asked. Raises ValueError for a table that is wrong."""
    found: dict[int, list[Payload]] = defaultdict(list)
    for row in tomllib.loads(TABLE.read_text())["payload"]:
        made = _payload(row)
        for port in row["ports"]:
            found[port].append(made)
    return {port: tuple(some) for port, some in found.items()}


def payloads_of(port: int) -> tuple[Payload, ...]:
    """What is asked of a port: at least an empty datagram."""
    return load_payloads().get(port, (EMPTY,))


def _payload(row: Mapping[str, Any]) -> Payload:
    answer = re.compile(row["answer"].encode("latin-1"), re.DOTALL)
    says = re.compile(row["says"].encode("latin-1"), re.DOTALL) if "says" in row else None
    more = {name: row[name] for name in ("at", "pad", "elsewhere") if name in row}
    return Payload(row["name"], row["source"], _pieces(row["send"]), answer, says, **more)


def _pieces(text: str) -> tuple[bytes | tuple[int, bool], ...]:
    pieces: list[bytes | tuple[int, bool]] = []
    at = 0
    while at < len(text):
        found = PIECE.match(text, at)
        if found is None:
            raise ValueError(f"'{text[at : at + 20]}' is no part of a payload")
        at = found.end()
        if found["size"]:
            pieces.append((int(found["size"]), bool(found["form"])))
        elif not found["blank"]:
            pieces.append(bytes.fromhex(found["bytes"]) if found["bytes"] else found["text"].encode("latin-1"))
    return tuple(pieces)


def _identifier(cookie: bytes, size: int, as_text: bool) -> bytes:
    number = bytes([cookie[0] & 0x3F | 0x40]) + cookie[1:size]
    return number.hex()[:size].encode() if as_text else number
