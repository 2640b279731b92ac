"""A sweep that somebody asked for at the keyboard: what of it the grant covers, in parts of bounded memory, each to its ledger.

The engine is the scanner's own; what differs is that one grant in a file, not the broker, says what may leave (`scope/local.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass

from infra.core.settings import ScannerSettings
from processors.scan.meter import Meter
from processors.scan.scope.gate import Halted
from processors.scan.scope.local import LocalGate
from processors.scan.scope.mask import ScopeMask
from processors.scan.sweep.hosts import HostList
from processors.scan.sweep.ledger import Ledger
from processors.scan.sweep.syn import sweep_syn
from schemas.events.targets import WorkUnit
from schemas.targeting import Span

MOST_PROBES = 1 << 24  # of one part: a byte each
LEAST_WATCHED = 2  # ports of a host: who is asked for one gets nothing after it that could harm him
PARTS_AT_ONCE = 2  # one listens for late answers while the next one sends


@dataclass(frozen=True, slots=True)
class Part:
    """Some addresses of one version × all ports: at most `MOST_PROBES` probes, unless a single host has more ports."""

    spans: tuple[Span, ...]
    ports: tuple[int, ...]


def joined(spans: Iterable[Span]) -> list[Span]:
    """The same addresses in the fewest spans, ascending, IPv4 first."""
    found: list[Span] = []
    for span in sorted(spans):
        last = found[-1] if found else None
        if last and last.version == span.version and span.first <= last.last + 1:
            found[-1] = Span(span.version, last.first, max(last.last, span.last))
        else:
            found.append(span)
    return found


def common(ones: Iterable[Span], others: Iterable[Span]) -> list[Span]:
    """The addresses that are in both."""
    right = joined(others)
    found = []
    for one in joined(ones):
        for other in right:
            first, last = max(one.first, other.first), min(one.last, other.last)
            if one.version == other.version and first <= last:
                found.append(Span(one.version, first, last))
    return found


def without(ones: Iterable[Span], others: Iterable[Span]) -> Iterator[Span]:
    """The addresses that are in the first, not in the second."""
    barred = joined(others)
    for one in joined(ones):
        first = one.first
        for other in barred:
            if other.version == one.version and other.first <= one.last and other.last >= first:
                if other.first > first:
                    yield Span(one.version, first, other.first - 1)
                first = max(first, other.last + 1)
        if first <= one.last:
            yield Span(one.version, first, one.last)


def spans_of(mask: ScopeMask) -> list[Span]:
    """The addresses that a mask allows."""
    found = [Span(4, int(first), int(last)) for first, last in zip(mask.first[4], mask.last[4], strict=True)]
    for first, last in zip(mask.first[6], mask.last[6], strict=True):
        found.append(Span(6, int.from_bytes(first.ljust(16, b"\0"), "big"), int.from_bytes(last.ljust(16, b"\0"), "big")))
    return found


def size(spans: Iterable[Span]) -> int:
    """How many addresses."""
    return sum(span.size for span in spans)


def parts(spans: Iterable[Span], ports: Sequence[int], most: int = MOST_PROBES) -> Iterator[Part]:
    """The whole in parts: every address in exactly one, the IP versions apart."""
    room = max(1, most // max(1, len(ports)))
    held: list[Span] = []
    for span in joined(spans):
        first = span.first
        if held and held[0].version != span.version:
            yield Part(tuple(held), tuple(ports))
            held = []
        while first <= span.last:
            last = min(span.last, first + room - size(held) - 1)
            held.append(Span(span.version, first, last))
            first = last + 1
            if size(held) == room:
                yield Part(tuple(held), tuple(ports))
                held = []
    if held:
        yield Part(tuple(held), tuple(ports))


async def sweep_parts(wanted: Iterable[Part], gate: LocalGate, unit: WorkUnit, settings: ScannerSettings) -> AsyncIterator[Ledger]:
    """Sweep part after part, a few at once, and hand over each ledger when it is done.

    A halt ends it, and so does a machine that can't send any more: what was begun is handed over as far as it came, and the gate says why.
    Raises PermissionError without the privilege.
    """
    waiting: set[asyncio.Task[Ledger]] = set()
    rest = iter(wanted)

    async def work(part: Part) -> Ledger:
        ledger = Ledger(HostList.of_spans(part.spans), part.ports, settings.attempts)
        meter = Meter(gate, unit)
        try:
            if len(part.ports) < LEAST_WATCHED:
                await sweep_syn(ledger, meter, settings)
            else:
                from processors.scan.lookout import Lookout

                lookout = Lookout(ledger, meter, unit, gate)
                await lookout.beside(sweep_syn(ledger, meter, settings, lookout))
        except OSError as error:
            if isinstance(error, PermissionError) and not gate.packets:
                raise
            gate.fail(unit, error)
        except Halted:
            pass
        return ledger

    def begin() -> None:
        while len(waiting) < PARTS_AT_ONCE and gate.halt() is None and (part := next(rest, None)) is not None:
            waiting.add(asyncio.create_task(work(part)))

    try:
        begin()
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            waiting.difference_update(done)
            for task in done:
                yield task.result()
            begin()
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
