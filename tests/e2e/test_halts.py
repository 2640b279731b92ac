"""What stops scanners, by the packets that arrive: a freeze, a cut connection, a stopped process, a lost partition, a revocation.

Two scanners, each in a namespace of its own with an address of its own, so that the capture at the target tells whose a packet is; each
reaches the broker through a passage that can be shut. The target answers each probe with a reset.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pytest

from infra.kafka.client import read_whole
from infra.kafka.timestamps import recorded_at
from schemas.events.base import PortRange
from schemas.events.grants import Grant, Intensity
from schemas.events.targets import WorkUnit
from schemas.ids import partition_of, subnet_key
from tests.e2e.capture import Arrivals, Sent, capturing
from tests.namespaces import ip, join, namespaces
from tests.passage import Passage
from tests.processes import end
from tests.scan_bench import Bench, heartbeats, wait_for
from tests.scan_samples import SIGNER, make_grant, make_unit

pytestmark = [pytest.mark.kafka, pytest.mark.namespace, pytest.mark.slow, pytest.mark.timeout(300)]
TARGET, FIRST, SECOND = "dlh-target", "dlh-first", "dlh-second"
SOURCES = {FIRST: "198.19.240.1", SECOND: "198.19.240.5"}
PROBED = "198.18.240.0/20"
RATE = 200
HANDOVERS = 4  # the cut connection, its return, the stopped process, its return
MOST_AT_ONCE = 64  # what the budgets let through at once, at this rate: a batch that was on its way when the process was stopped


@dataclass(slots=True)
class Agent:
    """A scanner in its namespace, and its way to the broker."""

    name: str
    process: subprocess.Popen[bytes]
    passage: Passage

    @property
    def address(self) -> str:
        return SOURCES[self.name]

    def subnets(self, bench: Bench) -> list[str]:
        """Two subnets whose units this scanner gets now."""
        owned = heartbeats(bench)[self.name].partitions
        return [one for one in SUBNETS if partition_of(subnet_key("default", one), 4) in owned][:2]


SUBNETS = [f"198.18.{240 + number}.0/24" for number in range(16)]


@contextmanager
def network() -> Iterator[None]:
    """Target and scanners, joined; no way leads anywhere else."""
    with namespaces((TARGET, *SOURCES)):
        ip("-n", TARGET, "route", "add", "local", PROBED, "dev", "lo")
        for name, source in SOURCES.items():
            gateway = source[:-1] + str(int(source[-1]) + 1)
            join((name, "up0"), (TARGET, name))
            ip("-n", name, "address", "add", f"{source}/30", "dev", "up0")
            ip("-n", TARGET, "address", "add", f"{gateway}/30", "dev", name)
            ip("-n", name, "route", "add", PROBED, "via", gateway)
        yield


@contextmanager
def agent(name: str, bench: Bench, slot: int) -> Iterator[Agent]:
    """`driftline run scanner` in a namespace."""
    port = int(bench.bootstrap.rpartition(":")[2])
    environment = {one: value for one, value in os.environ.items() if not one.startswith("DRIFTLINE_")} | environment_of(bench)
    environment |= {"DRIFTLINE_SLOT": str(slot), "DRIFTLINE_SCANNER__AGENT_ID": name, "DRIFTLINE_SCANNER__PER_HOST_PER_SECOND": str(RATE)}
    command = ["ip", "netns", "exec", name, sys.executable, "-m", "infra.app.cli", "run", "scanner"]
    log = bench.folder / f"{name}.log"
    with closing(Passage(name, port)) as passage, log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, cwd=bench.folder, stdout=output, stderr=output)
        try:
            yield Agent(name, process, passage)
        finally:
            passage.reopen()
            process.send_signal(signal.SIGCONT)
            end(process)


def environment_of(bench: Bench) -> dict[str, str]:
    return {
        "DRIFTLINE_DATA_DIR": str(bench.folder),
        "DRIFTLINE_KAFKA__BOOTSTRAP": bench.bootstrap,
        "DRIFTLINE_KAFKA__PREFIX": bench.prefix,
        "DRIFTLINE_KAFKA__PARTITIONS": "4",
        "DRIFTLINE_SCOPE__SIGNERS": json.dumps([SIGNER.model_dump(mode="json")]),
    }


@dataclass(slots=True)
class Story:
    """What was done when (wall clock), every probe that arrived, and the subnets of the scanner whose process was stopped."""

    probes: list[Sent]
    moments: dict[str, float]
    lost: list[str]

    def between(self, source: str, begin: float, end: float) -> list[Sent]:
        return [one for one in self.probes if one.source == source and begin < one.at <= end]

    def on_their_way(self) -> list[Sent]:
        """What the stopped process had let through and sent when it went on, to subnets that the other sends to by then."""
        found = []
        for subnet in self.lost:
            there = [one for one in self.probes if _subnet(one) == subnet and one.at > self.moments["continued"]]
            handed_back = max((one.at for one in there if one.source == SOURCES[FIRST]), default=0.0)
            found += [one for one in there if one.source == SOURCES[SECOND] and one.at < handed_back]
        return found

    def last_of(self, source: str, before: float) -> float:
        return max(one.at for one in self.probes if one.source == source and one.at <= before)


class Stage:
    """Hands to act the story: units that take two minutes unless they are stopped, and the moments of what is done to scanners."""

    def __init__(self, bench: Bench, file: Path) -> None:
        self.bench, self.moments, self._units = bench, dict[str, float](), 0
        self.arrivals = Arrivals(file)

    def note(self, what: str) -> None:
        self.moments[what] = time.time()

    def work_for(self, *agents: Agent) -> None:
        """Give each of these scanners long units in two subnets of its partitions, and wait until each sends."""
        before = {one.address: self._seen(one.address) for one in agents}
        for subnet in [subnet for one in agents for subnet in one.subnets(self.bench)]:
            self._units += 1
            hosts = tuple(f"{subnet.removesuffix('0/24')}{number}" for number in range(1, 9))
            self.bench.push(_long_unit(self._units, hosts))
        wait_for(lambda: all(self._seen(one.address) > before[one.address] + RATE for one in agents))

    def until_only(self, sender: Agent, subnets: list[str]) -> None:
        """Wait until this scanner sends to all these subnets."""
        begun = time.time()

        def all_are_sent_to() -> bool:
            late = (one for one in reversed(self.arrivals.so_far()) if one.at > begun)
            return set(subnets) <= {_subnet(one) for one in late if one.source == sender.address}

        wait_for(all_are_sent_to)

    def cli(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "infra.app.cli", *arguments]
        subprocess.run(command, env=os.environ | environment_of(self.bench), cwd=self.bench.folder, check=True, capture_output=True)

    def _seen(self, source: str) -> int:
        return sum(one.source == source for one in self.arrivals.so_far())


def _long_unit(number: int, hosts: tuple[str, ...]) -> WorkUnit:
    return make_unit(number, address=hosts[0], addresses=hosts, ports=6000, rate=RATE)


def appended(bench: Bench, topic: str) -> float:
    """When the broker took the first record of a topic."""
    moments: list[float] = []
    read_whole(bench.settings, topic, lambda message: moments.append(recorded_at(message).timestamp()))
    return moments[0]


def _wide_grant(revision: int, revoked: bool = False) -> Grant:
    intensity = Intensity(packets_per_second=4000, per_host_per_second=RATE)
    return make_grant(revision, revoked=revoked, tcp_ports=(PortRange(first=1, last=65535),), intensity=intensity)


def _subnet(one: Sent) -> str:
    return one.to.rpartition(".")[0] + ".0/24"


@pytest.fixture(scope="module")
def story(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    if os.geteuid() != 0:
        pytest.skip("needs root, for namespaces")
    folder = tmp_path_factory.mktemp("halts")
    with ExitStack() as stack:
        stack.enter_context(network())
        bench = Bench(kafka, folder, stack)
        bench.say("grants", "lab", _wide_grant(1))
        file = folder / "arrived.pcap"
        stage = Stage(bench, file)
        with capturing(file, [PROBED], TARGET):
            first, second = (stack.enter_context(agent(name, bench, slot)) for slot, name in enumerate(SOURCES))
            wait_for(lambda: sorted(len(one.partitions) for one in heartbeats(bench).values()) == [2, 2], 60)

            stage.work_for(first, second)
            stage.cli("freeze")
            stage.moments["frozen"] = appended(bench, "commands")
            time.sleep(3.0)  # the absence of packets is under test
            stage.note("still frozen")
            stage.cli("thaw", "--as", "Ann Lee")

            stage.work_for(first, second)
            lost = first.subnets(bench)
            first.passage.shut()
            stage.note("cut off")
            stage.until_only(second, lost)
            stage.note("taken over from who was cut off")
            first.passage.reopen()
            wait_for(lambda: sorted(len(one.partitions) for one in heartbeats(bench).values()) == [2, 2], 60)

            stage.work_for(first, second)
            lost = second.subnets(bench)
            second.process.send_signal(signal.SIGSTOP)
            stage.note("stopped")
            stage.until_only(first, lost)
            stage.note("continued")
            second.process.send_signal(signal.SIGCONT)
            wait_for(lambda: sorted(len(one.partitions) for one in heartbeats(bench).values()) == [2, 2], 60)

            stage.work_for(first, second)
            bench.say("grants", "lab", _wide_grant(2, revoked=True))
            stage.note("revoked")
            time.sleep(4.0)  # the absence of packets is under test
        print({what: round(at - stage.moments["frozen"], 2) for what, at in stage.moments.items()})
        yield Story(stage.arrivals.so_far(), stage.moments, lost)


def test_a_freeze_stops_every_scanner_within_two_seconds_and_a_thaw_lets_them_go_on(story: Story) -> None:
    frozen, still = story.moments["frozen"], story.moments["still frozen"]
    for source in SOURCES.values():
        assert story.between(source, frozen - 2.0, frozen), "it was sending"
        late = story.last_of(source, still) - frozen
        print(f"{source}: last packet {late:+.2f} s after the order was written")
        assert late <= 2.0
        assert story.between(source, still, story.moments["cut off"]), "it sends again"


def test_a_scanner_that_is_cut_off_stops_within_five_seconds_before_another_takes_over(story: Story) -> None:
    cut, taken = story.moments["cut off"], story.moments["taken over from who was cut off"]
    late = story.last_of(SOURCES[FIRST], taken) - cut
    print(f"last packet {late:+.2f} s after the connection was cut; the other sent there after {taken - cut:.2f} s")
    assert story.between(SOURCES[FIRST], cut - 1.0, cut), "it was sending"
    assert late <= 5.0
    assert story.between(SOURCES[SECOND], cut + 5.0, taken), "the other went on"


def test_a_process_that_was_stopped_and_has_lost_its_partitions_sends_nothing_there_when_it_goes_on(story: Story) -> None:
    stopped, continued = story.moments["stopped"], story.moments["continued"]
    assert story.between(SOURCES[SECOND], stopped - 1.0, stopped), "it was sending"
    assert not story.between(SOURCES[SECOND], stopped + 0.1, continued)
    assert len(story.on_their_way()) <= MOST_AT_ONCE


def test_no_two_scanners_ever_send_to_one_subnet_at_the_same_time(story: Story) -> None:
    late = set(map(id, story.on_their_way()))
    for subnet in sorted({_subnet(one) for one in story.probes}):
        probes = [one for one in story.probes if _subnet(one) == subnet and id(one) not in late]
        turns = [(source, len(list(turn))) for source, turn in groupby(probes, key=lambda one: one.source)]
        assert len(turns) <= 1 + HANDOVERS, f"{subnet}: {turns}"


def test_a_revocation_stops_units_of_both_scanners_in_their_middle_within_two_seconds(story: Story) -> None:
    revoked = story.moments["revoked"]
    for source in SOURCES.values():
        assert story.between(source, revoked - 1.0, revoked), "it was sending"
        late = story.last_of(source, float("inf")) - revoked
        print(f"{source}: last packet {late:+.2f} s after the revocation")
        assert late <= 2.0
