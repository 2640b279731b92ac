"""How much of what is open a sweep found, and between which bounds: from which attempt was answered, and from asking again. Pure.

Model: each attempt (probe and its answer) is lost with the same chance `p`, independently. A target that would answer does so at
attempt k with chance p^(k-1)·(1-p), so in expectation, with n_k answers at attempt k of K:

    sum(n_2..n_K) = p · sum(n_1..n_(K-1))

Targets lost on all K attempts are on neither side, so `later / earlier` needs no correction for what was never seen. Ports that had
answered and are asked again (checks) show `p` directly. A weak prior, Beta(0.5, 4.5) (one lost in ten), steadies small counts, so that
p ~ Beta(0.5 + losses, 4.5 + looks - losses), of which the mean is stated. Then

    recall = 1 - p^K

The bounds hold what was really found of what was really open with a chance of 95 %: with n open ports found, and every number of open
ports as likely as any other beforehand, the missed are negative binomial, M ~ NB(n + 1, 1 - p^K); the bounds are quantiles of n / (n + M)
over draws of p and M with a fixed seed (posterior prediction: Gelman et al., Bayesian Data Analysis, 3rd ed., 1.3). Without an open port
they are those of 1 - p^K.

Limits: losses that come in bursts, and hosts that limit their answers, are not independent, so recall is then stated too high;
with one attempt and no check nothing can be learnt and the prior alone speaks (0.9). What a firewall drops on purpose is not loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PRIOR_LOST = 0.5
PRIOR_LOOKS = 5.0
DRAWS = 4000
BOUNDS = (0.025, 0.975)


@dataclass(frozen=True, slots=True)
class Recall:
    """Estimated shares (0–1) of lost attempts and of found ports with its 95 % bounds, and the number of answers and checks behind them."""

    loss: float
    recall: float
    low: float
    high: float
    samples: int


def estimate(answers_by_attempt: Sequence[int], checked: int = 0, lost: int = 0, found: int = 0) -> Recall:
    """Estimate from the number of answers (open or closed) at the first, second, … attempt, from checks, and for so many open ports.

    `lost` of the `checked` checks were not answered. Raises ValueError without an attempt.
    """
    if not answers_by_attempt:
        raise ValueError("a sweep has at least one attempt")
    later, earlier = sum(answers_by_attempt[1:]), sum(answers_by_attempt[:-1])
    losses = PRIOR_LOST + later + lost
    looks = max(PRIOR_LOOKS + earlier + checked, losses)
    loss, attempts = min(1.0, losses / looks), len(answers_by_attempt)
    draws = np.random.default_rng(0)
    missed = draws.beta(losses, max(looks - losses, 1e-9), DRAWS) ** attempts
    shares = found / (found + draws.negative_binomial(found + 1, np.maximum(1 - missed, 1e-9))) if found else 1 - missed
    # As np.quantile has it, which imports numpy.ma: 12 ms of a sweep that is over in a second.
    low, high = np.interp(np.multiply(BOUNDS, DRAWS - 1), np.arange(DRAWS), np.sort(shares)).tolist()
    recall = 1.0 - loss**attempts
    return Recall(loss, recall, min(low, recall), max(high, recall), sum(answers_by_attempt) + checked)
