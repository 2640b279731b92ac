"""Nothing leaves that no grant covers, proved by the packets themselves; what is refused is told, and a revocation is obeyed at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from confluent_kafka import Message

from infra.kafka.client import key_of, read_whole, value_of
from infra.kafka.timestamps import recorded_at
from infra.local.lab.lab import Lab
from schemas.codec import Codec
from schemas.events.targets import Run
from schemas.portset import expand, parse_ports
from tests.e2e.capture import LinkCounter, Sent, capturing, sent
from tests.e2e.conftest import World
from tests.pipelines import Row, request_id

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.store,
    pytest.mark.namespace,
    pytest.mark.slow,
    pytest.mark.timeout(400),
]
PORTS = "21-80,443,1883,8080"
ELSEWHERE = ("198.18.231.0/24", "198.19.231.0/30", "198.18.232.0/24", "192.0.2.231/32", "2001:db8:18:e7::/64", "2001:db8:19:e7::/64")


@dataclass(slots=True)
class PartlyGranted:
    """A second lab, of which one host and two services' ports are not granted, and the packets of all that was asked for."""

    lab: Lab
    runs: dict[str, Row]
    packets: list[Sent]

    @property
    def excluded(self) -> str:
        return self.lab.plan.address4(3)


@pytest.fixture(scope="module")
def partly(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PartlyGranted]:
    folder, pipeline = tmp_path_factory.mktemp("partly"), world.pipeline
    with Lab(folder, "dle-", 231) as lab:
        excluded = lab.plan.address4(3)
        pipeline.grant("partial", lab.networks(), exclusions=(f"{excluded}/32",), tcp_ports=PORTS)
        asked: dict[str, tuple[list[str], str | None, str | None]] = {
            "everything": (lab.targets(), None, None),
            "ports": (lab.targets(), "22,80,6379,8080,11211", None),
            "excluded": ([excluded, f"{excluded}/32"], "443,8080", None),
            "ungranted": (["198.18.232.0/29", "192.0.2.231", lab.plan.link4(2)], "22,80", None),
            "another": (lab.targets(), None, "full"),
        }
        file = folder / "sent.pcap"
        with capturing(file, ELSEWHERE):
            runs = {name: pipeline.push(f"scope-{name}", *what) for name, what in asked.items()}
            for run in runs.values():
                pipeline.scanned(run)
        yield PartlyGranted(lab, runs, sent(file))


def test_no_packet_leaves_the_grant(partly: PartlyGranted) -> None:
    granted, ports = [ip_network(one) for one in partly.lab.networks()], set(expand(parse_ports(PORTS)))
    link = int((Path("/sys/class/net") / partly.lab.interface / "ifindex").read_text())

    def fine(one: Sent) -> bool:
        if one.kind == "neighbour":
            return one.interface == link
        inside = any(ip_address(one.to) in network for network in granted) and one.to != partly.excluded
        return one.kind == "tcp" and inside and one.port in ports and one.interface == link

    assert [one for one in partly.packets if not fine(one)] == []


def test_what_is_granted_was_looked_at(partly: PartlyGranted) -> None:
    allowed = {(one.address, one.port) for one in partly.lab.truth() if one.port not in (6379, 11211) and one.address != partly.excluded}
    assert allowed <= {(one.to, one.port) for one in partly.packets if one.kind == "tcp"}
    assert len(allowed) > 5


def test_the_services_outside_the_grant_are_not_known(world: World, partly: PartlyGranted) -> None:
    found = world.pipeline.rows("SELECT address, port FROM services FINAL WHERE startsWith(address, '198.18.231.')")
    assert all(row["address"] != partly.excluded and row["port"] not in (6379, 11211) for row in found)


