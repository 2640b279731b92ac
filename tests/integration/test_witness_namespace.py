"""What a scanner tells of its packets, against a capture on the target's side: to the packet, and after kill -9 to the last two seconds."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from schemas.events.base import PortRange
from schemas.events.grants import Intensity
from schemas.events.targets import WorkUnit
from schemas.events.touches import Touches
from tests.scan_bench import Bench, wait_for
from tests.scan_samples import make_grant, make_unit
from tests.scanning import wait_until
from tests.targetspace import HOSTS, MUTE, TLS, WEB, Seen, TargetSpace, scanner, target_space, told

pytestmark = [pytest.mark.kafka, pytest.mark.namespace, pytest.mark.slow, pytest.mark.timeout(400)]
ABSENT = ("198.18.241.200",)  # does not even answer ARP, so that what is sent there never leaves
ALL = ("banner", "tls", "http", "nmap", "traceroute", "tcptraceroute")


@pytest.fixture
def target(tmp_path: Path) -> Iterator[TargetSpace]:
    if os.geteuid() != 0:
        pytest.skip("needs root, for the namespace")
    with target_space(tmp_path) as space:
        yield space


@pytest.fixture
def bench(kafka: str, tmp_path: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(kafka, tmp_path, stack)


def unit(bench: Bench, probes: tuple[str, ...], ports: int, rate: int = 1000) -> WorkUnit:
    """A grant, and a unit of all hosts."""
    bench.say("grants", "lab", make_grant(icmp=True, path=True, intensity=Intensity(packets_per_second=1000, per_host_per_second=1000)))
    hosts = tuple(one for one in HOSTS if one != HOSTS[3])  # that one has many open ports: elsewhere
    ranges = (PortRange(first=1, last=ports),)
    return make_unit(1, address=HOSTS[0], rate=rate, addresses=hosts + ABSENT, tcp_ports=ranges, probes=probes)


def by_place(packets: list[Seen]) -> Counter[tuple[str, str, int]]:
    return Counter((one.to, one.kind, one.port) for one in packets)


QUICK = tuple(one for one in ALL if one != "nmap")


@pytest.mark.parametrize(("engine", "probes"), [("syn", QUICK), ("connect", QUICK), pytest.param("syn", ALL, marks=pytest.mark.long)])
def test_what_is_told_agrees_with_the_capture_to_the_packet(
    bench: Bench, target: TargetSpace, engine: str, probes: tuple[str, ...]
) -> None:
    work = unit(bench, probes, 100)
    with scanner(bench, 0, engine):
        bench.push(work)
        wait_for(bench.sweeps, 150)
    (sweep,) = bench.sweeps()
    assert (sweep.complete, sweep.impact) == (True, ())
    seen = by_place(target.came())
    assert told(bench, "agent-0") == seen
    assert seen.total() > 700
    for to, port in (WEB, TLS, MUTE):
        assert seen[to, "tcp", port] > 12
    assert {kind for _, kind, _ in seen} == {"tcp", "icmp"}  # traceroute
    for record in bench.events("touches"):
        assert isinstance(record, Touches)
        assert (record.unit_id, record.grant_id, record.issued_by, record.attempt) == (work.unit_id, "lab", "test", 1)
    print(f"{engine}: {seen.total()} packets to {len(seen)} places, all told")


@pytest.mark.long
def test_kill_9_loses_the_last_two_seconds_at_most_and_the_second_attempt_is_told_too(bench: Bench, target: TargetSpace) -> None:
    work = unit(bench, ("http",), 400, rate=400)
    with scanner(bench, 0, "syn") as first:
        bench.push(work)
        wait_until(lambda: len(target.came()) > 1000, 60)
        killed_at = time.time()
        first.send_signal(signal.SIGKILL)
        first.wait()
    before = settled(target)
    with scanner(bench, 1, "syn"):
        wait_for(bench.sweeps, 90)
    sent, known = by_place(before), told(bench, "agent-0")
    missing, late = sent - known, sum(one.at > killed_at - 2.0 for one in before)
    print(f"{sent.total()} packets sent, {missing.total()} of them not told, {late} in the last 2 s")
    assert known <= sent
    assert missing.total() <= late
    assert known.total() > 300
    assert told(bench, "agent-1") == by_place(target.came()) - sent


def settled(target: TargetSpace) -> list[Seen]:
    """What came, once nothing comes any more."""
    counts = [-1]

    def quiet() -> bool:
        counts.append(len(target.came()))
        time.sleep(0.3)
        return counts[-1] == counts[-2]

    wait_until(quiet)
    return target.came()
