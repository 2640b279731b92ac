"""How long the differ's hourly look at every asset takes: a minute's share of a partition is one record's work, in one transaction."""

from __future__ import annotations

import time
from datetime import timedelta

from rich.console import Console

from bench.report import Part
from bench.stream_sightings import START, Network, subnets
from infra.core.ports import Context, FixedTables, MemoryState, Record
from infra.core.settings import Settings
from processors.diff.differ import TURNS, Differ
from schemas.codec import Codec
from schemas.events.operations import Tick

ASSETS = 20_000
TRANSACTION_SECONDS = 10.0


def scan() -> Part:
    """Time the ticks of an hour; nothing is due, as in most."""
    codec, network = Codec(), Network(subnets(ASSETS), 1)
    for _ in network.make():
        pass
    state = MemoryState(dict(network.state))
    step = Differ(Settings().differ, codec)
    context = Context(0, 1, state, FixedTables())
    first = START.replace(minute=0, second=0, microsecond=0) + timedelta(hours=2)
    ticks = [codec.encode("ticks", Tick(partition=0, minute=first + timedelta(minutes=minute))) for minute in range(TURNS)]
    begun = time.process_time()
    emitted = [one for raw in ticks for one in step.handle(Record("ticks", 0, 0, START, "0", None, raw, codec.read("ticks", raw)), context)]
    took = time.process_time() - begun
    assert not emitted
    rate = len(state.values) / took
    most = int(rate * TRANSACTION_SECONDS * TURNS)
    Console(width=140).print(
        f"the hourly look at a partition's assets: {rate:,.0f} assets a CPU second; "
        f"a minute's share of {most:,} takes {TRANSACTION_SECONDS:g} s, which is how long a transaction may last"
    )
    return Part({"scan_assets_per_cpu_s": round(rate), "most_assets_a_partition": most})
