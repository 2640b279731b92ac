"""What differs between two looks at a network, of which each says what it looked at. Pure.

Rules: what one side did not look at is not compared, and so never called gone. Where a side only knows that a port is in one of several
states (nmap's `extraports` of mixed kinds, `--open`, a service that flaps), the two differ if no state is possible in both. The same holds
for guesses of the operating system. ndiff, the peer, has none of these rules and compares what it finds in the file.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from producers.imports.scanfile import Ranges, Rest
from schemas.events.base import Transport
from schemas.portset import holds, ranges, shared, show_ports, without
from schemas.targeting import Span


class PortKey(NamedTuple):
    """A port of a transport."""

    transport: Transport
    port: int


@dataclass(frozen=True, slots=True)
class PortView:
    """A port that was looked at: the states that are possible; the service if it was asked; the output of scripts."""

    states: frozenset[str]
    service: str | None = None
    scripts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HostView:
    """A host that was looked at. `status`: up, down or '' (not known). `names` is None where nobody asked for them."""

    status: str = ""
    ports: Mapping[PortKey, PortView] = field(default_factory=dict)
    rest: tuple[Rest, ...] = ()
    names: tuple[str, ...] | None = None
    systems: frozenset[str] = frozenset()
    scripts: Mapping[str, str] = field(default_factory=dict)

    def port(self, key: PortKey) -> PortView | None:
        """What is known of a port; None where it was not looked at."""
        named = self.ports.get(key)
        if named is not None:
            return named
        for rest in self.rest:
            if rest.transport is key.transport and holds(rest.ports, key.port):
                return PortView(rest.states)
        return None

    def spans(self) -> Iterator[Rest]:
        """The ports that are not named, without those that are."""
        for rest in self.rest:
            left = without(rest.ports, ranges(one.port for one in self.ports if one.transport is rest.transport))
            if left:
                yield replace(rest, ports=left)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A look at a network. `targets` were looked at as well, and `unlisted` is what is known of those without an entry.

    `scripts`: which ran. `words`: in whose words services are told; in different words they can't be compared.
    """

    label: str
    hosts: Mapping[str, HostView]
    targets: tuple[Span, ...] = ()
    unlisted: HostView | None = None
    scripts: frozenset[str] = frozenset()
    words: str = "nmap"

    def view(self, address: str) -> HostView | None:
        """What is known of a host; None where it was not looked at."""
        known = self.hosts.get(address)
        if known is not None or self.unlisted is None:
            return known
        parsed = ipaddress.ip_address(address)
        inside = any(one.version == parsed.version and one.first <= int(parsed) <= one.last for one in self.targets)
        return self.unlisted if inside else None


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that was one way and is another. `port` is '' for the host; `what`: host, state, service, names, os, `script NAME`."""

    host: str
    port: str
    what: str
    was: str
    now: str


@dataclass(frozen=True, slots=True)
class Unseen:
    """What one side knows and the other did not look at. `port` '': the whole host.

    `only` is `was` or `is`, `state` what that side saw.
    """

    host: str
    port: str
    only: str
    state: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """All that differs, by host and port, and what could not be compared."""

    differences: tuple[Difference, ...]
    unseen: tuple[Unseen, ...]


def compare(was: Snapshot, now: Snapshot) -> Comparison:
    """The differences. A snapshot compared with itself has none; swapped sides give the same with `was` and `now` swapped."""
    found: list[Difference] = []
    unseen: list[Unseen] = []
    for address in sorted(was.hosts.keys() | now.hosts.keys(), key=_order):
        before, after = was.view(address), now.view(address)
        if before is None or after is None:
            unseen += [Unseen(address, "", side, _status(one)) for side, one in (("was", before), ("is", after)) if one is not None]
            continue
        if before == after:
            continue  # as most are
        found += _host(address, before, after)
        if before.status == after.status == "up":
            found += _scripts(address, "", before.scripts, after.scripts, was.scripts & now.scripts)
        found += _spans(address, before, after)
        for key in sorted(before.ports.keys() | after.ports.keys()):
            one, other = before.port(key), after.port(key)
            if one is None or other is None:
                unseen += [Unseen(address, show(key), side, _words(it)) for side, it in (("was", one), ("is", other)) if it is not None]
                continue
            found += _port(address, show(key), one, other, was.words == now.words)
            if not one.states.isdisjoint(other.states):
                found += _scripts(address, show(key), one.scripts, other.scripts, was.scripts & now.scripts)
    return Comparison(tuple(found), tuple(unseen))


def show(key: PortKey) -> str:
    """`tcp/22`."""
    return f"{key.transport.value}/{key.port}"


def _order(address: str) -> tuple[int, int]:
    parsed = ipaddress.ip_address(address)
    return parsed.version, int(parsed)


def _host(address: str, before: HostView, after: HostView) -> Iterator[Difference]:
    """Whether it is up, what it is called, and what it may run: each only where both sides know."""
    if before.status and after.status and before.status != after.status:
        yield Difference(address, "", "host", _status(before), _status(after))
    if before.names is not None and after.names is not None and set(before.names) != set(after.names):
        yield Difference(address, "", "names", ", ".join(sorted(before.names)), ", ".join(sorted(after.names)))
    if before.systems and after.systems and before.systems.isdisjoint(after.systems):
        yield Difference(address, "", "os", " or ".join(sorted(before.systems)), " or ".join(sorted(after.systems)))


def _status(view: HostView) -> str:
    """Up or down, with the ports that were open: where the host is gone they are not looked at one by one."""
    open_ports = [key for key, port in sorted(view.ports.items()) if port.states == {"open"}]
    words = [
        f"{kind.value}/{show_ports(ranges(key.port for key in open_ports if key.transport is kind))}"
        for kind in Transport
        if any(key.transport is kind for key in open_ports)
    ]
    return " ".join(filter(None, (view.status, f"(open: {' '.join(words)})" if words else "")))


def _spans(address: str, before: HostView, after: HostView) -> Iterator[Difference]:
    """Ports that neither side names, such as 997 that were closed and are filtered."""
    merged: dict[tuple[Transport, str, str], list[Ranges]] = {}
    for one in before.spans():
        for other in after.spans():
            if one.transport is not other.transport or not one.states.isdisjoint(other.states):
                continue
            both = shared(one.ports, other.ports)
            if both:
                merged.setdefault((one.transport, _states(one.states), _states(other.states)), []).append(both)
    for (transport, was, now), several in sorted(merged.items()):
        ports = show_ports(ranges(port for some in several for span in some for port in range(span.first, span.last + 1)))
        yield Difference(address, f"{transport.value}/{ports}", "state", was, now)


def _port(address: str, port: str, before: PortView, after: PortView, same_words: bool) -> Iterator[Difference]:
    if before.states.isdisjoint(after.states):
        yield Difference(address, port, "state", _words(before), _words(after))
    elif same_words and before.service is not None and after.service is not None and before.service != after.service:
        yield Difference(address, port, "service", before.service, after.service)


def _words(view: PortView) -> str:
    return " ".join(filter(None, (_states(view.states), view.service)))


def _states(states: frozenset[str]) -> str:
    return " or ".join(sorted(states))


def _scripts(address: str, port: str, before: Mapping[str, str], after: Mapping[str, str], ran: frozenset[str]) -> Iterator[Difference]:
    """The output of scripts that ran on both sides; one that printed nothing has no output."""
    for name in sorted(ran & (before.keys() | after.keys())):
        was, now = before.get(name, ""), after.get(name, "")
        if was != now:
            yield Difference(address, port, f"script {name}", was, now)
