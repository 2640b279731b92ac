"""A scanner for `bench.latency`: the real loop, transactions and records, but only the first unit is probed; the others are told the same.

A look at a host takes some 20 ms of processor time, so that a hundred a second would leave nothing of this machine for what is measured.
"""

from __future__ import annotations

import signal
import threading

from infra.core.clock import utc_now
from infra.core.settings import load_settings
from processors.scan.heartbeat import Identity
from processors.scan.scanner import run_scanner
from processors.scan.scope.gate import Gate
from processors.scan.unit import Surroundings, UnitReport, capabilities, choose_engine, run_unit
from schemas.events.targets import WorkUnit
from schemas.ids import content_id

AGENT = "bench"


class Copies:
    """Looks at the first unit, and tells of each later one of one address what was seen then."""

    def __init__(self) -> None:
        self._settings = load_settings().scanner
        self.engine, _ = choose_engine(self._settings)
        self._first: UnitReport | None = None

    async def run(self, unit: WorkUnit, gate: Gate, attempt: int) -> UnitReport:
        """Report on a unit."""
        if self._first is None:
            self._first = await run_unit(unit, Surroundings(AGENT, self._settings, gate, self.engine, attempt, utc_now))
            return self._first
        (address,), now = unit.addresses, utc_now()
        place = {"unit_id": unit.unit_id, "run_id": unit.run_id, "subnet": unit.subnet, "attempt": attempt}
        (sweep,), (host,) = self._first.sweeps, self._first.hosts
        ports = tuple(one.model_copy(update={"address": address}) for one in sweep.hosts)
        more = {"probed": unit.addresses, "hosts": ports, "started_at": now, "finished_at": now}
        seen = {"address": address, "observation_id": content_id("observation", unit.unit_id, address), "observed_at": now}
        return UnitReport((sweep.model_copy(update=place | more),), (host.model_copy(update=place | seen),), 0)


def main() -> None:
    """Scan until SIGTERM."""
    stop, copies = threading.Event(), Copies()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    run_scanner(load_settings(), Identity(AGENT, "default", copies.engine, capabilities(), utc_now()), copies.run, stop, lambda: None)


if __name__ == "__main__":
    main()
