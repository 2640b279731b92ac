"""The mask of arrays against the rule for one packet, over random grants, exclusions, addresses and ports."""

from __future__ import annotations

import ipaddress
from typing import Literal

import numpy as np
import pytest

from processors.scan.scope.mask import column_of, compile_mask
from schemas.events.base import PortRange
from schemas.ids import Network
from schemas.scope import Ask, GrantBook, KnownGrant, excluded, networks_of, outside
from tests.grant_examples import NOW, grant

KINDS: tuple[Literal["tcp", "udp", "icmp"], ...] = ("tcp", "tcp", "udp", "icmp")
EDGES = ((4, int(ipaddress.ip_address("198.18.0.0")), 12), (6, int(ipaddress.ip_address("2001:db8:18::")), 12), (6, 0xFFFF_C612_0000, 12))


def random_book(dice: np.random.Generator) -> GrantBook:
    """Two or three grants with networks and holes of all sizes around the same places, some not valid, some of another zone."""
    book = GrantBook(())
    for name in "abc"[: int(dice.integers(1, 4))]:
        nets, holes = ([random_network(dice) for _ in range(int(dice.integers(low, 5)))] for low in (1, 0))
        ports, udp_ports = (random_ports(dice) for _ in range(2))
        one = grant(name, tuple(sorted({str(net) for net in nets})), exclusions=tuple(sorted({str(net) for net in holes})))
        one = one.model_copy(
            update={
                "tcp_ports": ports,
                "udp_ports": udp_ports,
                "zones": ("default",) if dice.random() < 0.8 else ("dmz",),
                "icmp": bool(dice.integers(2)),
            }
        )
        book.known[name] = KnownGrant(one, networks_of(one.networks), networks_of(one.exclusions))
    return book


def random_ports(dice: np.random.Generator) -> tuple[PortRange, ...]:
    first = int(dice.integers(1, 65_000))
    return (PortRange(first=first, last=min(65_535, first + int(dice.integers(0, 3_000)))),)


def random_network(dice: np.random.Generator) -> Network:
    version, base, bits = EDGES[int(dice.integers(len(EDGES)))]
    size = 32 if version == 4 else 128
    number = base + int(dice.integers(1 << bits))
    text = ipaddress.IPv4Address(number) if version == 4 else ipaddress.IPv6Address(number)
    return ipaddress.ip_network((text, size - int(dice.integers(0, bits + 2))), strict=False)


def reference(book: GrantBook, grant_id: str, number: int, version: int, ask: Ask) -> bool:
    """The rule for one packet, as the gate asks it."""
    address = ipaddress.IPv4Address(number) if version == 4 else ipaddress.IPv6Address(number)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return False
    covered = outside(book.known[grant_id], address, ask) is None
    return covered and not excluded(address, book.of_zone("default", NOW))


def compare(dice: np.random.Generator, cases: int) -> tuple[int, int]:
    """How many cases of one random book were compared and how many were allowed. Fails at the first that differs."""
    book = random_book(dice)
    grant_id = sorted(book.known)[int(dice.integers(len(book.known)))]
    mask = compile_mask(book, "default", grant_id, NOW)
    version, base, bits = EDGES[int(dice.integers(len(EDGES)))]
    numbers = [base + int(one) for one in dice.integers(-16, (1 << bits) + 16, cases)]
    kind = KINDS[int(dice.integers(len(KINDS)))]
    granted = book.known[grant_id].grant
    span = (granted.udp_ports if kind == "udp" else granted.tcp_ports)[0]
    ports = np.clip(dice.integers(span.first - 5, span.last + 6, cases), 0, 65_535).astype(np.uint16)
    found = mask.allows(column_of(numbers, version), ports, kind)
    pairs = zip(numbers, ports, strict=True)
    wanted = np.array([reference(book, grant_id, number, version, Ask(kind, int(port))) for number, port in pairs])
    wrong = np.flatnonzero(found != wanted)
    assert not len(wrong), (kind, version, numbers[wrong[0]], int(ports[wrong[0]]), bool(found[wrong[0]]), book.known)
    return cases, int(found.sum())


@pytest.mark.parametrize("seed", range(4))
def test_the_mask_says_what_the_rule_says(seed: int) -> None:
    dice = np.random.default_rng(seed)
    compared, allowed = np.sum([compare(dice, 200) for _ in range(150)], axis=0)
    assert compared == 30_000
    assert 0.02 < allowed / compared < 0.98, "the cases must be of both kinds"


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_ten_million_cases() -> None:
    dice = np.random.default_rng(20261121)
    compared = sum(compare(dice, 1_000)[0] for _ in range(10_000))
    assert compared == 10_000_000


def test_icmp_needs_leave_and_an_unknown_grant_allows_nothing() -> None:
    book = random_book(np.random.default_rng(1))
    name = min(book.known)
    addresses = column_of([int(one.network_address) for one in book.known[name].networks if one.version == 4], 4)
    ports = np.zeros(len(addresses), dtype=np.uint16)
    allowed = compile_mask(book, "default", name, NOW).allows(addresses, ports, "icmp").any()
    assert bool(allowed) <= book.known[name].grant.icmp
    assert not compile_mask(book, "default", "nosuch", NOW).allows(addresses, ports, "icmp").any()
