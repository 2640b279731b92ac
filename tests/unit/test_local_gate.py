"""The gate of a sweep that runs by itself: it judges as any gate does, keeps the rate, and halts by the grant's own terms."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta

import numpy as np
import pytest

from processors.scan.scope.gate import Gate, Halted, OutOfScope
from processors.scan.scope.local import STOPPED, LocalGate
from processors.scan.scope.mask import column_of
from schemas.scope import Ask
from tests.grant_examples import NIGHTS, NOW, book, grant
from tests.scanning import make_unit

UNIT = make_unit(["198.18.0.1"], "80")
HTTP = Ask("tcp", 80)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def gate(clock: Clock | None = None, rate: int = 1000) -> LocalGate:
    other = grant("other", networks=("198.18.0.0/24",), exclusions=("198.18.0.9/32",))
    return LocalGate(book(grant(exclusions=("198.18.0.7/32",), ports="80"), other), "lab", "default", rate, clock or Clock())


def test_it_is_a_gate() -> None:
    made: Gate = gate()
    assert made.per_host(UNIT) == 40


@pytest.mark.parametrize(
    ("address", "ask", "said"),
    [
        ("198.18.0.7", HTTP, "excluded"),
        ("198.18.0.9", HTTP, "excluded"),  # by another grant of the zone
        ("198.19.0.1", HTTP, "in no network"),
        ("198.18.0.1", Ask("tcp", 81), "not among the ports"),
    ],
)
def test_what_the_grant_does_not_cover_is_refused_one_by_one_and_by_the_batch(address: str, ask: Ask, said: str) -> None:
    made = gate()
    with pytest.raises(OutOfScope, match=said):
        made.check(UNIT, address, ask)
    numbers = column_of([int.from_bytes(map(int, address.split(".")), "big")], 4)
    assert not made.mask(UNIT).allows(numbers, np.array([ask.port], dtype=np.uint16)).any()
    assert said in made.refusal(UNIT, address, ask)


def test_it_halts_when_the_grant_expires_and_when_it_is_told() -> None:
    clock = Clock()
    made = gate(clock)
    made.check_unit()
    clock.now = NOW + timedelta(days=1)
    with pytest.raises(Halted, match="expired"):
        made.check_unit()
    clock.now = NOW
    made.stopping = True
    assert made.halt() == STOPPED
    with pytest.raises(Halted):
        asyncio.run(made.admit_some(UNIT, 10))


def test_a_window_that_closes_halts_what_waits_for_its_turn() -> None:
    clock = Clock()
    clock.now = NOW.replace(hour=4, minute=59)
    made = LocalGate(book(grant(windows=(NIGHTS,), packets=1)), "lab", "default", 1, clock)

    async def work() -> None:
        await made.admit_some(UNIT, 1)
        asyncio.get_running_loop().call_later(0.1, lambda: setattr(clock, "now", NOW.replace(hour=5)))
        await made.admit_some(UNIT, 1)

    begun = time.monotonic()
    with pytest.raises(Halted, match="at this hour"):
        asyncio.run(work())
    assert time.monotonic() - begun < 0.9, "it did not sleep to the end"


def test_the_rate_is_the_lower_of_what_is_asked_and_what_is_granted() -> None:
    async def packets(made: LocalGate, seconds: float) -> int:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await made.admit_some(UNIT, 1000)
        return made.packets

    assert 100 <= asyncio.run(packets(gate(rate=200), 0.5)) <= 125
    assert 500 <= asyncio.run(packets(gate(rate=5000), 0.5)) <= 600  # the grant has 1,000


def test_probes_one_by_one_wait_for_their_host() -> None:
    made = gate()

    async def work() -> float:
        begun = time.monotonic()
        for _ in range(9):
            await made.admit(UNIT, "198.18.0.1", HTTP)
        return time.monotonic() - begun

    assert asyncio.run(work()) >= 6 / 40, "three may leave at once, then 40 a second"


def test_what_did_not_leave_is_given_back() -> None:
    made = gate()
    count = asyncio.run(made.admit_some(UNIT, 20))
    made.unsent(UNIT, count)
    assert (count, made.packets) == (20, 0)
