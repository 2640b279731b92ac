"""Sends one round of a sweep: each wanted (host, port) once, in the order of the sweep, at the pace of hosts and budgets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from processors.scan.meter import Meter
from processors.scan.scope.mask import Flags
from processors.scan.sweep.order import Indices, Order
from processors.scan.sweep.pace import Timetable

BATCH = 4096
AT_ONCE = 128  # answers to so many fit into a socket's buffer, whatever the machine allows
LONGEST_SLEEP = 0.25  # between two looks at the halts
Places = NDArray[np.int64]


async def send_round(
    order: Order, hosts: int, wanted: Callable[[Indices, Indices], Flags], meter: Meter, send: Callable[[Indices, Indices], None]
) -> None:
    """Call `send` with places of hosts and of ports, as many at once as may leave. Raises Halted, and what `send` raises.

    `hosts` is how many the order has; `wanted` says which of some places are still to be probed, and is asked batch by batch.
    """
    timetable = Timetable(hosts, meter.per_host(), time.monotonic())
    for some, ports, rounds, places in _batches(order, hosts, wanted):
        due = timetable.due(rounds, places)
        sent = 0
        while sent < len(due):
            now = time.monotonic()
            timetable.late(float(due[sent]), now)
            due = timetable.due(rounds, places)
            ready = int(np.searchsorted(due[sent:], now, side="right"))
            if ready == 0:
                await asyncio.sleep(min(due[sent] - now, LONGEST_SLEEP))
                meter.recheck_unit()
                continue
            ready = await meter.admit_some(min(ready, AT_ONCE))
            send(some[sent : sent + ready], ports[sent : sent + ready])
            timetable.late(float(due[sent]), time.monotonic())
            sent += ready
            due = timetable.due(rounds, places)
            await asyncio.sleep(0)  # neither admission nor sending need wait, and answers must be read meanwhile


def _batches(order: Order, hosts: int, wanted: Callable[[Indices, Indices], Flags]) -> Iterator[tuple[Indices, Indices, Places, Places]]:
    """Batches of what is wanted: places of hosts and ports, the round (only those with work count) and the place in it."""
    rank, last = -1, -1
    for start in range(0, order.size, BATCH):
        some, ports = order.slice(start, start + BATCH)
        chosen = np.flatnonzero(wanted(some, ports))
        if not len(chosen):
            continue
        rounds, places = np.divmod(chosen + start, hosts)
        ranks = rank + np.cumsum(np.diff(rounds, prepend=last) != 0)
        rank, last = int(ranks[-1]), int(rounds[-1])
        yield some[chosen], ports[chosen], ranks, places
