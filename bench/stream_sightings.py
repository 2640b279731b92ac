"""What a scanner would publish of many assets: units of a subnet each, as `probes` has them, and what the differ must make of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from bench.stream_job import DIFFERS, Outcome, outcome
from infra.core.ports import Context, FixedTables, MemoryState, Record
from infra.core.settings import DifferSettings
from processors.diff.differ import Differ
from schemas.codec import Codec
from schemas.events.base import Event, PortRange
from schemas.events.observations import Certificate, HostObservation, HostPorts, HttpFacts, ServiceObservation, SweepResult, TlsFacts
from schemas.ids import content_id, subnet_key

START = datetime(2026, 11, 21, tzinfo=UTC)
HOSTS = 100
"""Of each subnet, that answer."""
EVERY = timedelta(minutes=10)
PORTS = (22, 80, 443)


def subnets(assets: int) -> list[str]:
    """The first three numbers of each subnet of so many assets."""
    return [f"10.{number >> 8}.{number & 255}" for number in range(assets // HOSTS)]


class Network:
    """Subnets whose hosts offer SSH, HTTP and HTTPS. In each look after the first, a fifth of the hosts run another version of one."""

    def __init__(self, subnets: list[str], looks: int, seed: int = 5) -> None:
        self._dice, self._looks = random.Random(seed), looks  # noqa: S311  repeatable, not secret
        self._subnets = subnets
        self._minor = {f"{net}.{host}": [self._dice.randint(0, 9) for _ in PORTS] for net in self._subnets for host in range(1, HOSTS + 1)}
        self._changes: list[bytes] = []
        self._state = MemoryState()

    def make(self) -> Iterator[tuple[str, bytes]]:
        """Key and value of each record, in the order of time."""
        codec = Codec()
        step, context = Differ(DifferSettings(), codec), Context(0, 1, self._state, FixedTables())
        for look in range(self._looks):
            for number, net in enumerate(self._subnets):
                key = subnet_key("default", f"{net}.0/24")
                for event in self.unit(look, net, START + look * EVERY + number * timedelta(milliseconds=10)):
                    value = codec.encode("probes", event)
                    if not step.changes_nothing("probes", value, self._state):
                        told = step.handle(Record("probes", 0, 0, START, key, None, value, codec.read("probes", value)), context)
                        self._changes += [codec.encode(one.topic, one.event) for one in told if one.event]
                    yield key, value

    @property
    def state(self) -> dict[str, bytes]:
        """What the differ knows now, by asset."""
        return self._state.values

    def outcome(self) -> Outcome:
        """What an engine must have told and must know at the end."""
        return outcome(self._changes, self._state.values)

    def unit(self, look: int, net: str, at: datetime) -> Iterator[Event]:
        """What one look at a subnet publishes."""
        name, subnet = content_id("unit", look, net), f"{net}.0/24"
        hosts = [f"{net}.{host}" for host in range(1, HOSTS + 1)]
        ids = {"run_id": content_id("run", look), "zone": "default", "subnet": subnet, "grant_id": "bench", "agent_id": "bench-0"}
        yield SweepResult(
            unit_id=name,
            engine="syn",
            probed=tuple(f"{net}.{host}" for host in range(256)),
            ports=tuple(PortRange(first=port, last=port) for port in PORTS),
            hosts=tuple(HostPorts(address=host, answered=PORTS) for host in hosts),
            packets_sent=1500,
            loss=0.0,
            recall=0.99,
            recall_samples=300,
            started_at=at - timedelta(seconds=5),
            finished_at=at,
            **ids,
        )
        for host in hosts:
            if look and self._dice.random() < DIFFERS:
                self._minor[host][self._dice.randrange(3)] += 1
            yield HostObservation(
                observation_id=content_id("observation", name, host),
                unit_id=name,
                address=host,
                services=_services(host, self._minor[host]),
                observed_at=at + timedelta(seconds=1),
                **ids,
            )


def _services(host: str, minor: list[int]) -> tuple[ServiceObservation, ...]:
    certificate = Certificate(
        sha256=content_id("certificate", host) * 2,
        subject=f"CN={host}",
        issuer="CN=Bench CA",
        names=(host,),
        not_before=START - timedelta(days=30),
        not_after=START + timedelta(days=60),
        key_type="ec",
        key_bits=256,
        signature_hash="sha256",
    )
    web = HttpFacts(status=200, title=f"Host {host}", server=f"nginx/1.{minor[1]}.1")
    return (
        ServiceObservation(port=22, service="ssh", banner=f"SSH-2.0-OpenSSH_9.{minor[0]}p1 Debian-2+deb12u3\r\n", evidence=("banner",)),
        ServiceObservation(port=80, service="http", http=web, evidence=("http",)),
        ServiceObservation(
            port=443,
            service="https",
            http=web.model_copy(update={"server": f"nginx/1.{minor[2]}.1"}),
            tls=TlsFacts(version="TLSv1.3", cipher="TLS_AES_128_GCM_SHA256", certificate=certificate),
            evidence=("http", "tls"),
        ),
    )
