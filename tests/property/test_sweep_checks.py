"""Checks, the throttle that heeds them, further attempts, and turns that hosts sit out."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from infra.core.settings import ScannerSettings
from processors.scan.sweep.checks import CANARIES, LEAST, MOST, Checks
from processors.scan.sweep.ledger import Ledger
from processors.scan.sweep.retrying import MOST_ATTEMPTS, worth_another
from processors.scan.sweep.throttle import BAD_LOSS, LEAST_RATE, Reins, Throttle
from processors.scan.sweep.turns import Turns


def column(numbers: list[int]) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    return np.array(numbers, dtype=np.uint32)


@given(st.sets(st.integers(0, 99), max_size=60), st.integers(0, 100_000), st.integers(0, 2**32), st.data())
def test_only_hosts_that_answered_are_asked_and_each_is_told_of_once(known: set[int], probes: int, seed: int, data: st.DataObject) -> None:
    checks = Checks(100, seed)
    checks.answered(column(sorted(known)), column([host + 1000 for host in sorted(known)]))
    hosts, ports = checks.draw(probes)
    assert set(hosts.tolist()) <= known
    assert ports.tolist() == [host + 1000 for host in hosts.tolist()]
    assert len(set(hosts.tolist())) == len(hosts) <= min(len(known), max(LEAST, MOST, CANARIES))
    assert len(hosts) >= min(len(known), LEAST)
    checks.asked(hosts, 1.0)
    alive = data.draw(st.sets(st.sampled_from(hosts.tolist()))) if len(hosts) else set()
    for host in alive:
        checks.heard(column([host, host]), checks.number, 1.5)
    checks.heard(hosts, checks.number + 1, 1.5)  # an answer to another check says nothing of this one
    assert checks.waiting() == len(hosts) - len(alive)
    verdict = checks.end()
    assert (verdict.checked, verdict.lost) == (len(hosts), len(hosts) - len(alive))
    assert set(verdict.alive.tolist()) == alive
    assert set(verdict.silent.tolist()) == set(hosts.tolist()) - alive
    assert checks.round_trip == (0.5 if alive else None)
    assert checks.end().checked == 0


def test_the_first_hosts_that_answered_are_asked_in_every_check() -> None:
    checks = Checks(1000, 7)
    checks.answered(column([500, 2, 900, 4]), column([1, 1, 1, 1]))
    checks.answered(column(list(range(1000))), column([2] * 1000))
    for _ in range(20):
        assert {500, 2, 900, 4} <= set(checks.draw(1000)[0].tolist())


def test_losses_halve_the_rate_and_it_grows_back_without_them() -> None:
    slower = Throttle().after(checked=100, lost=10, drops=0, going=1000.0)
    assert slower.rate == 500.0
    better = slower.after(checked=100, lost=1, drops=0, going=500.0)
    assert better.rate is not None
    assert better.rate > 500.0


def test_a_network_that_loses_at_any_rate_is_not_swept_slower_and_slower() -> None:
    throttle = Throttle()
    for _ in range(5):
        throttle = throttle.after(checked=100, lost=20, drops=0, going=throttle.rate or 1000.0)
    assert throttle.rate is None
    assert throttle.tolerated > BAD_LOSS


@given(st.lists(st.tuples(st.integers(0, 500), st.floats(0, 1), st.integers(0, 3), st.floats(1, 1e6)), max_size=30))
def test_the_rate_never_falls_below_the_least(story: list[tuple[int, float, int, float]]) -> None:
    throttle = Throttle()
    for checked, share, drops, going in story:
        throttle = throttle.after(checked, int(share * checked), drops, going)
        assert throttle.rate is None or throttle.rate >= LEAST_RATE


def test_answers_without_room_halve_the_rate_even_without_a_check() -> None:
    reins = Reins()
    assert reins.most(10.0) is None
    reins.left(5000, 10.0)
    reins.judge(0, 0, 0, now=10.5)
    reins.left(5000, 11.0)
    reins.left(5000, 12.0)
    reins.judge(0, 0, 7, now=60.0)  # how long it waited for answers does not count
    assert reins.throttle.rate == 5000.0
    assert (reins.most(60.0) or 0) <= 250
    reins.left(250, 60.0)
    assert reins.pause(60.0) > 0


def test_what_the_budgets_held_back_does_not_count_as_going_fast() -> None:
    reins = Reins()
    for tick in range(101):  # far more is ready each time, the budget lets out one
        reins.left(1, tick / 10)
    reins.judge(checked=100, lost=50, drops=0, now=10.0)
    assert reins.throttle.rate == LEAST_RATE, "half of 10 packets a second, and no less than the least"
    for tick in range(101):
        reins.left(10, 20 + tick / 10)
    reins.judge(checked=100, lost=10, drops=0, now=30.0)
    assert reins.throttle.rate is not None
    assert 49 <= reins.throttle.rate <= 51, "half of the 100 that left each second"


def ledger_of(answers: list[int]) -> Ledger:
    ledger = Ledger(["198.18.0.1"], [80], attempts=1)
    ledger.answers_by_attempt = answers
    return ledger


def test_attempts_go_on_while_too_much_is_lost_and_no_longer() -> None:
    settings = ScannerSettings(attempts=2)
    assert worth_another(ledger_of([0]), 1, settings, 1.0, 1.0), "what the settings say is done in any case"
    assert not worth_another(ledger_of([0, 0]), 2, settings, 1.0, 1.0), "without an answer nothing is known of losses"
    assert not worth_another(ledger_of([5000, 0]), 2, settings, 1.0, 1.0), "nothing is lost"
    assert worth_another(ledger_of([640, 230]), 2, settings, 1.0, 1.0), "a third is lost at each attempt"
    assert not worth_another(ledger_of([640, 230]), 2, settings, 100.0, 10.0), "it takes too long"
    assert not worth_another(ledger_of([10] * MOST_ATTEMPTS), MOST_ATTEMPTS, settings, 1.0, 1.0), "the limit"


@given(st.lists(st.tuples(st.lists(st.integers(0, 9), max_size=8), st.sets(st.integers(0, 9), max_size=10)), max_size=20))
def test_each_debt_costs_one_turn_and_nothing_is_lost(story: list[tuple[list[int], set[int]]]) -> None:
    turns, given_turns, owed = Turns(10), [], [0] * 10
    for number, (debts, hosts) in enumerate(story):
        turns.owe(np.array(debts, dtype=np.int64))
        for host in debts:
            owed[host] += 1
        mine, ports = turns.take(column(sorted(hosts)), column([number] * len(hosts)))
        assert set(mine.tolist()) == {host for host in hosts if owed[host] == 0}
        owed = [debt - (host in hosts and debt > 0) for host, debt in enumerate(owed)]
        given_turns += list(zip(mine.tolist(), ports.tolist(), strict=True))
    while len((late := turns.again())[0]):
        assert len(set(late[0].tolist())) == len(late[0]), "a round has each host once"
        given_turns += list(zip(*(one.tolist() for one in turns.take(*late)), strict=True))
    assert sorted(given_turns) == sorted((host, number) for number, (_, hosts) in enumerate(story) for host in hosts)
    assert not turns.missed.any()
