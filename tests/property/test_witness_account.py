"""An account loses and doubles no packet, whatever comes in whatever order, and says it in few words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_address

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.scan.scope.mask import column_of
from processors.scan.witness.account import TOLD, Account, Packets
from processors.scan.witness.summary import CODES, KINDS, MOST_RANGES
from schemas.events.touches import PacketKind, Touch
from schemas.portset import expand

HOSTS4 = tuple(f"198.18.1.{number}" for number in (0, 1, 2, 3, 7, 255))
HOSTS6 = tuple(f"2001:db8::{number}" for number in ("", "1", "2", "100", "ffff:0"))
Row = tuple[int, PacketKind, int, int, float]
ROWS = st.lists(
    st.tuples(
        st.integers(0, 7),  # which host; the last are none of the account's
        st.sampled_from(tuple(PacketKind)),
        st.sampled_from((0, 1, 2, 3, 80, 65_535)),
        st.sampled_from((TOLD, 3)),
        st.floats(0, 1e9),
    ),
    max_size=60,
)
Counted = Counter[tuple[str, PacketKind, int]]


def packets(rows: list[Row], hosts: tuple[str, ...]) -> Packets:
    version = ip_address(hosts[0]).version
    others = ("203.0.113.9", "198.18.1.4") if version == 4 else ("2001:db9::1", "2001:db8::3")
    numbers = [int(ip_address((*hosts, *others)[host % (len(hosts) + 2)])) for host, *_ in rows]
    return Packets(
        column_of(numbers, version),
        np.array([CODES[kind] for _, kind, *_ in rows], dtype=np.uint8),
        np.array([port for _, _, port, *_ in rows], dtype=np.uint16),
        np.array([interface for *_, interface, _ in rows], dtype=np.int32),
        np.array([at for *_, at in rows], dtype=np.float64),
    )


def spelt_out(touches: tuple[Touch, ...]) -> Counted:
    """Every packet of the entries by itself."""
    found: Counted = Counter()
    for one in touches:
        ports = expand(one.ports) or (0,)
        assert one.every_port
        assert one.packets % len(ports) == 0
        for number in range(int(ip_address(one.first)), int(ip_address(one.last)) + 1):
            make = type(ip_address(one.first))
            for port in ports:
                found[str(make(number)), one.kind, port] += one.packets // len(ports)
    return found


def told(account: Account, route_to: Callable[[str], int]) -> tuple[Touch, ...]:
    return account.told(account.take(), route_to)


def never(_: str) -> int:
    raise AssertionError("one interface needs no route")


@pytest.mark.parametrize("hosts", [HOSTS4, HOSTS6], ids=["IPv4", "IPv6"])
@given(parts=st.lists(ROWS, max_size=4))
def test_what_is_told_is_what_was_added(hosts: tuple[str, ...], parts: list[list[Row]]) -> None:
    account, expected = Account(hosts), Counter[tuple[str, PacketKind, int]]()
    for rows in parts:
        ours = account.add(packets(rows, hosts))
        for row, mine in zip(rows, ours, strict=True):
            place = row[0] % (len(hosts) + 2)
            assert mine == (place < len(hosts))
            if mine:
                expected[hosts[place], row[1], row[2]] += 1
    assert spelt_out(told(account, never)) == expected
    assert told(account, never) == ()


@given(ROWS.filter(bool))
def test_times_enclose_all_packets(rows: list[Row]) -> None:
    account = Account(HOSTS4)
    ours = account.add(packets(rows, HOSTS4))
    times = [row[4] for row, mine in zip(rows, ours, strict=True) if mine]
    touches = told(account, never)
    if times:
        low, high = (datetime.fromtimestamp(one, UTC).replace(microsecond=0) for one in (min(times), max(times)))
        assert min(one.first_at for one in touches).replace(microsecond=0) == low
        assert max(one.last_at for one in touches).replace(microsecond=0) == high


def test_a_subnet_that_got_the_same_is_one_entry() -> None:
    hosts = tuple(f"198.18.1.{number}" for number in range(256))
    account = Account(hosts)
    addresses = np.repeat(column_of((int(ip_address(one)) for one in hosts), 4), 1000)
    account.sent(addresses, np.tile(np.arange(1, 1001, dtype=np.uint16), 256), PacketKind.TCP, 5.0)
    (one,) = told(account, never)
    assert (one.first, one.last, one.packets, [(span.first, span.last) for span in one.ports]) == (hosts[0], hosts[-1], 1000, [(1, 1000)])


@settings(max_examples=20)
@given(st.sets(st.integers(1, 65_535), min_size=MOST_RANGES * 3, max_size=300))
def test_too_many_ports_in_no_order_are_told_as_a_span_with_the_right_sum(ports: set[int]) -> None:
    account = Account(("198.18.1.1",))
    column = np.array(sorted(ports), dtype=np.uint16)
    account.sent(np.full(len(column), int(ip_address("198.18.1.1")), dtype=np.uint32), column, PacketKind.TCP, 5.0)
    touches = told(account, never)
    assert sum(one.packets for one in touches) == len(ports)
    assert len(touches) == 1
    low, high = touches[0].ports[0].first, touches[0].ports[-1].last
    assert (low, high) == (min(ports), max(ports))


def test_a_packet_seen_on_a_vlan_and_on_the_card_below_counts_once() -> None:
    account = Account(HOSTS4)
    card, vlan = 2, 9
    rows: list[Row] = [(0, PacketKind.TCP, 80, interface, 1.0) for interface in (vlan, card)]
    rows += [(1, PacketKind.TCP, 80, card, 1.0), (0, PacketKind.TCP, 80, TOLD, 1.0)]
    account.add(packets(rows, HOSTS4))
    assert spelt_out(told(account, lambda _: vlan)) == {(HOSTS4[0], PacketKind.TCP, 80): 2, (HOSTS4[1], PacketKind.TCP, 80): 1}
    assert account.exact


def test_without_a_route_nothing_is_left_out_and_the_account_says_that_it_is_not_exact() -> None:
    def none(_: str) -> int:
        raise OSError("no route")

    account = Account(HOSTS4)
    account.add(packets([(0, PacketKind.TCP, 80, interface, 1.0) for interface in (2, 9)], HOSTS4))
    assert sum(one.packets for one in told(account, none)) == 2
    assert not account.exact


def test_what_left_before_an_account_was_opened_is_not_its_own() -> None:
    account = Account(HOSTS4, since=10.0)
    early, late = ((0, PacketKind.TCP, 80, 3, at) for at in (9.0, 11.0))
    assert account.add(packets([early, late], HOSTS4)).tolist() == [False, True]
    assert {KINDS[CODES[one]] for one in PacketKind} == set(PacketKind)
