"""When a sweep asks again what did not answer. Pure."""

from __future__ import annotations

from infra.core.settings import ScannerSettings
from processors.scan.sweep.ledger import Ledger
from processors.scan.sweep.recall import estimate

MOST_ATTEMPTS = 8
TARGET = 0.998
LEAST_SAMPLES = 20
LONGER, GRACE = 3.0, 10.0
"""Further attempts begin only within so many times the first one's time, or so many seconds: a unit has its own limit."""


def worth_another(ledger: Ledger, attempt: int, settings: ScannerSettings, spent: float, first: float) -> bool:
    """Whether an attempt (from 1) is to be followed by another, after so many seconds in all and for the first.

    The attempts of the settings are made in any case; further ones as long as answers show that too much is lost still.
    """
    if attempt < settings.attempts:
        return True
    recall = estimate(ledger.answers_by_attempt, ledger.checked, ledger.lost)
    lossy = recall.samples >= LEAST_SAMPLES and recall.recall < TARGET
    return lossy and attempt < MOST_ATTEMPTS and spent <= max(GRACE, LONGER * first)
