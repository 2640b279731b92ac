"""The UDP sweep: a question of its own protocol to each port, by plain sockets, IPv4 and IPv6.

A port answered if what came from it answers the question: same address and port, sent to the source port of that round, and with the
number in it that only who got the question can know (a keyed hash of address, port and attempt), where the protocol carries one. It is
closed if the host itself says so by ICMP. Hosts may say so rarely (RFC 1812, 4.3.2.8; Linux once a second), so what says nothing
is silent, which may be closed or open: a port of which nothing is heard is never called open.
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
from collections.abc import Sequence
from contextlib import ExitStack, closing

import numpy as np

from infra.core.settings import ScannerSettings
from processors.scan.meter import Meter
from processors.scan.probing.evidence import Evidence
from processors.scan.scope.mask import Flags, column_of
from processors.scan.sweep.cookies import siphash
from processors.scan.sweep.datagrams import Datagrams
from processors.scan.sweep.frames import words_of
from processors.scan.sweep.ledger import Key, Ledger, PortState
from processors.scan.sweep.order import Indices, Order
from processors.scan.sweep.payloads import payloads_of
from processors.scan.sweep.rounds import Rounds
from schemas.scope import Ask

DATAGRAMS_AT_ONCE = 128  # answers to so many fit into a socket's buffer, whatever the machine allows


class UdpSweep:
    """One sweep of a ledger's UDP ports. `heard` is what answers said; `answers_by_attempt` counts them, for the estimate of recall.

    Ports that are said to be closed don't count there: how often a host says so is its choice, not loss.
    """

    def __init__(self, ledger: Ledger, meter: Meter, settings: ScannerSettings) -> None:
        self.ledger, self.heard = ledger, dict[Key, Evidence]()
        self.answers_by_attempt = [0] * settings.attempts
        self._meter, self._settings = meter, settings

    async def run(self) -> None:
        """Probe every open key of the ledger. Raises Halted (the ledger then holds what was finished) and OSError without sockets."""
        if not self.ledger.ports:
            return
        asked = max(len(payloads_of(port)) for port in self.ledger.ports)
        for version in (4, 6):
            if not len(self.ledger.addresses.column(version)[0]):
                continue
            with ExitStack() as stack:
                family = Family(self, version, self._meter)
                for turn in range(asked):
                    for attempt in range(1, self._settings.attempts + 1):
                        await Round(family, turn, attempt, stack).run(self._settings.connect_timeout)
        self.ledger.silence()


class Family:
    """The addresses of one IP version in a sweep, with the secret and the order that all its rounds share."""

    def __init__(self, sweep: UdpSweep, version: int, meter: Meter) -> None:
        self.sweep, self.version, self.meter = sweep, version, meter
        self.rows, self.addresses = sweep.ledger.addresses.column(version)
        self.secret = secrets.token_bytes(16)
        self.rounds = Rounds(Order(len(self.rows), len(sweep.ledger.ports), secrets.randbits(64)), len(self.rows), meter, DATAGRAMS_AT_ONCE)
        self.ports = np.array(sweep.ledger.ports, dtype=np.uint16)
        self.known = set(sweep.ledger.addresses.texts(self.rows))
        self.answered = asyncio.Event()

    def cookies(self, keys: Sequence[Key], number: int) -> list[bytes]:
        """What only the host of a question can know: 8 bytes for each address and port at the round of this number."""
        if not keys:
            return []
        column = column_of([int(ipaddress.ip_address(address)) for address, _ in keys], self.version)
        words = np.array([port for _, port in keys], dtype=np.uint64) | np.uint64(number << 16)
        return [one.tobytes() for one in siphash(self.secret, [*words_of(column), words])]


class Round:
    """One question to each port that has so many, from a source port of its own, which listens until the sweep ends."""

    def __init__(self, family: Family, turn: int, attempt: int, stack: ExitStack) -> None:
        self._family, self._turn, self._attempt = family, turn, attempt
        self._ledger, self._meter = family.sweep.ledger, family.meter
        self._number = turn * 256 + attempt
        self._payloads = {port: some[turn] for port in self._ledger.ports if turn < len(some := payloads_of(port))}
        self._roaming = [port for port, one in self._payloads.items() if one.elsewhere]
        self._asks: Flags = np.array([port in self._payloads for port in self._ledger.ports])
        self._socket = stack.enter_context(closing(Datagrams(family.version)))
        loop = asyncio.get_running_loop()
        loop.add_reader(self._socket.fileno(), self._hear)
        stack.callback(loop.remove_reader, self._socket.fileno())

    async def run(self, seconds: float) -> None:
        """Ask, and wait until all that was asked has answered, or the last one's time is over. Raises Halted."""
        family = self._family
        if not self._left():
            return
        await family.rounds.send(lambda hosts, ports: self._open(family.rows[hosts], ports), self._send)
        try:
            async with asyncio.timeout(seconds):
                while self._left():
                    family.answered.clear()
                    await family.answered.wait()
        except TimeoutError:
            pass

    def _left(self) -> bool:
        """Whether anything that this round asks about has no state yet."""
        return bool(((self._ledger.states[self._family.rows] == PortState.OPEN) & self._asks).any())

    def _open(self, rows: Indices, ports: Indices) -> Flags:
        found: Flags = (self._ledger.states[rows, ports] == PortState.OPEN) & self._asks[ports]
        return found

    def _send(self, hosts: Indices, ports: Indices) -> None:
        """Write and send the questions that the grant covers now; note what it does not, and what can't leave. Raises Halted."""
        family = self._family
        allowed = self._meter.mask().allows(family.addresses[hosts], family.ports[ports], "udp")
        keys = [(self._ledger.addresses[family.rows[host]], self._ledger.ports[port]) for host, port in zip(hosts, ports, strict=True)]
        for key in [key for key, fine in zip(keys, allowed, strict=True) if not fine]:
            self._ledger.refuse(key, self._meter.refusal(key[0], Ask("udp", key[1])))
        fit = [key for key, fine in zip(keys, allowed, strict=True) if fine]
        left = 0
        for key, cookie in zip(fit, family.cookies(fit, self._number), strict=True):
            self._meter.recheck_unit()  # a process that was stopped since this was allowed must not send it
            left += self._sent(key, cookie)
        if left < len(keys):
            self._meter.unsent(len(keys) - left)
        self._hear()

    def _sent(self, key: Key, cookie: bytes) -> bool:
        """Whether the question left."""
        try:
            trouble = self._socket.send(self._payloads[key[1]].written(cookie), *key)
        except OSError as error:
            self._ledger.refuse(key, f"nothing was sent: {error.strerror}")
            return False
        if trouble is not None:
            self._ledger.note(key, trouble)
        return trouble is None

    def _hear(self) -> None:
        """Take what has come: answers, and what ICMP says of our questions."""
        for complaint in self._socket.complaints():
            key = complaint.address, complaint.port
            if complaint.address in self._family.known and complaint.port in self._ledger.ports:
                self._ledger.note(key, complaint.state, self._attempt)
        came = [(key, data) for data, address, port in self._socket.answers() for key in self._asked(address, port)]
        for (key, data), cookie in zip(came, self._family.cookies([key for key, _ in came], self._number), strict=True):
            payload = self._payloads[key[1]]
            if payload.reads(data, cookie) and self._ledger.state(key) <= PortState.SILENT:
                self._ledger.note(key, PortState.ANSWERED, self._attempt)
                self._family.sweep.answers_by_attempt[self._attempt - 1] += 1
                self._family.sweep.heard[key] = payload.evidence(data)
        self._family.answered.set()

    def _asked(self, address: str, port: int) -> list[Key]:
        """Which questions a datagram from there may answer."""
        if address not in self._family.known:
            return []
        return [(address, port)] if port in self._payloads else [(address, one) for one in self._roaming]
