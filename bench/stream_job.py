"""The job that `make bench-stream` gives to every engine: decode a sighting, compare its ports with the state, write them, emit a change.

Nothing is imported from Driftline here: quix-streams runs this file in an environment of its own. Values are Avro in the Confluent
framing; a state is the ports as 16-bit numbers, big-endian. Whoever does the whole job writes the very same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import fastavro

PORTS = {"type": "array", "items": "int"}
SIGHTING = {
    "type": "record",
    "name": "Sighting",
    "fields": [{"name": "asset", "type": "string"}, {"name": "ports", "type": PORTS}, {"name": "at", "type": "long"}],
}
CHANGE = {
    "type": "record",
    "name": "Change",
    "fields": [
        {"name": "asset", "type": "string"},
        {"name": "before", "type": PORTS},
        {"name": "after", "type": PORTS},
        {"name": "at", "type": "long"},
    ],
}
SIGHTING_HEADER, CHANGE_HEADER = b"\0\0\0\0\1", b"\0\0\0\0\2"
START_MS = 1_795_219_200_000
DIFFERS = 0.2
_SIGHTING, _CHANGE = fastavro.parse_schema(SIGHTING), fastavro.parse_schema(CHANGE)


def schemas() -> tuple[str, str]:
    """Both schemas as JSON, for Java."""
    return json.dumps(SIGHTING), json.dumps(CHANGE)


def decode(value: bytes) -> dict[str, Any]:
    """A sighting."""
    stream = io.BytesIO(value)
    stream.seek(len(SIGHTING_HEADER))
    found: dict[str, Any] = fastavro.schemaless_reader(stream, _SIGHTING, None)  # type: ignore[assignment]
    return found


def _encode(header: bytes, schema: Any, record: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    out.write(header)
    fastavro.schemaless_writer(out, schema, record)
    return out.getvalue()


def compare(sighting: dict[str, Any], before: bytes | None) -> tuple[bytes, bytes] | None:
    """The new state and the change that tells it; None if nothing differs."""
    ports = array("H", sighting["ports"])
    ports.byteswap()
    after = ports.tobytes()
    if after == before:
        return None
    known = array("H", before or b"")
    known.byteswap()
    change = {"asset": sighting["asset"], "before": known.tolist(), "after": sighting["ports"], "at": sighting["at"]}
    return after, _encode(CHANGE_HEADER, _CHANGE, change)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run left behind. The hashes do not depend on the order between assets."""

    changes: int
    changes_hash: str
    assets: int
    state_hash: str


def outcome(changes: Iterable[bytes], state: dict[str, bytes]) -> Outcome:
    """Count and hash what was told and what is known at the end."""
    told = list(changes)
    return Outcome(len(told), _hash(told), len(state), _hash(key.encode() + b"=" + value for key, value in state.items()))


def _hash(parts: Iterable[bytes]) -> str:
    total = sum(int.from_bytes(hashlib.blake2b(one, digest_size=8).digest(), "big") for one in parts)
    return f"{total & (1 << 64) - 1:016x}"


class Sightings:
    """All assets once, then repeat sightings at random, a fifth of which differ by one port. Keeps what must come of them."""

    def __init__(self, records: int, assets: int, seed: int = 5) -> None:
        self._records, self._dice = records, random.Random(seed)  # noqa: S311  repeatable, not secret
        self._ports = {f"default|10.{n >> 16}.{n >> 8 & 255}.{n & 255}": self._draw() for n in range(assets)}
        self._changes: list[bytes] = []
        self._state: dict[str, bytes] = {}

    def _draw(self) -> list[int]:
        return sorted(self._dice.sample(range(1, 1025), self._dice.randint(1, 8)))

    def make(self) -> Iterator[tuple[str, bytes]]:
        """Key and value of each record, in order."""
        names = list(self._ports)
        for number in range(self._records):
            first = number < len(names)
            name = names[number] if first else self._dice.choice(names)
            ports = self._ports[name]
            if not first and self._dice.random() < DIFFERS:
                spare = self._dice.randint(1, 1024)
                ports = sorted({*ports} ^ {spare}) or [spare]
                self._ports[name] = ports
            sighting = {"asset": name, "ports": ports, "at": START_MS + number}
            found = compare(sighting, self._state.get(name))
            if found:
                self._state[name] = found[0]
                self._changes.append(found[1])
            yield name, _encode(SIGHTING_HEADER, _SIGHTING, sighting)

    def outcome(self) -> Outcome:
        """What a run over all of them must leave behind."""
        return outcome(self._changes, self._state)
