"""Programs that probes run (nmap, hping3): however many units want one, no more than the setting allows run at once."""

from __future__ import annotations

import asyncio
from itertools import accumulate
from pathlib import Path

import pytest

from infra.core.settings import ScannerSettings
from processors.scan.meter import Meter
from processors.scan.probe import Host
from tests.scanning import NotingGate, make_unit


@pytest.mark.parametrize("places", [1, 3])
def test_units_share_the_places_of_a_program(tmp_path: Path, places: int) -> None:
    notes = tmp_path / "notes"
    command = ["sh", "-c", f"echo 1 >> {notes}; sleep 0.1; echo -1 >> {notes}"]
    addresses = [f"127.79.2.{number}" for number in range(1, 10)]

    async def run() -> None:
        hosts = [Host(one, {}, None, ScannerSettings(), Meter(NotingGate(), make_unit([one], "1")), 1) for one in addresses]
        await asyncio.gather(*(host.run(command, [], places, 10.0) for host in hosts))

    asyncio.run(run())
    steps = [int(line) for line in notes.read_text().split()]
    assert len(steps) == 2 * len(addresses)
    assert max(accumulate(steps)) == places
