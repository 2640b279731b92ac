"""A pipeline with logins on one machine, and a scanner on another that knows nothing of it but its address and a one-time token.

The other machine is a namespace: it reaches the broker by one link, which is cut in the middle of its work, and networks that the first
machine does not reach. Every process logs in as a user of its own that has only its roles' rights, so that all of this is also the proof
that those rights are enough; in the last test each role sets bad records aside with them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka import Producer

from infra.app.people import publisher
from infra.core.settings import BrokerSettings, KafkaSettings
from infra.kafka.client import prefixed, producer_config, read_whole
from producers.targets.pushing import PushOptions, push
from producers.targets.reading import Manner
from schemas.access import ROLES, rights
from tests.e2e.capture import Arrivals, capturing
from tests.namespaces import ip, join, namespaces
from tests.pipelines import Pipeline, Row, owned, prepare, request_id
from tests.ports import free_ports
from tests.processes import end
from tests.scanning import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.store, pytest.mark.namespace, pytest.mark.slow, pytest.mark.timeout(400)]
AGENT, FAR, BOTH = "dlx-agent", "dlx-far", "dlx-both"
HQ = "198.19.241.1"
SHARED, REMOTE, LOCAL = "198.18.241.0/24", "198.18.242.0/24", "198.18.243.0/24"
RATE = 40


@dataclass(slots=True)
class Site:
    """The pipeline on this machine, and the folder of the scanner on the other."""

    pipeline: Pipeline
    folder: Path
    agent: subprocess.Popen[bytes]

    def push(self, name: str, zone: str, targets: list[str], ports: str) -> None:
        options = PushOptions(
            name, Manner(zone=zone, ports=ports, grant_id=f"g-{zone}" if zone == "dmz" else None), zones=("default", "dmz")
        )
        with publisher(self.pipeline.settings) as outlet:
            push(targets, outlet.publish, options)

    def looked_at(self, name: str, seconds: float = 90.0) -> Row:
        run = self.pipeline.run_of(request_id(name))
        self.pipeline.scanned(run, seconds)
        return run

    def row(self) -> Row:
        """What `driftline agents` shows of the other machine's scanner."""
        rows: list[Row] = [one for one in self.pipeline.json("agents") if one["agent_id"] == "scan-dmz"]
        return rows[0] if rows else {}


@contextmanager
def network() -> Iterator[None]:
    """This machine, the other, a network that only the other reaches, one that only this reaches, and one that both reach."""
    with namespaces((AGENT, FAR, BOTH)):
        ip("link", "add", "dlx-hq", "type", "veth", "peer", "name", "up0", "netns", AGENT)
        ip("link", "add", "dlx-near", "type", "veth", "peer", "name", "near0", "netns", BOTH)
        join((AGENT, "far0"), (FAR, "in0"))
        join((AGENT, "both0"), (BOTH, "in0"))
        for name, interface, address in (
            (AGENT, "up0", "198.19.241.2"),
            (BOTH, "near0", "198.19.241.6"),
            (AGENT, "both0", "198.19.241.9"),
            (BOTH, "in0", "198.19.241.10"),
            (AGENT, "far0", "198.19.241.13"),
            (FAR, "in0", "198.19.241.14"),
        ):
            ip("-n", name, "address", "add", f"{address}/30", "dev", interface)
            ip("-n", name, "link", "set", interface, "up")
        for interface, address in (("dlx-hq", HQ), ("dlx-near", "198.19.241.5")):
            ip("address", "add", f"{address}/30", "dev", interface)
            ip("link", "set", interface, "up")
        for owner, held in ((FAR, REMOTE), (BOTH, SHARED), (BOTH, LOCAL)):
            ip("-n", owner, "route", "add", "local", held, "dev", "lo")
        ip("-n", AGENT, "route", "add", REMOTE, "via", "198.19.241.14")
        ip("-n", AGENT, "route", "add", SHARED, "via", "198.19.241.10")
        for held in (SHARED, LOCAL):
            ip("route", "add", held, "via", "198.19.241.6")
        ip("route", "add", "unreachable", REMOTE)  # never by this machine's own way out
        try:
            yield
        finally:
            subprocess.run(["ip", "route", "del", "unreachable", REMOTE], check=False, capture_output=True)


@contextmanager
def service(namespace: str, kind: str, address: str, port: int) -> Iterator[None]:
    command = ["ip", "netns", "exec", namespace, sys.executable, "-m", "infra.local.lab.plain_services", kind, address, str(port)]
    process = subprocess.Popen(command)
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if os.geteuid() != 0:
        pytest.skip("needs root, for namespaces")
    folder = tmp_path_factory.mktemp("across")
    with ExitStack() as stack:
        stack.enter_context(network())
        for namespace, kind, address, port in (
            (FAR, "telnet", "198.18.242.1", 23),
            (FAR, "http", "198.18.242.2", 80),
            (BOTH, "telnet", "198.18.243.1", 23),
        ):
            stack.enter_context(service(namespace, kind, address, port))
        pipeline = secured(folder / "hq")
        pipeline.start()
        stack.callback(lambda: _ended(pipeline))
        pipeline.grant("g-default", [LOCAL, SHARED], zones=("default",), packets_per_second=200, per_host_per_second=RATE)
        pipeline.grant("g-dmz", [REMOTE, SHARED], zones=("dmz",), packets_per_second=100, per_host_per_second=RATE)
        other = folder / "other"
        enrol(pipeline, other)
        site = Site(pipeline, other, stack.enter_context(scanner(other)))
        site.push("here", "default", ["198.18.243.1"], "20-30")
        site.push("there", "dmz", ["198.18.242.1", "198.18.242.2"], "20-30,80")
        yield site


