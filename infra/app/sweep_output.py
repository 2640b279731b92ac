"""What `driftline sweep` prints: a line a host with an open port as each part of the sweep ends, and one of the whole."""

from __future__ import annotations

import json
import signal
import sys
import time
from dataclasses import dataclass, field
from itertools import zip_longest

import numpy as np

from infra.core.errors import DriftlineError, Refused
from processors.scan.scope.local import STOPPED, LocalGate
from processors.scan.sweep.ledger import Ledger, PortState
from processors.scan.sweep.recall import estimate

STATES = ("open", "closed", "silent", "unreachable", "not_probed")


@dataclass(slots=True)
class Told:
    """Prints what was found, part by part, and in the end the whole. `asked`: ports to probe in all; `signal`: the one that ended it."""

    as_json: bool
    excluded: int
    asked: int
    signal: int = 0
    begun: float = field(default_factory=time.monotonic)
    hosts: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATES, 0))
    answers: list[int] = field(default_factory=list)
    checked: int = 0
    lost: int = 0
    quarantined: dict[str, str] = field(default_factory=dict)
    unfinished: int = 0
    uncovered: str = ""

    def add(self, ledger: Ledger) -> None:
        """Print the hosts of one part that have an open port."""
        states = ledger.states
        masks = {
            "open": states == PortState.ANSWERED,
            "closed": states == PortState.CLOSED,
            "silent": states == PortState.SILENT,
            "unreachable": states == PortState.UNREACHABLE,
            "not_probed": (states == PortState.OPEN) | (states == PortState.REFUSED),
        }
        by_host = {name: mask.sum(axis=1) for name, mask in masks.items()}
        for name, found in by_host.items():
            self.counts[name] += int(found.sum())
        self.answers = [sum(pair) for pair in zip_longest(self.answers, ledger.answers_by_attempt, fillvalue=0)]
        self.checked, self.lost = self.checked + ledger.checked, self.lost + ledger.lost
        self.quarantined |= ledger.quarantined
        self.unfinished += int(np.count_nonzero(states == PortState.OPEN))
        self.uncovered = self.uncovered or next(iter(ledger.refused.values()), "")
        rows, columns = np.nonzero(masks["open"])
        ports = np.array(ledger.ports)[columns].tolist()
        places, starts = np.unique(rows, return_index=True)
        ends = np.append(starts, len(ports))[1:].tolist()
        rest = (by_host[name][places].tolist() for name in STATES[1:])
        line = _json_line if self.as_json else _line
        lines = [
            line(address, ports[start:end], others)
            for address, start, end, *others in zip(ledger.addresses.texts(places), starts.tolist(), ends, *rest, strict=True)
        ]
        self.hosts += len(lines)
        sys.stdout.write("".join(lines))

    def end(self, gate: LocalGate) -> None:
        """Print the whole. What was not probed to the end is said by how it ends.

        Raises Refused if a halt ended it or a part of it, DriftlineError if this machine did, SystemExit if a signal did.
        """
        seconds = time.monotonic() - self.begun
        never_begun = self.asked - sum(self.counts.values())
        self.counts["not_probed"] += never_begun
        probed = self.asked - self.counts["not_probed"]
        recall = estimate(self.answers or [0], self.checked, self.lost, self.counts["open"])
        halted = {str(subnet): reason for subnet, reason in gate.halted.items()}
        stopped = gate.halt() if self.unfinished + never_begun else None
        stopped = stopped or next(iter(halted.values()), None) or self.uncovered
        summary = {
            "hosts": self.hosts,
            **self.counts,
            "asked": self.asked,
            "probed": probed,
            "excluded_addresses": self.excluded,
            "packets": gate.packets,
            "seconds": round(seconds, 3),
            "recall": round(recall.recall, 6) if recall.samples else None,
            "recall_low": round(recall.low, 6) if recall.samples else None,
            "recall_high": round(recall.high, 6) if recall.samples else None,
            "loss": round(recall.loss, 6) if recall.samples else None,
            "quarantined": self.quarantined,
            "halted_subnets": halted,
            "stopped": stopped,
        }
        if self.as_json:
            sys.stdout.write(json.dumps({"summary": summary}) + "\n")
        else:
            found = f"estimated recall {100 * recall.recall:.2f} % ({100 * recall.low:.2f} to {100 * recall.high:.2f} %)"
            sys.stdout.write(
                f"{counted(self.counts['open'], 'open port')} on {counted(self.hosts, 'host')}; {gate.packets} packets in {seconds:.2f} s; "
                f"{found if recall.samples else 'nothing answered, so that there is no estimate of recall'}"
                f"{'' if probed == self.asked else f' of the {probed} of {self.asked} ports that were probed'}\n"
            )
            if self.excluded:
                sys.stdout.write(f"{counted(self.excluded, 'address', 'addresses')} left out, excluded by a grant\n")
            for address, reason in self.quarantined.items():
                sys.stdout.write(f"{address} is not believed: {reason}\n")
            for subnet, reason in halted.items():
                sys.stdout.write(f"{subnet} was halted: {reason}\n")
        sys.stdout.flush()
        if gate.failure is not None:
            raise DriftlineError(f"The sweep was stopped: {stopped}.", "What was found until then is above.")
        if stopped == STOPPED:
            sys.stderr.write(f"Stopped by {signal.Signals(self.signal).name}: {probed} of {self.asked} ports were probed.\n")
            sys.exit(128 + self.signal)
        if stopped:
            raise Refused(f"The sweep was stopped: {stopped}.", "What was found until then is above.")


def counted(number: int, one: str, many: str = "") -> str:
    """`1 host`, `2 hosts`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def _json_line(address: str, ports: list[int], others: list[int]) -> str:
    closed, silent, unreachable, not_probed = others
    return (
        f'{{"address": "{address}", "open": {ports}, "closed": {closed}, "silent": {silent}, '
        f'"unreachable": {unreachable}, "not_probed": {not_probed}}}\n'
    )


def _line(address: str, ports: list[int], others: list[int]) -> str:
    told = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in zip(STATES[1:], others, strict=True) if count)
    return f"{address:<15} {','.join(map(str, ports)):<40} {told}\n"