def test_refusals_say_why(world: World, partly: PartlyGranted) -> None:
    pipeline, runs = world.pipeline, partly.runs
    told = {
        name: [
            (row["target"], row["reason"])
            for row in pipeline.rows("SELECT target, reason FROM refused WHERE request_id = {r:String}", r=run["request_id"])
        ]
        for name, run in runs.items()
    }
    assert {target for target, _ in told["ungranted"]} == {"198.18.232.0/29", "192.0.2.231", partly.lab.plan.link4(2)}
    assert all("is in no network of any grant of zone default" in reason for _, reason in told["ungranted"])
    assert {reason for _, reason in told["excluded"]} == {"it is excluded by a grant of the zone"}
    assert any("tcp/6379,11211 are not among the ports" in reason for _, reason in told["ports"])
    assert len(told["another"]) == len(partly.lab.targets())
    assert all("is in no network of grant full" in reason for _, reason in told["another"])
    assert {name: run["units"] for name, run in runs.items() if name in ("ungranted", "excluded", "another")} == {
        "ungranted": 0,
        "excluded": 0,
        "another": 0,
    }
    assert runs["everything"]["excluded"] == 1


def test_the_refusal_is_an_event_of_the_topic_runs(world: World, partly: PartlyGranted) -> None:
    found: dict[str, Run] = {}

    def note(message: Message) -> None:
        event = Codec().decode("runs", value_of(message) or b"")
        assert isinstance(event, Run)
        found[event.request_id] = event

    read_whole(world.pipeline.settings, "runs", note)
    event = found[request_id("scope-ungranted")]
    assert [one.target for one in event.refused] == ["198.18.232.0/29", "192.0.2.231", partly.lab.plan.link4(2)]
    assert event.units == 0


def test_the_whole_look_of_the_first_lab_stayed_inside_its_grant_too(world: World) -> None:
    networks, link = (
        [ip_network(one) for one in world.lab.networks()],
        int((Path("/sys/class/net") / world.lab.interface / "ifindex").read_text()),
    )
    packets = sent(world.packets)
    assert {one.interface for one in packets} == {link}
    stray = [one for one in packets if one.kind != "neighbour" and not any(ip_address(one.to) in network for network in networks)]
    assert stray == []
    assert len({one.port for one in packets if one.kind == "tcp"}) > 50


def test_revoking_stops_the_packets_within_two_seconds(world: World, partly: PartlyGranted, tmp_path: Path) -> None:
    pipeline, router = world.pipeline, partly.lab.plan.link4(2)
    pipeline.grant("brief", [f"{router}/32"])
    counter, file = LinkCounter(partly.lab.interface), tmp_path / "revoked.pcap"
    with capturing(file, [f"{router}/32"]):
        run = pipeline.push("brief", [router], "1-20000", "brief")
        begun = counter.count()
        pipeline.until(lambda: counter.count() > begun + 100, 60, "packets of a long scan")
        pipeline.cli("grant", "revoke", "brief", "--reason", "a test", "--key", "brief")
        pipeline.until(lambda: counter.quiet_for() > 3.0, 30, "the packets to stop")
    revoked: list[float] = []

    def note(message: Message) -> None:
        if key_of(message) == "brief":
            revoked.append(recorded_at(message).timestamp())

    read_whole(pipeline.settings, "grants", note)
    packets = [one.at for one in sent(file) if one.kind == "tcp"]
    assert packets[0] < revoked[-1]
    assert packets[-1] - revoked[-1] <= 2.0, f"the last packet left {packets[-1] - revoked[-1]:.2f} s after the revocation"
    assert len(packets) < 20_000
    pipeline.scanned(run)
    halted = pipeline.rows("SELECT complete, stopped_reason FROM sweeps FINAL WHERE run_id = {r:String} AND NOT complete", r=run["run_id"])
    assert halted
    assert any("revoked" in row["stopped_reason"] for row in halted)
    again = pipeline.push("brief-again", [router], "22", "brief")
    assert again["units"] == 0
    assert "revoked" in again["refused_reasons"][0]