def secured(folder: Path) -> Pipeline:
    """A pipeline whose broker asks for logins, on loopback and where the other machine reaches it; behind a prefix."""
    pipeline = prepare(folder)
    (port,) = free_ports(1)
    broker = BrokerSettings(**{**pipeline.settings.broker.model_dump(), "sasl": True, "listen": f"{HQ}:{port}"})
    kafka = KafkaSettings(prefix="blue.", partitions=4)
    pipeline.settings = pipeline.settings.model_copy(update={"zones": ("default", "dmz"), "broker": broker, "kafka": kafka})
    pipeline.environment |= {
        "DRIFTLINE_ZONES": '["default", "dmz"]',
        "DRIFTLINE_BROKER__SASL": "true",
        "DRIFTLINE_BROKER__LISTEN": f"{HQ}:{port}",
        "DRIFTLINE_KAFKA__PREFIX": "blue.",
    }
    return pipeline


def _ended(pipeline: Pipeline) -> None:
    pipeline.stop()
    assert owned(pipeline.environment) == [], "SIGTERM left processes behind"


def enrol(pipeline: Pipeline, folder: Path) -> None:
    """`agents enrol` here, `agents join` there."""
    command = [sys.executable, "-m", "infra.app.cli", "agents", "enrol", "scan-dmz", "--zone", "dmz"]
    with subprocess.Popen(command, env=pipeline.environment, stdout=subprocess.PIPE, text=True) as operator:
        assert operator.stdout is not None
        token = operator.stdout.readline()
        inside = ["ip", "netns", "exec", AGENT, sys.executable, "-m", "infra.app.cli", "agents", "join", "-", "--folder", str(folder)]
        done = subprocess.run(inside, env=bare(), input=token, capture_output=True, text=True, timeout=90, check=False)
        assert done.returncode == 0, done.stderr
        assert operator.wait(30) == 0


def bare() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("DRIFTLINE_")}


