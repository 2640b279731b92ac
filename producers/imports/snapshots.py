"""A scanner's file as one look at a network: who was looked at, on which ports, and what was asked. Pure but for the items it is given."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace

from infra.core.errors import BadInput
from producers.imports.comparing import HostView, PortKey, PortView, Snapshot
from producers.imports.scanfile import Finish, HostSeen, Item, PortSeen, Rest, ScanInfo
from schemas.events.base import Transport
from schemas.portset import PortSets
from schemas.targeting import Span, parse_target, span_of

ELSEWHERE = ("-iL", "-iR", "--excludefile", "--exclude", "--resume")
MOST_HOSTS = 200_000
MOST_RESTS = 64
NOT_OPEN = frozenset({"closed", "filtered"})


@dataclass(frozen=True, slots=True)
class Stated:
    """What a person says was scanned, for files that don't say it (masscan's, naabu's)."""

    targets: tuple[Span, ...]
    ports: PortSets

    def view(self) -> HostView:
        """What is known of a target without an entry."""
        return HostView("", rest=tuple(Rest(kind, self.ports.of(kind), NOT_OPEN) for kind in Transport if self.ports.of(kind)))


def snapshot_of(label: str, items: Iterable[Item], stated: Stated | None = None) -> Snapshot:
    """All that a file says. Holds every host of it in memory: some 8 KB for one with a few services. Raises BadInput for too many."""
    info, total = ScanInfo("nmap"), None
    hosts: dict[str, HostView] = {}
    ports: dict[str, dict[PortKey, PortView]] = {}
    ran: set[str] = set()
    for item in items:
        if isinstance(item, ScanInfo):
            info = item
        elif isinstance(item, Finish):
            total = item.total if item.success else None
        else:
            ran.update(item.scripts, *(port.scripts for port in item.ports))
            known, own = hosts.get(item.address), ports.setdefault(item.address, {})
            view = _view(item, info)
            hosts[item.address] = _merged(known or replace(view, ports=own), own, view)
            if len(hosts) > MOST_HOSTS:
                raise BadInput(
                    f"{label} holds more than {MOST_HOSTS:,} hosts.", "A comparison holds both sides in memory: compare it in parts."
                )
    if stated is not None and not info.scanned:
        rest = stated.view()
        hosts = {
            address: replace(view, rest=view.rest + rest.rest) if _inside(address, stated) else view for address, view in hosts.items()
        }
        return Snapshot(label, hosts, stated.targets, rest, frozenset(ran), info.scanner)
    targets = targets_of(info.args, total) if info.scanner == "nmap" else ()
    return Snapshot(label, hosts, targets, _unlisted(info) if targets else None, frozenset(ran), info.scanner)


def _inside(address: str, stated: Stated) -> bool:
    span = span_of(address)
    return any(one.version == span.version and one.first <= span.first <= one.last for one in stated.targets)


def targets_of(args: str, total: int | None) -> tuple[Span, ...]:
    """The addresses of nmap's command line. Empty unless they are as many as nmap says it looked at: a list, a name or an exclusion more,
    and it is not known which hosts without an entry were looked at.
    """
    try:
        words = shlex.split(args)[1:]
    except ValueError:
        return ()
    if total is None or any(word.partition("=")[0] in ELSEWHERE for word in words):
        return ()
    spans = [(span, before.startswith("-")) for before, word in zip(["", *words], words, strict=False) if (span := _span(word)) is not None]
    for some in ([one for one, _ in spans], [one for one, behind_option in spans if not behind_option]):
        if some and sum(one.size for one in some) == total:
            return tuple(some)
    return ()


def _span(word: str) -> Span | None:
    try:
        parsed = parse_target(word) if not word.startswith("-") else None
    except ValueError:
        return None
    return parsed if isinstance(parsed, Span) else None


def _unlisted(info: ScanInfo) -> HostView:
    """What is known of a target without an entry: it was down; or, with --open, down or without an open port."""
    if "--open" not in info.args.split():
        return HostView("down")
    return HostView("", rest=tuple(Rest(kind, one.ports, NOT_OPEN) for kind, one in info.scanned.items()))


def _view(seen: HostSeen, info: ScanInfo) -> HostView:
    resolved = info.scanner == "nmap" and "-n" not in info.args.split() and seen.status == "up"
    return HostView(
        status=seen.status,
        ports={PortKey(one.transport, one.port): _port(one) for one in seen.ports},
        rest=seen.rest,
        names=seen.names if resolved else None,
        systems=frozenset(seen.systems),
        scripts=seen.scripts,
    )


def _port(seen: PortSeen) -> PortView:
    words = " ".join(filter(None, (seen.service, seen.product, seen.version, f"({seen.extra})" if seen.extra else "")))
    return PortView(frozenset({seen.state}), None if seen.guessed else words or seen.banner, seen.scripts)


def _merged(known: HostView, ports: dict[PortKey, PortView], view: HostView) -> HostView:
    """A host of which a file has several entries. masscan has one for each port, and another for its banner; what says more stays.

    `ports` are those of the known one, and are filled in place: a host that answers everywhere has 65,535 entries.
    """
    for key, port in view.ports.items():
        before = ports.get(key)
        if before is None or port.service is not None or port.states != {"open"}:
            ports[key] = port
    return replace(
        known,
        status=view.status or known.status,
        rest=known.rest if view.rest == known.rest else (known.rest + view.rest)[:MOST_RESTS],
        names=known.names if view.names is None else tuple(dict.fromkeys((*(known.names or ()), *view.names))),
        systems=known.systems | view.systems,
        scripts={**known.scripts, **view.scripts},
    )
