"""How much of what is open a sweep found, estimated from which attempt was answered. Pure.

Model: each attempt (probe and its answer) is lost with the same chance `p`, independently. A target that would answer does so at
attempt k with chance p^(k-1)·(1-p), so in expectation, with n_k answers at attempt k of K:

    sum(n_2..n_K) = p · sum(n_1..n_(K-1))

Targets lost on all K attempts are on neither side, so `p = later / earlier` needs no correction for what was never seen. A
Beta(1, 9) prior (one answer lost in ten looked for) steadies small counts: p = (1 + later) / (10 + earlier), at most 1. Then

    recall = 1 - p^K

Limits: losses that come in bursts, and hosts that limit their answers, are not independent, so recall is then stated too high;
with one attempt (K = 1) nothing can be learnt and the prior alone speaks (0.9). What a firewall drops on purpose is not loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PRIOR_LOST = 1.0
PRIOR_LOOKS = 10.0


@dataclass(frozen=True, slots=True)
class Recall:
    """Estimated shares (0–1) of lost attempts and of found ports, and the number of answers behind them."""

    loss: float
    recall: float
    samples: int


def estimate(answers_by_attempt: Sequence[int]) -> Recall:
    """Estimate from the number of answers of any kind (open or closed) at the first, second, … attempt. Raises ValueError if empty."""
    if not answers_by_attempt:
        raise ValueError("a sweep has at least one attempt")
    later, earlier = sum(answers_by_attempt[1:]), sum(answers_by_attempt[:-1])
    loss = min(1.0, (PRIOR_LOST + later) / (PRIOR_LOOKS + earlier))
    return Recall(loss=loss, recall=1.0 - loss ** len(answers_by_attempt), samples=sum(answers_by_attempt))
