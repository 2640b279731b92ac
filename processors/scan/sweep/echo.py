"""ICMP echo discovery (RFC 792; RFC 4443, 4): which addresses answer a ping. Needs CAP_NET_RAW.

Identifier, sequence number and eight bytes of data are a keyed hash of the address and the attempt, so an answer is one only if it comes
from who was asked and repeats what only he can know. No table of what was sent is kept.
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import socket
import struct
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

import numpy as np

from infra.core.settings import ScannerSettings
from processors.scan.meter import Meter
from processors.scan.scope.mask import Flags, Ports, column_of
from processors.scan.sweep.cookies import siphash
from processors.scan.sweep.frames import words_of
from processors.scan.sweep.order import Indices, Order
from processors.scan.sweep.rounds import Rounds

ICMP6_FILTER: Final = 1
REQUEST, REPLY = {4: 8, 6: 128}, {4: 0, 6: 129}
MOST_A_CALL: Final = 512
REQUESTS_AT_ONCE: Final = 128  # answers to so many fit into a socket's buffer


async def discover_echo(addresses: Sequence[str], meter: Meter, settings: ScannerSettings) -> set[str]:
    """The addresses that answered. Those that no grant allows ICMP to are not asked. Raises Halted, and OSError without the privilege."""
    found: set[str] = set()
    for version in (4, 6):
        some = [one for one in addresses if (":" in one) == (version == 6)]
        if some:
            with ExitStack() as stack:
                run = EchoRun(some, version, meter, stack)
                for attempt in range(1, settings.attempts + 1):
                    await run.ask(attempt, settings.connect_timeout)
                found |= run.found
    return found


class EchoRun:
    """All echoes of one IP version."""

    def __init__(self, addresses: Sequence[str], version: int, meter: Meter, stack: ExitStack) -> None:
        self.found: set[str] = set()
        self._texts, self._version, self._meter = addresses, version, meter
        self._column = column_of([int(ipaddress.ip_address(one)) for one in addresses], version)
        self._no_ports: Ports = np.zeros(len(addresses), dtype=np.uint16)
        self._answered: Flags = np.zeros(len(addresses), dtype=bool)
        self._row = {address: row for row, address in enumerate(addresses)}
        self._secret = secrets.token_bytes(16)
        self._rounds = Rounds(Order(len(addresses), 1, secrets.randbits(64)), len(addresses), meter, REQUESTS_AT_ONCE)
        self._cookies: dict[int, list[bytes]] = {}
        self._news = asyncio.Event()
        self._socket = stack.enter_context(echo_socket(version))
        loop = asyncio.get_running_loop()
        loop.add_reader(self._socket.fileno(), self._hear)
        stack.callback(loop.remove_reader, self._socket.fileno())

    async def ask(self, attempt: int, seconds: float) -> None:
        """Ask who has not answered yet, and wait until all have, or the last one's time is over. Raises Halted."""
        words = [*words_of(self._column), np.full(len(self._texts), attempt, dtype=np.uint64)]
        others = siphash(self._secret, [*words, np.ones(len(self._texts), dtype=np.uint64)])
        self._cookies[attempt] = [
            one.tobytes()[:4] + other.tobytes() for one, other in zip(siphash(self._secret, words), others, strict=True)
        ]
        await self._rounds.send(lambda hosts, _: ~self._answered[hosts], lambda *at: self._send(attempt, *at))
        try:
            async with asyncio.timeout(seconds):
                while not self._answered.all():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pass

    def _send(self, attempt: int, hosts: Indices, _: Indices) -> None:
        """Write and send the requests that the grant covers now."""
        allowed = self._meter.mask().allows(self._column[hosts], self._no_ports[hosts], "icmp")
        left = 0
        for host in hosts[allowed]:
            self._meter.recheck_unit()  # a process that was stopped since this was allowed must not send it
            request = message(REQUEST[self._version], self._cookies[attempt][host])
            try:
                self._socket.sendto(request, (self._texts[host], 0))
            except OSError:
                continue  # no way there, or the way is full: it is asked again, or counts as silent
            left += 1
        if left < len(hosts):
            self._meter.unsent(len(hosts) - left)
        self._hear()

    def _hear(self) -> None:
        """Take what has come, a bounded number of packets a call."""
        for _ in range(MOST_A_CALL):
            try:
                data, sender = self._socket.recvfrom(256)
            except OSError:
                return
            body = data[(data[0] & 15) * 4 :] if self._version == 4 and data else data
            address = sender[0].partition("%")[0]
            row = self._row.get(address)
            if row is None or len(body) < 16 or body[0] != REPLY[self._version] or body[1] != 0:
                continue
            if any(body[4:16] == made[row] for made in self._cookies.values()):
                self._answered[row] = True
                self.found.add(address)
                self._news.set()


def echo_socket(version: int) -> socket.socket:
    """A raw socket that gets echo replies (and, of IPv4, other ICMP). Raises OSError without the privilege."""
    if version == 6:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        blocked = bytearray(b"\xff" * 32)  # a bit a type (RFC 3542, 3.2), in words of this machine
        struct.pack_into("=I", blocked, REPLY[6] // 32 * 4, 0xFFFFFFFF & ~(1 << REPLY[6] % 32))
        sock.setsockopt(socket.IPPROTO_ICMPV6, ICMP6_FILTER, bytes(blocked))
    else:
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    sock.setblocking(False)
    return sock


def message(kind: int, cookie: bytes) -> bytes:
    """An echo message with 12 bytes of cookie as identifier, sequence number and data. Of IPv6 the kernel fills in the checksum."""
    words = struct.unpack("!6H", cookie)
    total = (kind << 8) + sum(words)
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!BBH", kind, 0, total ^ 0xFFFF) + cookie
