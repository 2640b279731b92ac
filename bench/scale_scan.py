"""How long the differ's hourly look at every asset of a partition takes: it is one record's work, so one transaction must hold it."""

from __future__ import annotations

import time
from datetime import timedelta

from rich.console import Console

from bench.report import Part
from bench.stream_sightings import START, Network, subnets
from infra.core.ports import Context, FixedTables, MemoryState, Record
from infra.core.settings import Settings
from processors.diff.differ import Differ, scan_due
from schemas.codec import Codec
from schemas.events.operations import Tick
from schemas.plain import milliseconds

ASSETS = 20_000
TRANSACTION_SECONDS = 10.0


def scan() -> Part:
    """Time one tick that scans; nothing is due, as on most hours."""
    codec, network = Codec(), Network(subnets(ASSETS), 1)
    for _ in network.make():
        pass
    state = MemoryState(dict(network.state))
    step = Differ(Settings().differ, codec)
    minute = START + timedelta(hours=2)
    while not scan_due(milliseconds(minute), 0):
        minute += timedelta(minutes=1)
    context = Context(0, 1, state, FixedTables())
    raw = codec.encode("ticks", Tick(partition=0, minute=minute))
    begun = time.process_time()
    emitted = list(step.handle(Record("ticks", 0, 0, START, "0", None, raw, codec.read("ticks", raw)), context))
    took = time.process_time() - begun
    assert not emitted
    rate = len(state.values) / took
    most = int(rate * TRANSACTION_SECONDS)
    Console(width=140).print(
        f"the hourly look at a partition's assets: {rate:,.0f} assets a CPU second; {most:,} assets take {TRANSACTION_SECONDS:g} s, "
        "which is how long a transaction may last"
    )
    return Part({"scan_assets_per_cpu_s": round(rate), "most_assets_a_partition": most})
