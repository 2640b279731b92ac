"""A step whose results betray every record that was lost, doubled or swapped, and the same by a plain fold of its inputs."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from infra.core.errors import Poison
from infra.core.ports import Context, Emit, Record, StepPlan
from schemas.codec import Codec
from schemas.events.intel import IntelRecord
from schemas.events.operations import Rollup, Tick

PLAN = StepPlan("correlator", ("ticks",), "state.correlator", global_tables=("intel",), global_inputs=("intel",))
START = datetime(2026, 1, 1, tzinfo=UTC)
BAD_SECOND = 59


class Tally:
    """For each key a chain of hashes over its records, in their order; for each record of `intel`, one word in every partition."""

    def handle(self, record: Record, context: Context) -> Iterable[Emit]:
        """The count and the chain so far. Raises Poison for a record of the last second of a minute."""
        if isinstance(record.event, IntelRecord):
            text = f"judged|{record.key}|{record.offset}"
            times = int(context.state.get(text) or b"0") + 1
            context.state.put(text, b"%d" % times)
            yield rolled(text, "judged", record.offset, times, context.partition)
        if isinstance(record.event, Tick):
            context.state.put("last", record.key.encode())
            if record.event.minute.second == BAD_SECOND:
                raise Poison("a bad one")
            known = context.state.get(record.key) or b"0|"
            count, _, chain = known.partition(b"|")
            link = hashlib.sha1(chain + record.event.minute.isoformat().encode(), usedforsecurity=False).hexdigest()
            context.state.put(record.key, f"{int(count) + 1}|{link}".encode())
            yield rolled(record.key, link, int(count) + 1, 1, context.partition)


def rolled(name: str, kind: str, count: int, times: int, partition: int) -> Emit:
    """An output of the step."""
    event = Rollup(name=name, zone="simulated", kind=kind, window_start=START, window_seconds=1, count=count, value=float(times))
    return Emit("rollups", name, event, partition=partition)


class Folded(NamedTuple):
    """What a partition's records come to: its state, its outputs in order (key, chain, count), and the values that are set aside."""

    state: dict[str, bytes]
    outputs: list[tuple[str, str, int]]
    dead: list[bytes | None]


def folded(records: Iterable[tuple[bytes | None, bytes | None]], codec: Codec) -> Folded:
    """Fold keys and values of a partition of `ticks`, in their order."""
    chains: dict[str, tuple[int, str]] = defaultdict(lambda: (0, ""))
    found = Folded({}, [], [])
    for raw, value in records:
        key = (raw or b"").decode("utf-8", "replace")
        try:
            event = codec.decode("ticks", value or b"")
        except ValueError:
            event = None
        if not isinstance(event, Tick) or event.minute.second == BAD_SECOND:
            found.dead.append(value)
            continue
        count, chain = chains[key]
        link = hashlib.sha1((chain + event.minute.isoformat()).encode(), usedforsecurity=False).hexdigest()
        chains[key] = count + 1, link
        found.state.update({"last": key.encode(), key: f"{count + 1}|{link}".encode()})
        found.outputs.append((key, link, count + 1))
    return found


def told(event: object) -> tuple[str, str, int] | None:
    """An output of the step as `folded` tells it; None for a word on `intel`."""
    assert isinstance(event, Rollup)
    return None if event.kind == "judged" else (event.name, event.kind, event.count)


def kept(state: dict[str, bytes]) -> dict[str, bytes]:
    """A changelog's state without what the engine keeps there, and without words on `intel`."""
    return {key: value for key, value in state.items() if key[:1] != "\0" and not key.startswith("judged|")}
