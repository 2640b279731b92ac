"""The estimate of recall: its bounds, and that it finds the truth of simulated sweeps."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.scan.sweep.recall import estimate

counts = st.lists(st.integers(0, 100_000), min_size=1, max_size=5)


@given(counts)
def test_shares_are_shares_and_samples_are_all_answers(answers: list[int]) -> None:
    found = estimate(answers)
    assert 0.0 <= found.loss <= 1.0
    assert found.recall == 1 - found.loss ** len(answers)
    assert found.samples == sum(answers)


@given(counts, st.integers(1, 100))
def test_more_answers_at_the_first_attempt_never_lower_recall(answers: list[int], more: int) -> None:
    assert estimate([answers[0] + more, *answers[1:]]).recall >= estimate(answers).recall


@given(counts, st.integers(1, 100))
def test_more_answers_at_the_last_attempt_never_raise_recall(answers: list[int], more: int) -> None:
    if len(answers) > 1:
        assert estimate([*answers[:-1], answers[-1] + more]).recall <= estimate(answers).recall


@pytest.mark.parametrize("attempts", [1, 2, 3, 5])
def test_without_an_answer_the_prior_speaks(attempts: int) -> None:
    found = estimate([0] * attempts)
    assert found.samples == 0
    assert found.recall == pytest.approx(1 - 0.1**attempts)
    assert found.recall >= 0.9


@pytest.mark.parametrize("loss", [0.0, 0.02, 0.1, 0.3, 0.5, 0.7])
@pytest.mark.parametrize("attempts", [2, 3])
def test_it_finds_the_loss_of_a_simulated_sweep(loss: float, attempts: int) -> None:
    rng, targets = random.Random(7), 20_000  # noqa: S311  a simulation
    answers = [0] * attempts
    for _ in range(targets):
        for attempt in range(attempts):
            if rng.random() >= loss:
                answers[attempt] += 1
                break
    found = estimate(answers)
    assert found.loss == pytest.approx(loss, abs=0.03)
    assert found.recall == pytest.approx(sum(answers) / targets, abs=0.03)


def test_a_sweep_without_attempts_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one attempt"):
        estimate([])


@given(counts, st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 5000))
def test_the_bounds_hold_the_estimate(answers: list[int], checked: int, lost: int, found: int) -> None:
    told = estimate(answers, checked, min(lost, checked), found)
    assert 0.0 <= told.low <= told.recall <= told.high <= 1.0
    assert told == estimate(answers, checked, min(lost, checked), found), "equal counts, equal bounds"


@pytest.mark.parametrize("loss", [0.0975, 0.19, 0.36])  # 5, 10 and 20 % each way
@pytest.mark.parametrize("attempts", [1, 2, 3, 6])
def test_the_bounds_hold_the_truth_of_simulated_windows(loss: float, attempts: int) -> None:
    """A window: a /24 in a minute, a few open ports, more closed ones, and some of what answered asked again."""
    rng, windows, held = random.Random(int(loss * 1000) + attempts), 400, 0  # noqa: S311  a simulation
    for _ in range(windows):
        answers, found, open_ports, closed_ports = [0] * attempts, 0, rng.randint(5, 60), rng.randint(50, 300)
        for port in range(open_ports + closed_ports):
            for attempt in range(attempts):
                if rng.random() >= loss:
                    answers[attempt] += 1
                    found += port < open_ports
                    break
        lost = sum(rng.random() < loss for _ in range(20))
        told = estimate(answers, 20, lost, found)
        held += told.low <= found / open_ports <= told.high
    assert held / windows >= 0.93
