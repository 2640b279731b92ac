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
