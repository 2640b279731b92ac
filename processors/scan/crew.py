"""Runs units side by side on an event loop in a thread of its own, so that probing and Kafka never wait for each other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Crew:
    """One thread, one event loop. Work comes back as a `concurrent.futures.Future` that is done when the work has truly ended."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._turn, name="probing", daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin this."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def cancel(self, task: asyncio.Task[Any]) -> None:
        """Cancel a task of this crew at its next await."""
        self._loop.call_soon_threadsafe(task.cancel)

    def close(self, timeout: float = 5.0) -> None:
        """Cancel what still runs, let it clean up for at most `timeout` seconds, and end the thread. Closing twice is fine."""
        if not self._thread.is_alive():
            return
        finished = asyncio.run_coroutine_threadsafe(_cancel_others(timeout), self._loop)
        try:
            finished.result(timeout + 1.0)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout)

    def _turn(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()


async def _cancel_others(patience: float) -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=patience)
