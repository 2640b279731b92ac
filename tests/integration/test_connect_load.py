"""Ten thousand connect probes under way at once in one process of less than 100 MB, against an address that swallows every packet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.namespaces import ip, join, namespaces

pytestmark = [pytest.mark.namespace, pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

SCANNER, SILENCE = "dlcl-a", "dlcl-b"
ADDRESS = "198.18.217.2"
PROBES, AT_ONCE, MOST_MB = 12_000, 10_000, 100.0


@pytest.fixture
def silence() -> Iterator[None]:
    with namespaces((SCANNER, SILENCE)):
        join((SCANNER, "dlcla0"), (SILENCE, "dlclb0"))
        ip("-n", SCANNER, "addr", "add", "198.18.217.1/24", "dev", "dlcla0")
        ip("-n", SCANNER, "neigh", "replace", ADDRESS, "lladdr", "02:00:00:00:00:99", "nud", "permanent", "dev", "dlcla0")
        yield


def test_ten_thousand_at_once_within_a_hundred_megabytes(silence: None) -> None:
    command = ["ip", "netns", "exec", SCANNER, sys.executable, "-m", "tests.connect_worker", str(PROBES), ADDRESS]
    told = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    assert told["open"] >= AT_ONCE, told
    assert told["silent"] == PROBES
    assert told["rss_mb"] <= MOST_MB, told
