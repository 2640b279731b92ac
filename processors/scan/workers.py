"""Two ways to run coroutines together: a bounded share-out, and work that a watch can end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import TypeVar

Item = TypeVar("Item")
WATCH_SECONDS = 0.25


async def share_out(items: Iterable[Item], work: Callable[[Item], Awaitable[None]], workers: int) -> None:
    """Do `work` on each item, at most `workers` at once. The first exception ends the others and is raised itself."""
    queue = iter(items)

    async def worker() -> None:
        for item in queue:
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(worker())
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def watched(work: Coroutine[None, None, None], watch: Callable[[], None], seconds: float) -> None:
    """Run `work`, calling `watch` four times a second. What `watch` raises, or TimeoutError after `seconds`, ends the work first."""
    task = asyncio.ensure_future(work)
    deadline = asyncio.get_running_loop().time() + seconds
    try:
        while not (await asyncio.wait({task}, timeout=WATCH_SECONDS))[0]:
            watch()
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError
        task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
