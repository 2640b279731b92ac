"""Watches beside the work of a unit whether the hosts that answered still do, and halts their subnet when one does not."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from processors.scan.impact import Suspect, Vigil, reason_of
from processors.scan.meter import Meter
from processors.scan.scope.gate import Halted, OutOfScope
from processors.scan.sweep.connect import ONE_SYN_SECONDS, LocalTrouble, connect
from processors.scan.sweep.ledger import Flags, Key, Ledger, PortState
from schemas.scope import Ask

if TYPE_CHECKING:  # to build the observations' models takes 17 ms, which a sweep by hand would wait for
    from schemas.events.observations import Impact

ROUND_SECONDS = 0.5
PACKETS_PER_ASK = 3  # SYN, and where it is answered ACK and RST
SHARE = 0.01  # of a unit's packets a second
MOST_AT_THE_END = 16


class Watchman:
    """The vigil of one unit. A SYN sweep asks for it, in its own checks; else it asks itself, by plain connects of one SYN each.

    Those pass the gate like any packet. They take a hundredth of the unit's packets at most, but one a round in any case; and no host is
    asked more often than every 5 s while it answers. `asks`: whether it may ask itself now.
    """

    def __init__(self, ledger: Ledger, meter: Meter, packets_per_second: int) -> None:
        self.vigil = Vigil()
        self.suspects: tuple[Suspect, ...] = ()
        self.asks = True
        self._ledger, self._meter = ledger, meter
        self._most = max(1, int(packets_per_second * SHARE * ROUND_SECONDS / PACKETS_PER_ASK))

    async def beside(self, work: Coroutine[None, None, None]) -> None:
        """Do the work and watch meanwhile, and at the end ask once more. Raises Halted, and what the work raises."""
        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(self._keep_watch())
                await work
                watching.cancel()
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        self._take_in()
        self._at_the_end()
        while self.vigil.watching():
            await self._round(MOST_AT_THE_END)
            if self.vigil.watching():
                await asyncio.sleep(ROUND_SECONDS / 10)

    def impact(self) -> tuple[Impact, ...]:
        """The hosts that stopped answering, as an event says it."""
        from schemas.events.observations import Impact

        return tuple(Impact(address=one.address, port=one.port) for one in self.suspects)

    def due(self, most: int) -> list[Key]:
        """Up to so many ports to ask now; who takes them is to `note` what they say."""
        self._take_in()
        return self.vigil.due(asyncio.get_running_loop().time(), most, self._meter.by_host)

    def note(self, address: str, answered: bool) -> None:
        """What became of an ask."""
        self.vigil.note(address, answered)

    def judge(self) -> None:
        """Raises Halted, and halts the subnet, where a host stopped answering."""
        self.suspects = self.vigil.suspects()
        if self.suspects:
            reason = reason_of(self.suspects)
            self._meter.hold(reason)
            raise Halted(reason)

    def _at_the_end(self) -> None:
        """Choose who is to answer once more."""
        self.vigil.end(MOST_AT_THE_END, self._meter.by_host)

    async def _keep_watch(self) -> None:
        while True:
            await asyncio.sleep(ROUND_SECONDS)
            if self.asks:
                self._take_in()
                await self._round(self._most)

    def _take_in(self) -> None:
        """Watch what answered since, at its first port."""
        answered = self._ledger.states == PortState.ANSWERED
        now = asyncio.get_running_loop().time()
        for row in self._rows_to_watch(answered).tolist():
            self.vigil.watch(self._ledger.addresses[row], self._ledger.ports[int(answered[row].argmax())], now)
        answers = self._ledger.answers_by_attempt
        self.vigil.expect(sum(answers[1:]) / max(1, sum(answers[:-1])))  # the model of `recall`, without a prior

    def _rows_to_watch(self, answered: Flags) -> NDArray[np.intp]:
        """The hosts to watch, given which ports answered. One that was dropped is watched again."""
        return np.flatnonzero(answered.any(axis=1))

    async def _round(self, most: int) -> None:
        keys = self.vigil.due(asyncio.get_running_loop().time(), most, self._meter.by_host)
        await asyncio.gather(*(self._ask(*key) for key in keys))
        self.judge()

    async def _ask(self, address: str, port: int) -> None:
        ask = Ask("tcp", port)
        try:
            await self._meter.admit(address, ask)
            answered = await connect((address, port), ONE_SYN_SECONDS) is PortState.ANSWERED
        except (LocalTrouble, OutOfScope):
            self.vigil.drop(address)
            return
        self.vigil.note(address, answered)
        if answered:
            await self._meter.settle(address, ask, 2)
