"""A member of a snapshot: one network or address with its owner, criticality and expected services. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from schemas.events.context import NOTHING, Criticality

EXPECTED = re.compile(r"(tcp|udp)/([0-9]{1,5})")
ORDER = tuple(Criticality)
OWNER, CRITICALITY, EXPECTATION = ("owner", "team"), ("criticality",), ("expected",)
MOST_TAGS, MOST_TEXT = 32, 200


@dataclass(frozen=True, slots=True)
class Member:
    """One network (an address without its length) that a source knows. `target`: whether it is something to look at."""

    network: str
    owner: str = ""
    criticality: Criticality = Criticality.NORMAL
    tags: tuple[str, ...] = ()
    expected: tuple[str, ...] = ()
    target: bool = True


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All members of a source, by network. `left_out` says in words what the source lists and has no address."""

    members: Mapping[str, Member]
    left_out: tuple[str, ...] = ()


def network_text(text: str) -> str:
    """A network as keys are written: RFC 5952, an address alone without its length. Raises ValueError, also for host bits."""
    network = ipaddress.ip_network(text.strip())
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def address_text(text: str) -> str:
    """The address of `198.18.0.7/24` or `198.18.0.7`. Raises ValueError."""
    interface = ipaddress.ip_interface(text.strip())
    if getattr(interface, "scope_id", None):
        raise ValueError("an address that names an interface means nothing elsewhere")
    return str(interface.ip)


def expected_services(text: str) -> tuple[str, ...]:
    """`tcp/443 udp/53`, or `none` alone, as the rules compare them. Raises ValueError for anything else."""
    found, words = [], text.replace(",", " ").split()
    if [word.lower() for word in words] == [NOTHING]:
        return (NOTHING,)
    for word in words:
        match = EXPECTED.fullmatch(word.lower())
        if match is None or not 1 <= int(match[2]) <= 65535:
            raise ValueError(f"'{word[:40]}' is no service such as tcp/443, nor is it '{NOTHING}' alone")
        found.append(f"{match[1]}/{int(match[2])}")
    return tuple(sorted(set(found)))


def said_by(labels: Mapping[str, str], names: Iterable[str]) -> str:
    """The value of the first of these names among labels or tags, whatever their case and prefix (`example.org/owner`)."""
    plain = {key.rpartition("/")[2].lower(): value for key, value in sorted(labels.items(), reverse=True)}
    return next((plain[name].strip() for name in names if plain.get(name, "").strip()), "")


def labelled(network: str, labels: Mapping[str, str], tags: Iterable[str] = (), owner: str = "", target: bool = True) -> Member:
    """A member with what its labels say of it. Raises ValueError for a criticality or an expected service that there is not."""
    tags = [*tags]
    "".join((said_by(labels, OWNER), owner, *tags)).encode()  # raises what no record can hold: half of a surrogate pair
    criticality = said_by(labels, CRITICALITY).lower() or Criticality.NORMAL.value
    if criticality not in list(Criticality):
        raise ValueError(f"'{criticality[:40]}' is no criticality: there are {', '.join(Criticality)}")
    return Member(
        network=network,
        owner=(said_by(labels, OWNER) or owner)[:MOST_TEXT],
        criticality=Criticality(criticality),
        tags=tuple(sorted({tag[:MOST_TEXT] for tag in tags if tag})[:MOST_TAGS]),
        expected=expected_services(said_by(labels, EXPECTATION)),
        target=target,
    )


def together(members: Iterable[Member]) -> dict[str, Member]:
    """By network; where a source says two things of one, the first owner, the highest criticality, and all tags and services."""
    found: dict[str, Member] = {}
    for one in members:
        known = found.get(one.network)
        if known is None:
            found[one.network] = one
            continue
        found[one.network] = replace(
            known,
            owner=known.owner or one.owner,
            criticality=max(known.criticality, one.criticality, key=ORDER.index),
            tags=tuple(sorted({*known.tags, *one.tags})[:MOST_TAGS]),
            expected=tuple(sorted({*known.expected, *one.expected})),
            target=known.target or one.target,
        )
    return found