@contextmanager
def scanner(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`driftline run scanner` on the other machine: it has its folder and nothing of the first machine's."""
    environment = bare() | {"DRIFTLINE_CONFIG": str(folder / "driftline.toml"), "DRIFTLINE_DATA_DIR": str(folder)}
    with (folder / "scanner.log").open("wb") as log:
        process = subprocess.Popen(
            ["ip", "netns", "exec", AGENT, sys.executable, "-m", "infra.app.cli", "run", "scanner"], env=environment, stdout=log, stderr=log
        )
        try:
            yield process
        finally:
            end(process, 30)


def test_the_namespaces_have_no_way_out(site: Site) -> None:
    for name in (AGENT, FAR, BOTH):
        assert subprocess.run(["ip", "-n", name, "route", "show", "default"], capture_output=True, text=True, check=True).stdout == ""


def test_each_zone_looks_at_what_only_it_reaches(site: Site) -> None:
    pipeline = site.pipeline
    here, there = site.looked_at("here"), site.looked_at("there")
    by = "SELECT agent_id, count() AS n FROM sweeps FINAL WHERE run_id = {r:String} GROUP BY agent_id"
    assert {row["agent_id"] for row in pipeline.rows(by, r=there["run_id"])} == {"scan-dmz"}
    assert "scan-dmz" not in {row["agent_id"] for row in pipeline.rows(by, r=here["run_id"])}
    pipeline.until(lambda: site.row().get("units_done", 0) >= there["units"], 30, "the agent's progress")
    assert site.row()["zone"] == "dmz"
    seen = "SELECT address, port FROM services FINAL WHERE status = 'open' AND zone = {z:String} ORDER BY address"
    there_are = {("198.18.242.1", 23), ("198.18.242.2", 80)}  # and what another test opens on other hosts
    pipeline.until(lambda: there_are <= {(row["address"], row["port"]) for row in pipeline.rows(seen, z="dmz")}, 60, "two services there")
    pipeline.until(lambda: len(pipeline.rows(seen, z="default")) == 1, 60, "one service here")


def cut_link(site: Site, seconds: float, tape: Path) -> None:
    """Cut the other machine off in the middle of a unit, for so long. Then nothing may be lost, and nothing be told twice."""
    pipeline, name, host = site.pipeline, f"cut-{seconds:.0f}", f"198.18.242.{seconds:.0f}"
    targets = [f"198.18.242.{number}" for number in (1, 2, 3, 4, 5, 6, 7)] + [host]
    site.looked_at("there")
    pipeline.until(lambda: len(findings(pipeline)) >= 4, 60, "what the first look finds")
    pipeline.settled()
    before = findings(pipeline)
    assert ("plaintext-login", "198.18.242.1", 1) in before
    assert {one[2] for one in before} == {1}
    with service(FAR, "telnet", host, 23), capturing(tape, [REMOTE], FAR):
        arrivals = Arrivals(tape)
        site.push(name, "dmz", targets, f"20-30,80,{int(1000 + seconds)}-{int(1130 + seconds)}")
        wait_until(lambda: len(arrivals.so_far()) > 200, 60)
        ip("link", "set", "dlx-hq", "down")
        cut = time.time()
        try:
            time.sleep(seconds)  # the length of the cut is what is under test
        finally:
            ip("link", "set", "dlx-hq", "up")
        back = time.time()
        run = site.looked_at(name, 120)
    late = [one.at - cut for one in arrivals.so_far() if cut + 5.5 < one.at < back]
    print(f"cut for {seconds:.0f} s; packets later than 5.5 s into the cut: {len(late)}")
    assert not late, "a scanner that is cut off stops"
    pipeline.settled()
    attempts = "SELECT unit_id, count() AS n FROM sweeps WHERE run_id = {r:String} AND complete GROUP BY unit_id"
    told = pipeline.rows(attempts, r=run["run_id"])
    assert len(told) == run["units"]
    assert {row["n"] for row in told} == {1}
    new = [("plaintext-login", host, 1), ("service_opened", host, 1)]
    assert findings(pipeline) == sorted(before + new), "what opened in the meantime is found, once, and nothing else has changed"


def findings(pipeline: Pipeline) -> list[tuple[str, str, int]]:
    """Every open finding of the other zone and every service of it that was told to have opened, and how often: each once."""
    opened = "SELECT kind, address, count() AS n FROM changes FINAL WHERE zone = 'dmz' AND kind = 'service_opened' GROUP BY kind, address"
    found = (
        "SELECT rule AS kind, addresses[1] AS address, count() AS n FROM findings FINAL WHERE zone = 'dmz' AND status = 'open' "
        "GROUP BY kind, address"
    )
    return sorted((row["kind"], str(row["address"]), row["n"]) for sql in (opened, found) for row in pipeline.rows(sql))


def test_a_cut_link_loses_nothing_and_repeats_nothing(site: Site, tmp_path: Path) -> None:
    cut_link(site, 12.0, tmp_path / "cut.pcap")


@pytest.mark.long
def test_a_link_cut_for_half_a_minute_loses_nothing_and_repeats_nothing(site: Site, tmp_path: Path) -> None:
    cut_link(site, 30.0, tmp_path / "cut.pcap")


def test_zones_that_reach_the_same_host_share_its_budget(site: Site, tmp_path: Path) -> None:
    tape, host = tmp_path / "shared.pcap", "198.18.241.7"
    with capturing(tape, [SHARED], BOTH):
        for zone in ("default", "dmz"):
            site.push(f"shared-{zone}", zone, [host], "1-200")
        for zone in ("default", "dmz"):
            site.looked_at(f"shared-{zone}")
    probes = [one for one in Arrivals(tape).so_far() if one.to == host]
    assert len({one.source for one in probes}) == 2, "both zones sent"
    times = [[one.at for one in probes if one.source == source] for source in {one.source for one in probes}]
    begin, end = max(min(some) for some in times), min(max(some) for some in times)
    assert end - begin > 3.0, "they sent at the same time"
    most = max(sum(first.at <= one.at < first.at + 1 for one in probes) for first in probes)
    together = sum(begin <= one.at <= end for one in probes) / (end - begin)
    print(f"both at once for {end - begin:.1f} s: {together:.1f} packets a second, at most {most} in any second, of a budget of {RATE}")
    assert most <= 1.05 * RATE


def test_every_role_sets_bad_records_aside_with_its_own_rights_and_none_has_failed(site: Site) -> None:
    pipeline = site.pipeline
    wanted = {one.name for role in ROLES for one in rights(role, ("default", "dmz")) if one.name.startswith("dlq.")}
    junk = {name.removeprefix("dlq.") for name in wanted} - {"assets", "rollups", "pages"}  # pages are read where a webhook is set
    producer = Producer(producer_config(pipeline.settings))
    for topic in junk:
        producer.produce(prefixed(pipeline.settings, topic), b"junk", b"junk", 0)
    assert producer.flush(20) == 0

    def set_aside(topic: str) -> int:
        found: list[object] = []
        read_whole(pipeline.settings, f"dlq.{topic}", found.append)
        return len(found)

    pipeline.until(lambda: all(set_aside(topic) for topic in junk), 60, f"dead letters of {sorted(junk)}")
    assert set_aside("changes") >= 3, "the correlator's, the rollups' and the archiver's"
    for row in pipeline.status().rows:
        assert (row["state"], row["restarts"]) == ("ready", 0), row
    assert site.agent.poll() is None
