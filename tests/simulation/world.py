"""Processes that take turns by a seed, on a clock of their own: at each call of a client one may be switched, stalled or killed.

The engine's code runs unchanged, each process as a greenlet. So one seed is one order of events, and gives the same run each time.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import greenlet

from tests.simulation.broker import Broker

CALL_SECONDS = 0.001
MOST_STEPS = 60_000
RESTART_SECONDS = (0.1, 4.0)
MARKER_SECONDS = (0.0, 0.0, 0.003, 0.05, 2.0)


class Killed(BaseException):
    """SIGKILL: nothing of the process's own is done any more."""


class NoProgressError(AssertionError):
    """The run did not come to its end: something waits for ever. No mismatch of results."""


@dataclass(frozen=True, slots=True)
class Faults:
    """How often what happens at a call: chances (0–1), and how many kills and stalls in all."""

    switch: float = 0.2
    trouble: float = 0.02
    kill: float = 0.01
    stall: float = 0.004
    most: int = 4


NONE = Faults(switch=0.2, trouble=0.0, kill=0.0, stall=0.0, most=0)


class Process:
    """A worker that is started again when it was killed; a thread, which has an `owner`, is not. `disk` is what it finds there again."""

    def __init__(self, name: str, program: Callable[[Process], None], owner: Process | None = None) -> None:
        self.name, self.program, self.owner = name, program, owner
        self.disk: dict[int, tuple[dict[str, bytes], int]] = {}
        self.run: greenlet.greenlet | None = None
        self.wakes = 0.0  # not before this, …
        self.heeds = False  # … or as soon as there is news
        self.seen = 0
        self.silent_since: float | None = None  # dead or stalled: no heartbeat
        self.lives = 0
        self.killed = False

    @property
    def whole(self) -> Process:
        """The process that this is, or that this is a thread of: it dies and stalls as one."""
        return self.owner or self


class World:
    """Clock, broker, processes and luck of one run."""

    def __init__(self, seed: int, topics: Mapping[str, int], faults: Faults = NONE, markers: Sequence[float] = MARKER_SECONDS) -> None:
        self.luck, self.faults = random.Random(seed), faults  # noqa: S311  luck, not a secret
        self.now, self.steps, self.spent = 1_000_000.0, 0, 0
        self.broker = Broker(topics, lambda: self.now, lambda: self.luck.choice(markers))
        self.processes: list[Process] = []
        self._current: Process | None = None
        self._scheduler = greenlet.getcurrent()
        self.kill_at: int | None = None  # the step at which the process that is at it is killed
        self.story: list[str] = []
        self._ticked = 0.0

    @property
    def current(self) -> Process:
        """The process whose turn it is."""
        assert self._current is not None, "a client was used outside of any process"
        return self._current

    def heard(self, process: Process) -> float:
        """When the process last sent a heartbeat."""
        return self.now if process.silent_since is None else process.silent_since

    def thread(self, name: str, work: Callable[[], None]) -> None:
        """Begin a thread of the process whose turn it is."""
        self.processes.append(Process(f"{self.current.name}/{name}", lambda _: work(), self.current.whole))

    def later(self, at: float, happens: Callable[[], None]) -> None:
        """Let something happen at this moment, whoever is alive then."""

        def when_due(process: Process) -> None:
            self.wait(at, news=False)
            happens()
            self.broker.news += 1
            self.processes.remove(process)
            self.wait(float("inf"), news=False)

        self.processes.append(Process("later", when_due))

    def call(self) -> None:
        """Something of the outside world is about to happen, or has: others may come first, and this process may be no more."""
        if self._current is not None and self._current.whole.killed:
            raise Killed  # what a dying process still does on its way out reaches nobody
        self.steps += 1
        self.now += CALL_SECONDS
        draw = self.luck.random()
        faults = self.faults
        if self.kill_at is not None and self.steps == self.kill_at:
            self._die()
        if self.spent < faults.most:
            if draw < faults.kill:
                self._die()
            if draw < faults.kill + faults.stall:
                self._stall()
                return
        if draw > 1 - faults.switch:
            self._scheduler.switch()

    def wait(self, until: float, news: bool = True) -> None:
        """Sleep until a moment, or until something happened at the broker."""
        process = self.current
        if process.whole.killed:
            raise Killed
        process.wakes, process.heeds, process.seen = until, news, self.broker.news
        self._scheduler.switch()

    def trouble(self) -> bool:
        """Whether this call is to go wrong."""
        return self.luck.random() < self.faults.trouble

    def until(self, done: Callable[[], bool]) -> None:
        """Let all run until it is done. Raises NoProgressError, and what a process raised that was no kill."""
        checked = -1
        try:
            while True:
                if self.broker.news != checked and self._quiet():
                    checked = self.broker.news
                    if done():
                        return
                if self.steps > MOST_STEPS:
                    raise NoProgressError(f"after {self.steps} calls and {self.now - 1e6:.0f} s it is not done")
                self._turn()
        finally:
            for process in [one for one in self.processes if one.owner is None]:
                self._end(process)

    def _end(self, process: Process) -> None:
        """End a process and its threads where they are."""
        process.killed = True
        for one in [one for one in self.processes if one.whole is process]:
            if one.owner is not None:
                self.processes.remove(one)
            if one.run is not None and not one.run.dead:
                self._current = one
                with suppress(Killed):
                    one.run.throw(Killed)

    def _quiet(self) -> bool:
        return all(self.now < one.wakes for one in self.processes)

    def _turn(self) -> None:
        ready = [one for one in self.processes if one.wakes <= self.now or (one.heeds and one.seen != self.broker.news)]
        if not ready:
            self.now = min(one.wakes for one in self.processes) + 1e-6
            self.broker.tick()
            return
        self.steps += 1
        process = ready[0] if len(ready) == 1 else self.luck.choice(ready)
        process.wakes, process.heeds = 0.0, False
        if self._ticked != self.now:
            self._ticked = self.now
            self.broker.tick()
        process.whole.silent_since = None
        if process.run is None or process.run.dead:
            if process.owner is None:
                self._end(process)  # what threads its former life left
                process.killed = False
            process.lives += 1
            process.run = greenlet.greenlet(process.program)
        self._current = process
        try:
            process.run.switch(process)
        except Killed:
            self._bury(process.whole)
        if process.owner is not None and process.run.dead and process in self.processes:
            self.processes.remove(process)

    def _bury(self, process: Process) -> None:
        self._end(process)
        process.run, process.silent_since = None, self.now
        process.wakes, process.heeds = self.now + self.luck.uniform(*RESTART_SECONDS), False

    def _die(self) -> None:
        self.spent += 1
        self.current.whole.killed = True
        self.story.append(f"{self.now - 1e6:.3f} kill {self.current.name}")
        raise Killed

    def _stall(self) -> None:
        self.spent += 1
        process, seconds = self.current.whole, self.luck.choice((2.0, 11.0, 30.0))
        self.story.append(f"{self.now - 1e6:.3f} stall {process.name} {seconds}")
        process.silent_since = self.now
        for one in self.processes:
            if one.whole is process:
                one.wakes, one.heeds = self.now + seconds, False  # who waits looks again then
        self._scheduler.switch()
