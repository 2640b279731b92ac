"""Connection attempts behind one epoll: bounded, each told of once, none left open."""

from __future__ import annotations

import asyncio
import errno
import socket
from pathlib import Path

import pytest

from processors.scan.sweep.attempts import Attempts, Ended
from processors.scan.sweep.connect import open_socket

HOST = "127.79.1.1"


def sockets() -> int:
    return sum(one.is_socket() for one in Path("/proc/self/fd").iterdir())


def test_each_attempt_is_told_of_once_and_no_more_than_the_bound_are_open() -> None:
    """A full listen queue swallows SYNs: those attempts are late. Closed ports refuse."""
    told: list[Ended] = []
    most = 0

    async def run() -> None:
        nonlocal most
        async with Attempts(0.3, 5, told.append) as attempts:
            for port in [server.getsockname()[1], *range(1, 40)]:
                await attempts.room()
                attempts.begin((HOST, port), open_socket((HOST, port)))
                most = max(most, sockets() - before)
            await attempts.all_ended()

    with socket.create_server((HOST, 0)) as server:
        before = sockets()
        asyncio.run(run())
        assert sockets() == before
    assert sorted(one.key[1] for one in told) == sorted({server_port(told), *range(1, 40)})
    assert [one for one in told if not one.error and not one.late] == [Ended((HOST, server_port(told)))]
    assert {one.error for one in told if one.key[1] < 40} == {errno.ECONNREFUSED}
    assert most <= 5 + 5  # the event loop's own come on top


def server_port(told: list[Ended]) -> int:
    return next(one.key[1] for one in told if one.key[1] >= 40)


def test_silence_is_late_and_leaving_closes_what_is_under_way() -> None:
    with socket.create_server((HOST, 0), backlog=0) as server:
        key: tuple[str, int] = (HOST, server.getsockname()[1])
        full = [socket.socket() for _ in range(4)]  # the queue takes one or two; the next SYN is dropped
        for one in full:
            one.setblocking(False)
            one.connect_ex(key)
        told: list[Ended] = []

        async def wait_for_it() -> None:
            async with Attempts(0.2, 8, told.append) as attempts:
                await attempts.room()
                attempts.begin(key, open_socket(key))
                await attempts.all_ended()

        async def leave() -> None:
            async with Attempts(30.0, 8, told.append) as attempts:
                await attempts.room()
                attempts.begin(key, open_socket(key))
                raise KeyError

        before = sockets()
        asyncio.run(wait_for_it())
        assert told == [Ended(key, late=True)]
        with pytest.raises(KeyError):
            asyncio.run(leave())
        assert told == [Ended(key, late=True)]
        assert sockets() == before
        for one in full:
            one.close()
