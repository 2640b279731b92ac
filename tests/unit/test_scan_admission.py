"""The gate: what it refuses, what halts it, and how fast it lets packets through."""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.core.clock import uptime
from processors.scan.scope.admission import ScannerGate, UnitGate
from processors.scan.scope.gate import Halted, OutOfScope
from processors.scan.scope.mask import column_of
from processors.scan.scope.orders import EVERYTHING, Orders
from schemas.events.grants import Grant, Intensity
from schemas.events.targets import WorkUnit
from schemas.scope import Ask, GrantBook
from schemas.signing import TrustedSigner
from tests.scan_samples import SIGNER, make_grant, make_unit, scan_settings

TRUSTED = (TrustedSigner(SIGNER.name, SIGNER.public_key, SIGNER.networks),)


@dataclass
class Rules:
    book: GrantBook = field(default_factory=lambda: GrantBook(TRUSTED))
    orders: Orders = field(default_factory=Orders)
    fresh_at: float = field(default_factory=uptime)


class Clock:
    def __init__(self) -> None:
        self.seconds, self.wall = uptime(), datetime.now(UTC)

    def uptime(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return self.wall

    def advance(self, seconds: float) -> None:
        self.seconds += seconds
        self.wall += timedelta(seconds=seconds)


def gates(unit: WorkUnit, *grants: Grant, clock: Clock | None = None, **scanner: Any) -> tuple[UnitGate, ScannerGate, Rules]:
    rules = Rules()
    for grant in grants or (make_grant(),):
        assert rules.book.learn(grant) is None
    settings = scan_settings("127.0.0.1:1", Path("unused"), "", **scanner)
    shared = ScannerGate(settings, rules, clock.uptime if clock else uptime, clock.now if clock else lambda: datetime.now(UTC))
    shared.owned = settings.kafka.partitions
    return UnitGate(shared, unit), shared, rules


def halted(gate: UnitGate) -> str:
    with pytest.raises(Halted) as caught:
        gate.check(gate.unit, gate.unit.addresses[0], Ask("tcp", 1))
    return caught.value.reason


def test_what_the_grant_covers_passes_and_nothing_else() -> None:
    unit = make_unit(1)
    gate, shared, _ = gates(unit)
    gate.check(unit, "198.18.1.1", Ask("tcp", 1))
    for address, ask in [("198.18.1.1", Ask("tcp", 1001)), ("198.18.1.1", Ask("icmp")), ("198.18.1.2", Ask("tcp", 1))]:
        with pytest.raises(OutOfScope):
            gate.check(unit, address, ask)
    assert shared.refused == 3
    assert gate.halted is None


def test_the_exclusion_of_another_grant_refuses_an_address() -> None:
    unit = make_unit(1)
    gate, _, _ = gates(unit, make_grant(), make_grant(grant_id="shield", exclusions=("198.18.1.1/32",)))
    with pytest.raises(OutOfScope, match="excluded"):
        gate.check(unit, "198.18.1.1", Ask("tcp", 1))


def test_everything_that_halts_a_unit() -> None:
    unit, clock = make_unit(1), Clock()
    gate, _, rules = gates(unit, clock=clock)
    gate.check(unit, "198.18.1.1", Ask("tcp", 1))
    rules.orders = Orders(frozen=EVERYTHING)
    assert halted(gate) == "frozen"
    rules.orders = Orders()
    rules.book.learn(make_grant(2, revoked=True))
    assert "revoked" in halted(gate)
    gate, _, rules = gates(unit, clock=clock)
    rules.book.known.clear()
    assert "no trusted grant" in halted(gate)
    gate, shared, _ = gates(unit, clock=clock)
    shared.stopping = True
    assert halted(gate) == "stopping"
    gate, shared, _ = gates(unit, clock=clock)
    gate.lost = True
    assert halted(gate) == "partition_lost"


@pytest.mark.parametrize("which", ["grants", "work"])
def test_no_proof_of_contact_for_five_seconds_cuts_off_and_a_new_one_reconnects(which: str) -> None:
    unit, clock = make_unit(1), Clock()
    gate, shared, rules = gates(unit, clock=clock)
    clock.advance(5.5)
    if which == "grants":
        shared.contact_at = clock.uptime()
    else:
        rules.fresh_at = clock.uptime()
    assert halted(gate) == "cut_off"
    shared.contact_at = rules.fresh_at = clock.uptime()
    gate.check(unit, "198.18.1.1", Ask("tcp", 1))


def test_a_unit_ends_when_it_expires_and_when_its_own_time_is_over() -> None:
    clock = Clock()
    unit = make_unit(1, expires_at=clock.wall + timedelta(seconds=30))
    gate, shared, rules = gates(unit, clock=clock)
    clock.advance(31)
    shared.contact_at = rules.fresh_at = clock.uptime()
    assert halted(gate) == "expired"
    unit = make_unit(1)
    gate, shared, rules = gates(unit, clock=clock)
    clock.advance(121)
    shared.contact_at = rules.fresh_at = clock.uptime()
    assert halted(gate) == "over_time"


def admitted_in(seconds: float, gate_list: list[UnitGate], same_host: bool = True) -> list[int]:
    """How many packets each gate lets through, eight askers a gate."""
    counts = [0] * len(gate_list)

    async def ask(index: int) -> None:
        gate = gate_list[index]
        while True:
            await gate.admit(gate.unit, gate.unit.addresses[0] if same_host else gate.unit.addresses[-1], Ask("tcp", 1))
            counts[index] += 1

    async def main() -> None:
        tasks = [asyncio.ensure_future(ask(index)) for index in range(len(gate_list)) for _ in range(8)]
        await asyncio.wait(tasks, timeout=seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())
    return counts


@pytest.mark.parametrize(
    ("unit_rate", "grant", "scanner"),
    [
        (50, {}, {}),
        (1000, {"intensity": Intensity(packets_per_second=50, per_host_per_second=1000)}, {}),
        (1000, {"intensity": Intensity(packets_per_second=1000, per_host_per_second=50)}, {}),
        (1000, {}, {"packets_per_second": 50}),
        (1000, {}, {"per_host_per_second": 50}),
    ],
)
def test_the_lowest_rate_of_unit_grant_and_scanner_counts(unit_rate: int, grant: dict[str, Any], scanner: dict[str, Any]) -> None:
    gate, _, _ = gates(make_unit(1, rate=unit_rate), make_grant(**grant), **({"per_host_per_second": 1000} | scanner))
    (count,) = admitted_in(1.0, [gate])
    assert 25 <= count <= 50 + 4 + 1


def test_units_share_the_grant_s_total_fairly_and_partitions_owned_divide_it() -> None:
    grant = make_grant(intensity=Intensity(packets_per_second=200, per_host_per_second=1000))
    first, shared, _ = gates(make_unit(1), grant, per_host_per_second=1000)
    shared.owned = 2  # of four: half of 200
    counts = admitted_in(1.0, [first, UnitGate(shared, make_unit(2))])
    assert 50 <= sum(counts) <= 100 + 7
    assert abs(counts[0] - counts[1]) <= 12


def test_waiting_for_what_others_use_too_is_no_time_of_the_unit() -> None:
    grant = make_grant(intensity=Intensity(packets_per_second=40, per_host_per_second=1000))
    gate, shared, _ = gates(make_unit(1), grant, per_host_per_second=1000)
    shared.owned = 1  # a quarter of the grant's 40: three quarters of the time are waits for the share
    shared.settings = shared.settings.model_copy(update={"planner": shared.settings.planner.model_copy(update={"unit_seconds": 1})})
    gate = UnitGate(shared, make_unit(1))
    admitted_in(2.5, [gate])
    assert gate.halted is None
    slow = UnitGate(shared, make_unit(2, rate=2))
    admitted_in(2.5, [slow])
    assert slow.halted == "over_time"


def test_a_halt_ends_a_wait_at_once() -> None:
    gate, _, rules = gates(make_unit(1, rate=1), make_grant())

    async def main() -> float:
        for _ in range(2):
            waiting = asyncio.ensure_future(gate.admit(gate.unit, "198.18.1.1", Ask("tcp", 1), packets=1000))
            await asyncio.sleep(0)
        rules.book.learn(make_grant(2, revoked=True))
        began = uptime()
        with pytest.raises(Halted, match="revoked"):
            await waiting
        return uptime() - began

    assert asyncio.run(main()) < 0.6


def test_batches_keep_the_rate_and_what_was_not_sent_is_given_back() -> None:
    unit, clock = make_unit(1, rate=200), Clock()
    gate, shared, _ = gates(unit, make_grant(), clock=clock)

    async def main() -> int:
        taken = 0
        for _ in range(100):
            before = gate.packets
            count = await asyncio.wait_for(gate.admit_some(unit, 1000), 5)
            assert gate.packets - before == count
            taken += count
            clock.advance(0.05)
            shared.contact_at = clock.uptime()
            shared.rules.fresh_at = clock.uptime()
        return taken

    taken = asyncio.run(main())
    assert 0.95 * 200 * 5 <= taken <= 1.05 * 200 * 5 + 1 + 200 * 0.05
    gate.unsent(unit, 7)
    assert gate.packets == taken - 7
    shared.stopping = True
    with pytest.raises(Halted):
        asyncio.run(gate.admit_some(unit, 1))


def test_the_mask_follows_the_grants() -> None:
    unit, clock = make_unit(1), Clock()
    gate, _, rules = gates(unit, make_grant(), clock=clock)
    address, port = column_of([int(ipaddress.ip_address(unit.addresses[0]))], 4), np.array([1], dtype=np.uint16)
    assert gate.mask(unit).allows(address, port).all()
    first = gate.mask(unit)
    assert gate.mask(unit) is first, "it is made once for the grants as they stand"
    rules.book.learn(make_grant(2, exclusions=("198.18.1.0/24",)))
    assert not gate.mask(unit).allows(address, port).any()
    assert "excluded" in gate.refusal(unit, unit.addresses[0], Ask("tcp", 1))


def test_on_a_fragile_network_a_host_gets_five_packets_a_second_whatever_the_grant_says() -> None:
    unit = make_unit(1)
    assert gates(unit)[0].per_host(unit) > 5
    assert gates(unit, profile="fragile")[0].per_host(unit) == 5
    assert gates(unit, profile="fragile", per_host_per_second=3)[0].per_host(unit) == 3


def test_a_zone_that_was_granted_the_same_host_after_the_plan_shares_its_budgets() -> None:
    unit = make_unit(1, rate=100)
    alone, _, _ = gates(unit, make_grant(intensity=Intensity(packets_per_second=100, per_host_per_second=30)))
    other = make_grant(grant_id="other", zones=("dmz",), networks=("198.18.1.0/24",))
    shared, _, _ = gates(unit, make_grant(intensity=Intensity(packets_per_second=100, per_host_per_second=30)), other)
    elsewhere = make_grant(grant_id="other", zones=("dmz",), networks=("198.18.2.0/24",))
    apart, _, _ = gates(unit, make_grant(intensity=Intensity(packets_per_second=100, per_host_per_second=30)), elsewhere)
    assert [gate.per_host(unit) for gate in (alone, shared, apart)] == [30, 15, 30]


def test_several_packets_pass_at_once_where_their_tokens_are_there_and_by_the_conversation_where_not() -> None:
    async def timed(per_host: int, packets: int) -> tuple[float, int]:
        rich = make_grant(intensity=Intensity(packets_per_second=100_000, per_host_per_second=100_000))
        unit = make_unit(1, rate=100_000, per_host_per_second=per_host)
        gate, shared, _ = gates(unit, rich, packets_per_second=100_000, per_host_per_second=100_000)
        began = uptime()
        await gate.admit(unit, "198.18.1.1", Ask("tcp", 1), packets)
        assert (gate.packets, shared.packets) == (packets, packets)
        return uptime() - began, packets

    fast, _ = asyncio.run(timed(10_000, 20))
    slow, _ = asyncio.run(timed(50, 20))
    assert fast < 0.05
    assert slow >= 2 * 7.5 / 50, "a conversation may begin on the burst, the two after it had to come in"


def test_conversations_that_wait_together_do_not_begin_together() -> None:
    """Paid for one by one, forty of eight packets each were all ready after 3 s, and 316 packets left in a second for a limit of 100."""
    unit = make_unit(rate=100, per_host_per_second=1000, addresses=tuple(f"198.18.0.{number}" for number in range(1, 41)))
    rich = make_grant(intensity=Intensity(packets_per_second=100_000, per_host_per_second=1000))
    gate, _, _ = gates(unit, rich, packets_per_second=100_000, per_host_per_second=1000)
    begun: list[float] = []

    async def converse(address: str) -> None:
        await gate.admit(unit, address, Ask("tcp", 1), 8)
        begun.append(uptime())

    async def main() -> None:
        await asyncio.gather(*map(converse, unit.addresses))

    asyncio.run(main())
    assert max(8 * sum(first <= one < first + 1 for one in begun) for first in begun) <= 1.05 * 100 + 8
    assert begun[-1] - begun[0] >= 0.95 * 38 * 8 / 100, "and the mean is the limit"


def test_what_is_refused_while_it_is_paid_for_is_not_admitted() -> None:
    unit = make_unit(1)
    gate, _, rules = gates(unit)

    async def revoked_meanwhile() -> None:
        asyncio.get_running_loop().call_later(0.1, lambda: rules.book.learn(make_grant(2, revoked=True)))
        await gate.admit(unit, "198.18.1.1", Ask("tcp", 1), 1000)

    with pytest.raises(Halted, match="revoked"):
        asyncio.run(revoked_meanwhile())
    assert 0 < gate.packets < 1000
