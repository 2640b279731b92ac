"""Sends what is wanted of a sweep in its order: each (host, port) at its time or later, at the pace of hosts and budgets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from processors.scan.meter import Meter
from processors.scan.scope.mask import Flags
from processors.scan.sweep.order import Indices, Order
from processors.scan.sweep.pace import Timetable
from processors.scan.sweep.throttle import Reins
from processors.scan.sweep.turns import Turns

FIRST_BATCH, LEAST_BATCH, MOST_BATCH = 256, 16, 4096
LONGEST_SLEEP = 0.25  # between two looks at the halts
Places = NDArray[np.int64]
Send = Callable[[Indices, Indices], None]
"""Sends to these hosts and ports, given by their places in the sweep, at once."""


class Rounds:
    """All attempts of one sweep: they share a timetable, so that each host's pace holds from one to the next.

    `turn` is the number of the round that is under way, `turns` who sits out. `at_once`: most packets of one call of `send`.
    """

    def __init__(self, order: Order, hosts: int, meter: Meter, at_once: int = MOST_BATCH, reins: Reins | None = None) -> None:
        self.turn, self.turns = 0, Turns(hosts)
        self._order, self._hosts, self._meter, self._at_once = order, hosts, meter, at_once
        self._reins = reins or Reins()
        self._timetable = Timetable(hosts, meter.per_host(), time.monotonic())
        self._place_of: Places = np.empty(hosts, dtype=np.int64)
        self._place_of[order.hosts] = np.arange(hosts)
        self._batch = FIRST_BATCH

    async def send(
        self, wanted: Callable[[Indices, Indices], Flags], send: Send, between: Callable[[int], Awaitable[None]] | None = None
    ) -> None:
        """Call `send` for each host and port that is wanted, once; last for what was put off. Raises Halted, and what `send` raises.

        `wanted` is asked batch by batch, which of these places are still to be probed. A batch is what leaves in a second or so; after
        each, `between` is called with the place in the round where it ended.
        """
        for hosts, ports, rounds, places in self._batches(wanted):
            self.turn, began = int(rounds[0]), time.monotonic()
            await self._send_when_due(hosts, ports, rounds, places, send)
            self.turn = int(rounds[-1])
            self._batch = max(LEAST_BATCH, min(MOST_BATCH, int(len(hosts) / max(time.monotonic() - began, 1e-6))))
            if between is not None:
                await between(int(places[-1]) + 1)
        self.turn += 1
        while len((late := self.turns.again())[0]):
            order = np.argsort(self._place_of[late[0]])
            hosts, ports = late[0][order], late[1][order]
            await self._send_when_due(hosts, ports, np.full(len(hosts), self.turn), self._place_of[hosts], send)
            if between is not None:
                await between(self._hosts)
            self.turn += 1

    async def push_in(self, hosts: Indices, ports: Indices, place: int, send: Send) -> None:
        """Send to some hosts, also those who sit out, in a round of their own that is pushed in before this place of the present one.

        Raises as `send`.
        """
        places = self._place_of[hosts]
        rounds = self.turn + (places < place).astype(np.int64)
        order = np.lexsort((places, rounds))
        await self._send_when_due(hosts[order], ports[order], rounds[order], places[order], send, Turns(self._hosts))
        self._timetable.skip_round()

    async def _send_when_due(
        self, hosts: Indices, ports: Indices, rounds: Places, places: Places, send: Send, turns: Turns | None = None
    ) -> None:
        turns = turns or self.turns
        due, sent = self._timetable.due(rounds, places), 0
        while sent < len(due):
            now = time.monotonic()
            self._timetable.late(float(due[sent]), now)
            due = self._timetable.due(rounds, places)
            ready = int(np.searchsorted(due[sent:], now, side="right"))
            pause = due[sent] - now if ready == 0 else self._reins.pause(now)
            if pause > 0:
                await asyncio.sleep(min(pause, LONGEST_SLEEP))
                self._meter.recheck_unit()
                continue
            ready = await self._meter.admit_some(min(ready, self._at_once, self._reins.most(now) or ready))
            mine = turns.take(hosts[sent : sent + ready], ports[sent : sent + ready])
            self._meter.unsent(ready - len(mine[0]))
            self._reins.left(len(mine[0]), time.monotonic())
            send(*mine)
            self._timetable.late(float(due[sent]), time.monotonic())
            sent += ready
            due = self._timetable.due(rounds, places)
            await asyncio.sleep(0)  # neither admission nor sending need wait, and answers must be read meanwhile

    def _batches(self, wanted: Callable[[Indices, Indices], Flags]) -> Iterator[tuple[Indices, Indices, Places, Places]]:
        """Places of hosts and ports, the round (only those with work count) and the place in it."""
        rank, last, start = self.turn - 1, -1, 0
        while start < self._order.size:
            hosts, ports = self._order.slice(start, start + self._batch)
            chosen = np.flatnonzero(wanted(hosts, ports))
            rounds, places = np.divmod(chosen + start, self._hosts)
            start += len(hosts)
            if len(chosen):
                ranks = rank + np.cumsum(np.diff(rounds, prepend=last) != 0)
                rank, last = int(ranks[-1]), int(rounds[-1])
                yield hosts[chosen], ports[chosen], ranks, places
