"""Thread pools, futures and waiting as `concurrent.futures` has them, for processes of a simulated world: a thread is a greenlet too."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from tests.simulation.world import World


class SimFuture:
    """What becomes of a piece of work."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._done, self._value = False, None
        self._error: Exception | None = None

    def work(self, before: SimFuture | None, call: Callable[[], Any]) -> None:
        """Do it, after what was given to the same thread before."""
        if before is not None:
            before.exception()
        try:
            self._world.call()
            self._value = call()
        except Exception as error:  # noqa: BLE001  whoever asks is told
            self._error = error
        self._done = True
        self._world.broker.news += 1

    def done(self) -> bool:
        """Whether it has ended."""
        return self._done

    def exception(self) -> Exception | None:
        """Wait for its end; how it failed, or None."""
        while not self._done:
            self._world.wait(float("inf"))
        return self._error

    def result(self) -> Any:
        """Wait for its end; what came of it. Raises what it raised."""
        error = self.exception()
        if error is not None:
            raise error
        return self._value


class SimPool:
    """A pool of one thread."""

    def __init__(self, world: World, name: str) -> None:
        self._world, self._name = world, name
        self._last: SimFuture | None = None

    def submit(self, call: Callable[..., Any], *arguments: Any) -> SimFuture:
        """Give it work."""
        before, self._last = self._last, SimFuture(self._world)
        future = self._last
        self._world.thread(self._name, lambda: future.work(before, lambda: call(*arguments)))
        return future

    def shutdown(self, wait: bool) -> None:
        """Its threads end with the process."""
        assert not wait


def wait(world: World, futures: Collection[SimFuture], seconds: float) -> None:
    """Wait until all have ended, or so long."""
    until = world.now + seconds
    while not all(one.done() for one in futures) and world.now < until:
        world.wait(until)
