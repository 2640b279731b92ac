"""The watch of a sweep by hand: where a host stops answering while it is probed, its subnet gets nothing more, and the rest goes on."""

from __future__ import annotations

import ipaddress

import numpy as np
from numpy.typing import NDArray

from processors.scan.impact import reason_of
from processors.scan.meter import Meter
from processors.scan.scope.local import LocalGate
from processors.scan.sweep.ledger import Flags, Ledger, PortState
from processors.scan.watchman import MOST_AT_THE_END, Watchman
from schemas.events.targets import WorkUnit
from schemas.ids import subnet_of


class Lookout(Watchman):
    """The watchman of one part. The part's sweep asks for it, and at the end it asks once more itself."""

    def __init__(self, ledger: Ledger, meter: Meter, unit: WorkUnit, gate: LocalGate) -> None:
        super().__init__(ledger, meter, unit.packets_per_second)
        self.asks = False
        self._unit, self._gate = unit, gate
        self._seen: Flags = np.zeros(len(ledger.addresses), dtype=bool)

    def judge(self) -> None:
        """Halt the subnets of the hosts that stopped answering. Raises Halted once there are too many."""
        for one in self.vigil.suspects():
            subnet = subnet_of(one.address)
            self._gate.hold_subnet(self._unit, ipaddress.ip_network(subnet), reason_of((one,)))
            inside = [row for row, address in enumerate(self._ledger.addresses) if subnet_of(address) == subnet]
            self._ledger.note_rows(np.array(inside, dtype=np.uint32), PortState.REFUSED)
            for row in inside:
                self.vigil.drop(self._ledger.addresses[row])
        self._gate.check_unit()

    def _at_the_end(self) -> None:
        """Those of the hosts that answered that left the most unanswered. Who answered on all is well; so the command ends at once."""
        silent = (self._ledger.states == PortState.SILENT).sum(axis=1)
        suspicious = np.flatnonzero(self._seen & (silent > 0)).tolist()
        left = {self._ledger.addresses[row]: int(silent[row]) for row in suspicious}
        self.vigil.end(min(MOST_AT_THE_END, len(left)), left)

    def _rows_to_watch(self, answered: Flags) -> NDArray[np.intp]:
        """Each host once: a part may have a hundred times as many as a unit."""
        fresh = np.flatnonzero(answered.any(axis=1) & ~self._seen)
        self._seen[fresh] = True
        return fresh
