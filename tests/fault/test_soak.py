"""Some seconds of `make soak`: every role has work, none gains, none is restarted. What seconds can't show, twenty do."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from bench.soak import soak, tolerances
from bench.soak_judge import judge

pytestmark = [pytest.mark.kafka, pytest.mark.store, pytest.mark.long, pytest.mark.timeout(240)]
SECONDS, RATE = 24.0, 10.0
MEMORY_MB = 32.0  # of a start that has not come to rest


def test_a_short_steady_load_leaves_every_role_as_it_was(tmp_path: Path) -> None:
    samples, restarts = soak(tmp_path, SECONDS, RATE, every=1.0)
    assert restarts == 0
    assert len(samples) == 9, "a process was never seen"
    roles, others = tolerances(RATE, MEMORY_MB)
    others["store"] = replace(others["store"], threads=math.inf)  # its engine makes pools of a hundred when the first work comes
    assert [one for one in judge(samples, roles, others) if not one.holds] == []
