"""When a host that answered has stopped answering while it is probed (DESIGN.md 4.4). Pure; times are monotonic seconds.

A known-open port of the host is asked again now and then, and soon again where it does not answer. How many times it must stay silent
depends on the loss that is seen elsewhere: chance alone should explain it once in a million. All hosts silent at once are no excuse:
the way to them may have broken under the load, which is an impact too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

EVERY_SECONDS = 5.0  # between two asks of a host that answers
AGAIN_SECONDS = (1.0, 2.0)  # after its first silence, and after each that follows
LEAST_SILENCES = 4  # over six seconds: a short loss is no impact
BY_CHANCE = 1e-6
LEAST_LOSS = 0.01


@dataclass(frozen=True, slots=True)
class Suspect:
    """A host that stopped answering on this port, and how often in a row it was asked in vain."""

    address: str
    port: int
    silences: int


@dataclass(slots=True)
class _Host:
    port: int
    asked_at: float
    packets: int = 0
    silences: int = 0
    last_time: bool = False


class Vigil:
    """Hosts that answered once and are being probed. Ask those that are `due`, and `note` what they say."""

    def __init__(self) -> None:
        self._hosts: dict[str, _Host] = {}
        self._answers = self._passing = 0
        self._loss = 0.0

    def watch(self, address: str, port: int, now: float) -> None:
        """This host answered on this port now. Its first port stays the one that is asked."""
        self._hosts.setdefault(address, _Host(port, now))

    def drop(self, address: str) -> None:
        """This host can't be asked any more."""
        self._hosts.pop(address, None)

    def end(self, most: int, sent: Mapping[str, int]) -> None:
        """Nothing more is sent: so many hosts, those that got the most since they were asked, are to answer once more; and the silent."""
        quiet = sorted((address for address, host in self._hosts.items() if not host.silences), key=lambda one: self._since(one, sent))
        for address in quiet[: max(0, len(quiet) - most)]:
            del self._hosts[address]
        for host in self._hosts.values():
            host.last_time = True

    def expect(self, loss: float) -> None:
        """The share of probes or answers that are lost on the way, 0 to 1, as far as a sweep could tell."""
        self._loss = loss

    def due(self, now: float, most: int, sent: Mapping[str, int]) -> list[tuple[str, int]]:
        """Up to so many hosts to ask now, each with its port. `sent`: packets to each so far.

        First those that fell silent, then those that got the most since they were asked, then those asked longest ago.
        """
        waiting = [
            (-host.silences, -self._since(address, sent), host.asked_at, address)
            for address, host in self._hosts.items()
            if now >= _due_at(host)
        ]
        found = [address for *_, address in sorted(waiting)[:most]]
        for address in found:
            self._hosts[address].asked_at, self._hosts[address].packets = now, sent.get(address, 0)
        return [(address, self._hosts[address].port) for address in found]

    def _since(self, address: str, sent: Mapping[str, int]) -> int:
        """Packets since the host was last asked."""
        return sent.get(address, 0) - self._hosts[address].packets

    def note(self, address: str, answered: bool) -> None:
        """What became of an ask. An answer shows that the silences before it were losses."""
        host = self._hosts.get(address)
        if host is None:
            return
        if not answered:
            host.silences += 1
            return
        self._answers, self._passing, host.silences = self._answers + 1, self._passing + host.silences, 0
        if host.last_time:
            del self._hosts[address]

    def watching(self) -> bool:
        """Whether any host is left."""
        return bool(self._hosts)

    def suspects(self) -> tuple[Suspect, ...]:
        """The hosts that were silent more often than loss explains."""
        needed = needed_silences(max(self._loss, self._passing / (self._answers + self._passing + 10)))
        return tuple(Suspect(address, host.port, host.silences) for address, host in self._hosts.items() if host.silences >= needed)


def needed_silences(loss: float) -> int:
    """How many silences in a row chance explains only once in a million, where an ask is lost with this probability."""
    loss = min(max(loss, LEAST_LOSS), 0.9)
    return max(LEAST_SILENCES, math.ceil(math.log(BY_CHANCE) / math.log(loss)))


def reason_of(suspects: tuple[Suspect, ...]) -> str:
    """Why the subnet is halted, in words."""
    first = suspects[0]
    more = f", and {len(suspects) - 1} more" if len(suspects) > 1 else ""
    return (
        f"suspected_impact: {first.address} stopped answering on tcp/{first.port} while it was probed ({first.silences} asks in vain){more}"
    )


def _due_at(host: _Host) -> float:
    if host.silences:
        return host.asked_at + AGAIN_SECONDS[min(host.silences, len(AGAIN_SECONDS)) - 1]
    return host.asked_at + (0.0 if host.last_time else EVERY_SECONDS)
