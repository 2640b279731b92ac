"""The soak's judgement: a role that leaks is found out, one that breathes is not."""

from __future__ import annotations

import math
import random

import pytest

from bench.soak_judge import Sample, Tolerance, Verdict, judge

SECONDS, EVERY = 1200, 5


def steady(seed: int, **leak: float) -> list[Sample]:
    """Twenty minutes of a role that starts, breathes and jumps now and then; `leak`: what it gains a minute on top."""
    luck = random.Random(seed)  # noqa: S311  luck, not a secret
    found = []
    for at in range(0, SECONDS, EVERY):
        minutes = at / 60
        found.append(
            Sample(
                at=at,
                memory=150 - 40 * math.exp(-minutes) + 3 * math.sin(at / 40) + luck.gauss(0, 0.5) + (20 if luck.random() < 0.03 else 0),
                threads=12 + luck.randrange(2),
                descriptors=40 + luck.randrange(5),
                lag=luck.randrange(60),
            )
        )
    return [
        Sample(
            one.at,
            one.memory + leak.get("memory", 0) * one.at / 60,
            one.threads + int(leak.get("threads", 0) * one.at / 60),
            one.descriptors + int(leak.get("descriptors", 0) * one.at / 60),
            one.lag + int(leak.get("lag", 0) * one.at / 60),
        )
        for one in found
    ]


def failed(samples: list[Sample], tolerance: Tolerance | None = None) -> list[Verdict]:
    return [one for one in judge({"differ": samples}, tolerance or Tolerance()) if not one.holds]


@pytest.mark.parametrize("seed", range(5))
def test_a_role_that_breathes_is_flat(seed: int) -> None:
    assert failed(steady(seed)) == []


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("kind", "a_minute"), [("memory", 1.0), ("threads", 0.5), ("descriptors", 2.0), ("lag", 60.0)])
def test_a_role_that_leaks_is_found_out(seed: int, kind: str, a_minute: float) -> None:
    (verdict,) = failed(steady(seed, **{kind: a_minute}))
    assert verdict.kind == kind


def test_what_is_lost_is_no_leak() -> None:
    assert failed(steady(1, memory=-2.0)) == []


def test_too_few_samples_are_no_verdict() -> None:
    with pytest.raises(ValueError, match="tell nothing"):
        judge({"differ": steady(1)[:6]}, Tolerance())
