"""The simulated broker for a test that drives its clients itself: one process, no luck, and waiting is only time."""

from __future__ import annotations

from collections.abc import Mapping

from tests.simulation.world import Faults, Process, World


class LoneWorld(World):
    """A world in which nobody else takes a turn."""

    def __init__(self, topics: Mapping[str, int]) -> None:
        super().__init__(0, topics, Faults(switch=0, trouble=0, kill=0, stall=0, most=0), markers=(0.05,))
        process = Process("test", lambda _: None)
        self.processes, self._current = [process], process
        process.run = self._scheduler

    def call(self) -> None:
        """A call takes a while, and the broker does what was due."""
        super().call()
        self.now += 0.1
        self.broker.tick()

    def wait(self, until: float, news: bool = True) -> None:
        """Let the time pass."""
        self.now = until + 1e-6
        self.broker.tick()
