"""One recorded log of `probes`, made from a seed: openings, closings, doubtful silence, certificate swaps, flaps, losses."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from schemas.events.observations import HostObservation, ServiceObservation, SweepResult
from tests.sightings import http, observation, service, sweep, tls

PORTS = (22, 80, 443)


@dataclass(frozen=True)
class Unit:
    """What one unit published in one transaction. An aborted one must count nowhere."""

    subnet: str
    events: tuple[SweepResult | HostObservation, ...]
    aborted: bool


def recorded_log(seed: int, subnets: int, rounds: int) -> Iterator[Unit]:
    """Units in the order of time: every subnet is looked at once a round, two minutes apart."""
    dice = random.Random(seed)  # noqa: S311  repeatable, not secret
    for number in range(rounds):
        for which in range(subnets):
            yield _unit(dice, f"198.18.{which}.0/24", f"198.18.{which}.", 60 + number * 120 + which, f"u{number}-{which}")


def _unit(dice: random.Random, subnet: str, prefix: str, now: float, name: str) -> Unit:
    answered: dict[str, Iterable[int]] = {}
    closed: dict[str, str] = {}
    unreachable: dict[str, str] = {}
    seen = []
    hosts = [f"{prefix}{last}" for last in range(1, 7)]
    for last, host in enumerate(hosts):
        mood = dice.random()
        if mood < 0.2 or (last == 5 and dice.random() < 0.6):
            continue  # silent; the last host is so most of the time, and flaps
        if mood < 0.25:
            unreachable[host] = "1-1000"
            continue
        ports = [port for port in PORTS if dice.random() < 0.75]
        if ports:
            answered[host] = ports
            seen.append(observation(name, now + 1, *(_service(dice, port) for port in ports), address=host, subnet=subnet))
        shut = [port for port in PORTS if port not in ports and dice.random() < 0.7]
        if shut:
            closed[host] = ",".join(map(str, shut))
    recall = dice.choice([0.99, 0.99, 0.99, 0.5])
    looked = sweep(name, now, answered, closed=closed, unreachable=unreachable, probed=hosts, recall=recall, subnet=subnet)
    return Unit(subnet, (looked, *seen), aborted=dice.random() < 0.05)


def _service(dice: random.Random, port: int) -> ServiceObservation:
    if port == 22:
        return service(22, banner=f"SSH-2.0-OpenSSH_9.{dice.choice('2227')}p1 Debian-2+deb12u3\r\n", evidence=("banner",))
    server = http(f"nginx/1.{dice.choice(['22', '22', '24'])}.1", headers={"date": str(dice.random())})
    return service(port, http=server, tls=tls(dice.choice(["aa", "aa", "bb"])) if port == 443 else None, evidence=("http",))
