"""Runs other programs (nmap, hping3, traceroute): few at once, capped in output and time, never outliving the scanner."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog

OUTPUT_LIMIT = 1 << 20
CHECK_SECONDS = 0.25

log = structlog.get_logger()


_PLACES: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Semaphore]] = weakref.WeakKeyDictionary()


def places_of(name: str, bound: int) -> asyncio.Semaphore:
    """The semaphore of a program in the running loop: all units share it, since they share the machine."""
    return _PLACES.setdefault(asyncio.get_running_loop(), {}).setdefault(name, asyncio.Semaphore(bound))


def program_path() -> str:
    """PATH, and the system's folders that a user's PATH may lack."""
    return os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"


async def run_tool(arguments: Sequence[str], seconds: float, check: Callable[[], None]) -> bytes:
    """Run a program and return its standard output, b"" if it took longer than `seconds` (it is then killed).

    `check` is called four times a second; what it raises (OutOfScope, Halted) kills the program first. So does a cancellation, which is
    passed on only when the program has ended, and `setpriv` where there is one: the kernel kills the program together with the scanner.
    """
    stop = asyncio.Event()
    task = asyncio.ensure_future(_run(arguments, seconds, check, stop))
    try:
        return await asyncio.shield(task)
    finally:
        stop.set()
        while not task.done():
            with suppress(asyncio.CancelledError):  # cancelled once more meanwhile: what comes first is passed on
                await asyncio.wait({task})
        if not task.cancelled():
            task.exception()


async def _run(arguments: Sequence[str], seconds: float, check: Callable[[], None], stop: asyncio.Event) -> bytes:
    """The program from its start to its end, which `stop` brings about at once."""
    setpriv = shutil.which("setpriv")
    guard = [setpriv, "--pdeathsig", "KILL"] if setpriv else []
    process = await asyncio.create_subprocess_exec(
        *guard,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
        env={"PATH": program_path(), "LC_ALL": "C"},
    )
    output, stopped = asyncio.ensure_future(_read(process)), asyncio.ensure_future(stop.wait())
    deadline = asyncio.get_running_loop().time() + seconds
    try:
        while not (await asyncio.wait({output, stopped}, timeout=CHECK_SECONDS, return_when=asyncio.FIRST_COMPLETED))[0]:
            check()
            if asyncio.get_running_loop().time() > deadline:
                log.warning("tool_took_too_long", program=arguments[0], seconds=seconds)
                return b""
        return output.result() if output.done() else b""
    finally:
        stopped.cancel()
        await _end(process, output)


async def _read(process: asyncio.subprocess.Process) -> bytes:
    found = bytearray()
    while process.stdout and len(found) < OUTPUT_LIMIT and (chunk := await process.stdout.read(65536)):
        found += chunk
    return bytes(found)


async def _end(process: asyncio.subprocess.Process, output: asyncio.Future[bytes]) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    output.cancel()
    await asyncio.gather(output, return_exceptions=True)
    await asyncio.shield(process.wait())
