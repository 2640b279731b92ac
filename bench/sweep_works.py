"""What the sweeps of the benchmark look at: where something is open, and where nothing but silence is."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.sweep_peers import NAIVE_SAMPLE, Errand, Place
from bench.sweep_rig import GROUND, Rig

EVERY_HOST = tuple(f"198.18.{high}.{low}" for high in range(256) for low in range(256))
SEED = 4  # equal places in every run
SEND_NETWORK, SEND_HOSTS, SEND_PORTS = "198.18.0.0/24", 256, 3906


@dataclass(frozen=True, slots=True)
class Work:
    """A network to look at. `listen`: where its kernel listens; `networks`: the addresses that it has; `truth`: what is open."""

    name: str
    title: str
    target: str
    hosts: int
    first_port: int
    last_port: int
    listen: tuple[Place, ...]
    networks: tuple[str, ...]
    truth: frozenset[Place]
    sends_only: bool = False

    @property
    def probes(self) -> int:
        """How many (address, port) there are."""
        return self.hosts * (self.last_port - self.first_port + 1)

    @contextmanager
    def laid(self, folder: Path) -> Iterator[tuple[Rig, Errand]]:
        """The network, and the errand of who looks at it."""
        chance = random.Random(SEED)  # noqa: S311  a sample, not a secret
        sample = tuple(
            (chance.choice(EVERY_HOST[: self.hosts]), chance.randint(self.first_port, self.last_port)) for _ in range(NAIVE_SAMPLE)
        )
        with Rig(self.listen, self.networks) as rig:
            yield rig, Errand(self.target, self.first_port, self.last_port, self.probes, rig.gateway_mac, sample, folder, self.sends_only)


def works() -> tuple[Work, ...]:
    """The five of them. What is not open resets, but in a silent network."""
    chance = random.Random(SEED)  # noqa: S311
    few = tuple((address, 80) for address in chance.sample(EVERY_HOST, 1064))
    some = tuple(chance.sample([(address, port) for address in EVERY_HOST[:256] for port in range(1, 1001)], 581))
    return (
        Work(
            "answering",
            "65,536 answering hosts × 1 port",
            GROUND,
            65_536,
            80,
            80,
            (("0.0.0.0", 80),),
            (GROUND,),
            frozenset((one, 80) for one in EVERY_HOST),
        ),
        Work("few_open", "65,536 hosts × 1 port, 1,064 open", GROUND, 65_536, 80, 80, few, (GROUND,), frozenset(few)),
        Work("ports", "256 hosts × 1,000 ports, 581 open", "198.18.0.0/24", 256, 1, 1000, some, ("198.18.0.0/24",), frozenset(some)),
        Work("silent", "65,536 silent addresses × 1 port", GROUND, 65_536, 80, 80, (), (), frozenset()),
        Work(
            "sending",
            "sending only, 1,000,000 probes",
            SEND_NETWORK,
            SEND_HOSTS,
            1,
            SEND_PORTS,
            (),
            (),
            frozenset(),
            sends_only=True,
        ),
    )
