"""The part `state` of `make bench-stream`: a million assets in the differ's changelog, its start with an empty disk and with its own store.

Assets are as the differ writes them, some 800 bytes each with three services. The worker's memory is the largest resident set that the
kernel saw of it (proc(5), VmHWM), through both starts and looks at 5,000 assets here and there.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

from confluent_kafka import Producer
from rich.console import Console
from rich.table import Table

from bench.report import Bar, Part
from bench.stream_rig import ROOT, Rig
from bench.stream_sightings import HOSTS, START, Network, subnets
from infra.core.errors import DriftlineError
from schemas.codec import Codec
from schemas.events.assets import AssetState
from schemas.ids import partition_of, subnet_key
from tests.processes import end

PREFIX = "state."
LOOKED_AT = 5_000


def state(rig: Rig, chosen: argparse.Namespace, console: Console) -> Part:
    """Fill the changelog, start twice, look here and there."""
    for name in ("ticks", "targets", "changes", "probes", "dlq.probes", "dlq.ticks"):
        rig.make_topic(f"{PREFIX}{name}")
    rig.make_topic(f"{PREFIX}assets", compact=True)
    size = _fill(rig, chosen.assets)
    console.print(f"[dim]{chosen.assets:,} assets of {size} bytes are in the changelog[/]")
    empty = _start(rig, "with an empty disk", chosen.assets, LOOKED_AT)
    kept = _start(rig, "with its store", chosen.assets, 0)
    table = Table(title=f"state of {chosen.assets:,} assets, {size} bytes each", title_justify="left")
    for head in ("start", "ready after, s", "largest resident set, MB"):
        table.add_column(head, justify="right" if "," in head else "left")
    for words, (seconds, memory) in (("from the changelog", empty), ("from the local store", kept)):
        table.add_row(words, f"{seconds:.1f}", f"{memory:.0f}")
    Console(width=140).print(table)
    memory = round(max(empty[1], kept[1]))
    figures = {"assets": chosen.assets, "value_bytes": size, "changelog_s": round(empty[0], 2), "store_s": round(kept[0], 2), "mb": memory}
    return Part(
        figures,
        [
            Bar("state: MB of the worker", memory, "at_most", 500),
            Bar("state: seconds to restore from the changelog", round(empty[0], 2), "at_most", 30),
            Bar("state: seconds to start with the local store", round(kept[0], 2), "at_most", 3),
        ],
    )


def _fill(rig: Rig, assets: int) -> int:
    """Write the assets as the differ would; gives the bytes of one value."""
    codec, network = Codec(), Network(subnets(HOSTS), 1)
    for _ in network.make():
        pass
    key, sample = next(iter(network.state.items()))
    address = key.partition("|")[2]
    middle = _text(address) + _text(f"{address.rpartition('.')[0]}.0/24")
    before, after = sample.split(middle, 1)  # zone, address, subnet, the rest: Avro's fields stand in their order
    producer = Producer({"bootstrap.servers": rig.bootstrap, "linger.ms": 50, "compression.type": "lz4"})
    for net in subnets(assets):
        partition, subnet = partition_of(subnet_key("default", f"{net}.0/24"), rig.partitions), _text(f"{net}.0/24")
        for host in range(1, HOSTS + 1):
            value = before + _text(f"{net}.{host}") + subnet + after
            while True:
                try:
                    producer.produce(f"{PREFIX}assets", value, f"default|{net}.{host}".encode(), partition)
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.poll(0)
    assert isinstance(codec.decode("assets", value), AssetState)
    if producer.flush(120):
        raise DriftlineError("The broker did not take the assets.", "Look at its log.")
    return len(value)


def _text(text: str) -> bytes:
    """A short string as Avro writes it."""
    return bytes([2 * len(text)]) + text.encode()


def _start(rig: Rig, words: str, assets: int, looks: int) -> tuple[float, float]:
    """Seconds until a worker is ready, and its largest resident set in MB when it has handled so many looks."""
    env = {
        "DRIFTLINE_DATA_DIR": str(rig.folder / "state"),
        "DRIFTLINE_KAFKA__BOOTSTRAP": rig.bootstrap,
        "DRIFTLINE_KAFKA__PREFIX": PREFIX,
        "DRIFTLINE_KAFKA__PARTITIONS": str(rig.partitions),
        "PYTHONPATH": str(ROOT),
    }
    said = rig.folder / "state.log"
    with said.open("ab") as log:
        begun = time.monotonic()
        argv = [sys.executable, "-m", "bench.stream_differ", "loop"]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=log, cwd=ROOT, env={**os.environ, **env})
    assert process.stdout is not None
    try:
        if process.stdout.readline() != b"ready\n":
            raise DriftlineError(f"The differ did not start {words}: {said.read_text()[-2000:]}", "The measurement failed.")
        took = time.monotonic() - begun
        if looks:
            _look(rig, assets, looks)
        return took, _peak(process.pid)
    finally:
        end(process)


def _look(rig: Rig, assets: int, looks: int) -> None:
    """Looks at assets here and there; waits until they are handled."""
    dice, codec, seen = random.Random(5), Codec(), 0  # noqa: S311  repeatable, not secret
    producer = Producer({"bootstrap.servers": rig.bootstrap, "linger.ms": 50})
    nets = dice.sample(subnets(assets), looks // HOSTS)
    network = Network(nets, 2)
    for net in nets:
        partition = partition_of(subnet_key("default", f"{net}.0/24"), rig.partitions)
        for event in network.unit(1, net, START + timedelta(hours=5)):
            producer.produce(f"{PREFIX}probes", codec.encode("probes", event), net.encode(), partition)
            seen += 1
    producer.flush(60)
    rig.wait_committed(f"{PREFIX}differ", {f"{PREFIX}probes": seen}, 300)


def _peak(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) / 1024
