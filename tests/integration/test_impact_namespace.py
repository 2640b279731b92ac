"""A host that stops answering while it is probed halts its subnet, by capture; silent ports, loss and a short outage do not."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from schemas.events.base import PortRange
from schemas.events.grants import Intensity
from schemas.events.targets import WorkUnit
from tests.scan_bench import Bench, wait_for
from tests.scan_samples import make_grant, make_unit
from tests.scanning import wait_until
from tests.targetspace import HOSTS, MANY, TargetSpace, scanner, target_space

pytestmark = [pytest.mark.kafka, pytest.mark.namespace, pytest.mark.slow, pytest.mark.timeout(400)]
RATE = 200
SILENT = HOSTS[5]


@pytest.fixture
def target(tmp_path: Path) -> Iterator[TargetSpace]:
    """One host drops what comes to its ports above 100, from the start."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for the namespace")
    with target_space(tmp_path) as space:
        space.run("nft", "add table inet t; add chain inet t i { type filter hook input priority 0; }")
        space.run("nft", f"add rule inet t i ip daddr {SILENT} tcp dport 101-65535 drop")
        yield space


@pytest.fixture
def bench(kafka: str, tmp_path: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        made = Bench(kafka, tmp_path, stack)
        made.say("grants", "lab", make_grant(intensity=Intensity(packets_per_second=1000, per_host_per_second=1000)))
        yield made


def work(number: int) -> WorkUnit:
    """A unit of half a minute."""
    ports = (PortRange(first=1, last=700),)
    return make_unit(number, address=HOSTS[0], rate=RATE, addresses=HOSTS, tcp_ports=ports, probes=("http",))


@pytest.mark.parametrize("engine", ["syn", pytest.param("connect", marks=pytest.mark.long)])
def test_a_host_that_falls_silent_halts_its_subnet(bench: Bench, target: TargetSpace, engine: str) -> None:
    host = MANY[0]
    target.run("nft", f"add rule inet t i ip daddr {host} quota over 8000 bytes drop")
    with scanner(bench, 0, engine):
        bench.push(work(1))
        wait_for(bench.sweeps, 60)
        packets = target.seen()
        fell_silent = max(one.at for one in packets if one.source == host)
        last = max(one.at for one in packets if one.source != host)
        (sweep,) = bench.sweeps()
        bench.push(work(2))
        wait_for(lambda: len(bench.sweeps()) == 2)
    assert not sweep.complete
    assert sweep.stopped_reason.startswith(f"suspected_impact: {host} stopped answering on tcp/")
    assert [one.address for one in sweep.impact] == [host]
    assert sweep.impact[0].port in MANY[1]
    assert last - fell_silent < 25.0  # 5 to the next ask, and four asks that wait for their turn in the budget
    second = next(one for one in bench.sweeps() if one.unit_id == work(2).unit_id)
    assert (second.stopped_reason, second.probed, second.impact) == (sweep.stopped_reason, (), ())
    after = [one for one in target.came() if one.at > last]
    assert after == []
    print(f"{engine}: the last packet left {last - fell_silent:.1f} s after the host's last word")


@pytest.mark.long
def test_silent_ports_a_short_outage_and_loss_are_no_impact(bench: Bench, target: TargetSpace) -> None:
    with scanner(bench, 0, "syn"):
        bench.push(work(1))
        wait_until(lambda: len(target.came()) > 1000, 60)
        target.run("nft", "add chain inet t outage { type filter hook input priority -5; policy drop; }")
        time.sleep(2.0)  # the outage itself is under test
        target.run("nft", "delete chain inet t outage")
        target.run("nft", "insert rule inet t i numgen random mod 100 < 20 drop")
        wait_for(bench.sweeps, 90)
    (sweep,) = bench.sweeps()
    assert (sweep.complete, sweep.stopped_reason, sweep.impact) == (True, "", ())
    assert any(one.address == MANY[0] and len(one.answered) > 20 for one in sweep.hosts)
