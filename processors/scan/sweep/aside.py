"""Packet sockets are opened and closed beside the event loop, in threads.

The kernel waits until none of its cores uses a packet socket any more (synchronize_net), 10 to 50 ms each time; meanwhile this sweep gets
ready, and other units go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

Opened = TypeVar("Opened")


def opening(opener: Callable[[], Opened]) -> asyncio.Future[Opened]:
    """What `opener` opens, or raises, soon. Wait for it with `asyncio.shield`: what is opened is to be closed also if nobody waits."""
    return asyncio.get_running_loop().run_in_executor(None, opener)


async def all_closed(*openings: asyncio.Future[Any]) -> None:
    """Call `close` of what was opened, of all at once: they share the kernel's wait."""
    await asyncio.wait(openings)
    await asyncio.gather(*(asyncio.to_thread(one.result().close) for one in openings if one.exception() is None))
