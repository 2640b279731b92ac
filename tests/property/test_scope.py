"""The rules of scope against a slow and obvious reading of them."""

from __future__ import annotations

import ipaddress
from datetime import timedelta

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.scan.scope.mask import column_of, compile_mask
from processors.scan.scope.orders import Orders
from schemas.events.grants import Command, CommandKind, Grant, Window
from schemas.scope import TRANSLATED, Ask, GrantBook, KnownGrant, barred_networks, in_window, networks_of
from schemas.signing import distrust
from tests.grant_examples import NIGHTS, NOW, SIGNER, grant

BASE = int(ipaddress.ip_address("198.18.0.0"))
networks = st.builds(
    lambda number, bits: str(ipaddress.ip_network((BASE + number, bits), strict=False)),
    st.integers(0, 63),
    st.sampled_from((26, 28, 31, 32)),
)
revisions = st.builds(
    lambda name, revision, nets, holes, ports, revoked, zone, window, days: grant(
        name,
        tuple(nets),
        exclusions=tuple(holes),
        ports=ports,
        revision=revision,
        revoked=revoked,
        zones=(zone,),
        windows=window,
        expires_at=NOW + timedelta(days=days),
    ),
    st.sampled_from(("a", "b", "c")),
    st.integers(1, 3),
    st.lists(networks, min_size=1, max_size=2),
    st.lists(networks, max_size=1),
    st.sampled_from(("1-100", "22", "80-81")),
    st.booleans(),
    st.sampled_from(("default", "default", "dmz")),
    st.sampled_from(((), (), (NIGHTS,))),
    st.sampled_from((1, 1, 0)),
)
logs = st.lists(revisions, max_size=6, unique_by=lambda one: (one.grant_id, one.revision))


def fold(log: list[Grant]) -> GrantBook:
    book = GrantBook((SIGNER,))
    for one in log:
        book.learn(one)
    return book


def latest(log: list[Grant]) -> dict[str, Grant]:
    found: dict[str, Grant] = {}
    for one in log:
        if one.grant_id not in found or one.revision > found[one.grant_id].revision:
            found[one.grant_id] = one
    return found


def allowed(log: list[Grant], grant_id: str, address: str, ask: Ask) -> bool:
    """Scope as DESIGN.md says it, without any cleverness."""
    current = latest(log)
    ip = ipaddress.ip_address(address)
    counting = [one for one in current.values() if not one.revoked and "default" in one.zones and one.valid_from <= NOW < one.expires_at]
    mine = next((one for one in counting if one.grant_id == grant_id), None)
    if mine is None or any(ip in ipaddress.ip_network(hole) for one in counting for hole in one.exclusions):
        return False
    in_time = not mine.windows or any(NOW.weekday() in one.weekdays and one.from_minute <= 720 < one.to_minute for one in mine.windows)
    inside = any(ip in ipaddress.ip_network(network) for network in mine.networks)
    return in_time and inside and any(span.first <= ask.port <= span.last for span in mine.tcp_ports)


@settings(deadline=None)
@given(logs, st.sampled_from(("a", "b", "c", "d")), st.integers(0, 70), st.sampled_from((22, 80, 101)))
def test_a_packet_is_covered_just_where_the_rules_say(log: list[Grant], grant_id: str, number: int, port: int) -> None:
    address = str(ipaddress.ip_address(BASE + number))
    refusal = fold(log).refusal("default", grant_id, address, Ask("tcp", port), NOW)
    assert (refusal is None) == allowed(log, grant_id, address, Ask("tcp", port))
    assert refusal != ""


@settings(deadline=None)
@given(logs, st.randoms(use_true_random=False), st.integers(1, 3))
def test_the_order_and_repetition_of_records_change_nothing(log: list[Grant], random: object, times: int) -> None:
    shuffled = log * times
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert {name: one.grant for name, one in fold(shuffled).known.items()} == latest(log)


@settings(deadline=None)
@given(logs)
def test_a_replay_from_the_beginning_revives_nothing(log: list[Grant]) -> None:
    book = fold(log)
    before = {name: one.grant for name, one in book.known.items()}
    again = GrantBook((SIGNER,), floors=dict(book.floors))
    for one in [*log, *log]:
        book.learn(one)
        again.learn(one)
    assert {name: one.grant for name, one in book.known.items()} == before
    assert {name: one.grant for name, one in again.known.items()} == before
    lower = [one for one in log if one.revision < book.floors[one.grant_id]]
    emptied = GrantBook((SIGNER,), floors=dict(book.floors))
    assert all(emptied.learn(one) for one in lower)
    assert emptied.known == {}


@settings(deadline=None)
@given(revisions, st.sampled_from(sorted(Grant.model_fields)), st.data())
def test_any_change_of_a_signed_grant_is_noticed(made: Grant, field: str, data: st.DataObject) -> None:
    assert distrust(made, (SIGNER,)) is None
    other = data.draw(revisions)
    changed = made.model_copy(update={field: getattr(other, field)})
    if changed != made:
        assert distrust(changed, (SIGNER,)) is not None


@settings(deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1), st.integers(0, 1439), st.integers(1, 1440), st.integers(0, 7 * 1440 - 1))
def test_windows_open_and_close_on_their_minutes(days: list[int], begin: int, length: int, minute: int) -> None:
    window = Window(weekdays=tuple(days), from_minute=begin, to_minute=min(1440, begin + length))
    monday = NOW.replace(hour=0) - timedelta(days=NOW.weekday())
    moment = monday + timedelta(minutes=minute)
    expected = minute // 1440 in days and begin <= minute % 1440 < window.to_minute
    assert in_window((window,), moment) == expected


def test_a_signer_grants_only_its_networks() -> None:
    assert distrust(grant(networks=("198.18.0.0/15", "2001:db8::/48")), (SIGNER,)) is None
    for network in ("198.0.0.0/8", "10.0.0.0/8", "2001::/16", "nonsense", "198.18.0.1/15"):
        assert distrust(grant(networks=("198.18.0.0/16", network)), (SIGNER,)) is not None
    assert distrust(grant(), ()) == "nobody here trusts a signer named 'tester'"


@given(st.integers(0, (1 << 32) - 1), st.integers(8, 32), st.integers(0, (1 << 32) - 1), st.sampled_from(TRANSLATED))
def test_what_leads_to_an_excluded_ipv4_address_is_excluded(hole: int, bits: int, low: int, way: ipaddress.IPv6Network) -> None:
    excluded_network = ipaddress.ip_network((hole, bits), strict=False)
    inside = low & ((1 << 32 - bits) - 1) | int(excluded_network.network_address)
    book, one = GrantBook(()), grant("a", (str(way),), exclusions=(str(excluded_network),))
    book.known["a"] = KnownGrant(one, networks_of(one.networks), barred_networks(one.exclusions))
    ask = Ask("tcp", 22)
    for number in (inside, low):
        address = ipaddress.IPv6Address(int(way.network_address) | number << 96 - way.prefixlen)
        refused = book.refusal("default", "a", str(address), ask, NOW) is not None
        assert refused == (ipaddress.IPv4Address(number) in excluded_network or address.ipv4_mapped is not None)
        mask = compile_mask(book, "default", "a", NOW).allows(column_of([int(address)], 6), np.array([22], dtype=np.uint16))
        assert bool(mask[0]) != refused
        order = Command(agent_id="*", kind=CommandKind.FREEZE, networks=(str(excluded_network),), issued_by="alice", issued_at=NOW)
        frozen = Orders().after(order, "agent")
        assert frozen.freezes(str(address)) == (ipaddress.IPv4Address(number) in excluded_network)
