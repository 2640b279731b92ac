"""The SYN sweep: half-open probes by the batch, IPv4 and IPv6; needs CAP_NET_RAW.

Answers are matched without a table: the sequence number is a keyed hash of (address, port, attempt), so only a host that got the
probe can acknowledge it, and the source port tells the attempt. The kernel, which knows nothing of these probes, resets what
answers with SYN/ACK by itself. Each batch is masked by the grant in the function that writes it (`frames`), right before it leaves.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import secrets
import socket
import struct
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, closing

import numpy as np
from numpy.typing import NDArray

from infra.core.settings import ScannerSettings
from processors.scan.meter import Meter
from processors.scan.scope.mask import column_of
from processors.scan.sweep.answers import Answers, answers_of
from processors.scan.sweep.cookies import cookies
from processors.scan.sweep.frames import SynWriter, words_of
from processors.scan.sweep.ledger import Key, Ledger, PortState
from processors.scan.sweep.order import Indices, Order
from processors.scan.sweep.pace import Timetable
from processors.scan.sweep.receive import Ears, attach
from processors.scan.sweep.routes import source_of
from processors.scan.sweep.transmit import RawSender
from schemas.scope import Ask

FIRST_SOURCE_PORT = 61_000  # above Linux's default ephemeral range, so that no socket of the kernel has it
BLOCK = 8
BATCH = 4096
LONGEST_SLEEP = 0.25  # between two looks at the halts
ETH_P_ALL = 3
UNSENT_UNREACHABLE = {errno.ENETUNREACH, errno.EHOSTUNREACH}


async def sweep_syn(ledger: Ledger, meter: Meter, settings: ScannerSettings) -> None:
    """Probe every open key of the ledger. Raises Halted (the ledger then holds what was finished) and OSError without the privilege."""
    for source, rows in by_source(ledger).items():
        with ExitStack() as stack:
            run = SynRun(ledger, rows, source, meter, stack)
            for attempt in range(1, settings.attempts + 1):
                await run.send_round(attempt)
                await run.wait_for_answers(settings.connect_timeout)
    ledger.silence()


def by_source(ledger: Ledger) -> dict[str, Indices]:
    """The rows of the ledger by the source address that the kernel would use; what it knows no way to is noted as unreachable."""
    found: dict[str, list[int]] = defaultdict(list)
    columns = np.arange(len(ledger.ports), dtype=np.uint32)
    for row, address in enumerate(ledger.addresses):
        try:
            found[source_of(address)].append(row)
        except OSError as error:
            if error.errno not in UNSENT_UNREACHABLE:
                raise
            ledger.note_all(np.full(len(columns), row, dtype=np.uint32), columns, PortState.UNREACHABLE, 1)
    return {source: np.array(rows, dtype=np.uint32) for source, rows in found.items()}


class SynRun:
    """All probes of one sweep that leave from one source address."""

    def __init__(self, ledger: Ledger, rows: Indices, source: str, meter: Meter, stack: ExitStack) -> None:
        self.version = 6 if ":" in source else 4
        self._ledger, self._rows, self._source, self._meter = ledger, rows, source, meter
        self._secret = secrets.token_bytes(16)
        self._first_port = FIRST_SOURCE_PORT + BLOCK * secrets.randbelow(500)
        self._order = Order(len(rows), len(ledger.ports), secrets.randbits(64))
        self._ports = np.array(ledger.ports, dtype=np.uint16)
        self._addresses = column_of([_number(ledger.addresses[row]) for row in rows], self.version)
        self._row_of = {ledger.addresses[row]: int(row) for row in rows}
        self._sorted = np.argsort(self._addresses)
        self._owed = 0
        self._news = asyncio.Event()
        self._sender = stack.enter_context(closing(RawSender(self.version)))
        self._writer = SynWriter(source, self._first_port, self._secret)
        self._ears = stack.enter_context(closing(Ears(self.version, self._first_port, BLOCK, self._order.size)))
        self._routers = stack.enter_context(unreachables_socket(self.version))
        loop = asyncio.get_running_loop()
        for sock, heard in ((self._ears.fileno(), self._hear), (self._routers.fileno(), self._hear_routers)):
            loop.add_reader(sock, heard)
            stack.callback(loop.remove_reader, sock)

    async def send_round(self, attempt: int) -> None:
        """Send one SYN to each port that has no state yet, in the order of the sweep, at the pace of hosts and budgets."""
        timetable = Timetable(len(self._rows), self._meter.per_host(), time.monotonic())
        for hosts, ports, rounds, places in self._open_positions():
            due = timetable.due(rounds, places)
            sent = 0
            while sent < len(due):
                now = time.monotonic()
                timetable.late(float(due[sent]), now)
                due = timetable.due(rounds, places)
                ready = int(np.searchsorted(due[sent:], now, side="right"))
                if ready == 0:
                    await asyncio.sleep(min(due[sent] - now, LONGEST_SLEEP))
                    self._meter.recheck_unit()
                    continue
                ready = await self._meter.admit_some(ready)
                batch = slice(sent, sent + ready)
                self._send(hosts[batch], ports[batch], attempt)
                timetable.late(float(due[sent]), time.monotonic())
                sent += ready
                due = timetable.due(rounds, places)
                await asyncio.sleep(0)  # neither admission nor sending need wait, and answers must be read meanwhile
            await self._settle()

    def _open_positions(self) -> Iterator[tuple[Indices, Indices, NDArray[np.int64], NDArray[np.int64]]]:
        """Batches of what has no state: places in `rows` and `ports`, the round (only those with work count) and the place in it."""
        rank, last = -1, -1
        for start in range(0, self._order.size, BATCH):
            hosts, ports = self._order.slice(start, start + BATCH)
            wanted = np.flatnonzero(self._ledger.states[self._rows[hosts], ports] == PortState.OPEN)
            if not len(wanted):
                continue
            rounds, places = np.divmod(wanted + start, len(self._rows))
            new = np.diff(rounds, prepend=last) != 0
            ranks = rank + np.cumsum(new)
            rank, last = int(ranks[-1]), int(rounds[-1])
            yield hosts[wanted], ports[wanted], ranks, places

    def _send(self, hosts: Indices, ports: Indices, attempt: int) -> None:
        """Write and send what the grant covers now; note what it does not."""
        written = self._writer.write(self._addresses[hosts], self._ports[ports], attempt, self._meter.mask())
        self._sender.send(written.frames, self._addresses[hosts][written.allowed])
        if len(written.frames) < len(hosts):
            self._meter.unsent(len(hosts) - len(written.frames))
        for host, port in zip(hosts[~written.allowed], ports[~written.allowed], strict=True):
            key = self._ledger.addresses[self._rows[host]], self._ledger.ports[port]
            self._ledger.refuse(key, self._meter.refusal(key[0], Ask("tcp", key[1])))
        self._hear()

    async def wait_for_answers(self, seconds: float) -> None:
        """Wait until every probe is answered, or the last one's time is over."""
        try:
            async with asyncio.timeout(seconds):
                while (self._ledger.states[self._rows] == PortState.OPEN).any():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pass
        await self._settle()

    async def _settle(self) -> None:
        """Pay for the resets that the kernel sent to what answered with SYN/ACK."""
        owed, self._owed = self._owed, 0
        await self._meter.settle_all(owed)

    def _hear(self) -> None:
        """Take all blocks of the ring that are full."""
        while (rows := self._ears.hear()) is not None:
            self._note(answers_of(rows, self.version, self._secret, self._first_port))

    def _note(self, answers: Answers) -> None:
        """Take answers to probes of ours into the ledger."""
        if not len(answers.addresses):
            return
        place = np.minimum(np.searchsorted(self._addresses, answers.addresses, sorter=self._sorted), len(self._sorted) - 1)
        hosts = self._sorted[place]
        columns = np.minimum(np.searchsorted(self._ports, answers.ports), len(self._ports) - 1)
        known = (self._addresses[hosts] == answers.addresses) & (self._ports[columns] == answers.ports) & (answers.attempts <= BLOCK)
        for opened, state in ((True, PortState.ANSWERED), (False, PortState.CLOSED)):
            for attempt in np.unique(answers.attempts[known & (answers.opened == opened)]):
                these = np.flatnonzero(known & (answers.opened == opened) & (answers.attempts == attempt))
                pairs = np.unique(np.stack([self._rows[hosts[these]], columns[these].astype(np.uint32)]), axis=1)
                fresh = self._ledger.note_all(pairs[0], pairs[1], state, min(int(attempt), len(self._ledger.answers_by_attempt)))
                self._owed += fresh if opened else 0
        self._news.set()

    def _hear_routers(self) -> None:
        """Read what routers said of our probes, a bounded number of packets a call."""
        for _ in range(256):
            try:
                data = self._routers.recv(2048)
            except OSError:
                return
            told = read_unreachable(data, self.version, self._source)
            if told is None:
                continue
            (address, port), our_port, sequence, state = told
            attempt = our_port - self._first_port + 1
            row = self._row_of.get(address)
            if row is None or port not in self._ledger.ports or not 1 <= attempt <= BLOCK:
                continue
            words = words_of(column_of([_number(address)], self.version))
            if sequence == cookies(self._secret, words, np.array([port], dtype=np.uint64), np.uint64(attempt))[0]:
                self._ledger.note((address, port), state, min(attempt, len(self._ledger.answers_by_attempt)))
                self._news.set()


def _number(address: str) -> int:
    return int(ipaddress.ip_address(address))


def unreachables_socket(version: int) -> socket.socket:
    """A packet socket on all interfaces, from the IP header on, filtered to ICMP unreachables."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
    sock.setblocking(False)
    attach(sock, "icmp6 and ip6[40] = 1" if version == 6 else "icmp[0] = 3", 2048)
    return sock


def refused_by_kernel() -> str | None:
    """What the kernel has against the sockets of this sweep, or None."""
    try:
        Ears(4, FIRST_SOURCE_PORT, BLOCK, 1).close()
        RawSender(4).close()
    except (OSError, ImportError) as error:
        return str(error)
    return None


Answer = tuple[Key, int, int, PortState]


def read_unreachable(data: bytes, version: int, own: str) -> Answer | None:
    """(Port that was probed, our port, its sequence number, state) of an ICMP unreachable (RFC 792; RFC 4443, 3.1), or None.

    It quotes at least 8 bytes of our TCP header. What our own kernel says, from the address `own`, means that a neighbour is silent.
    """
    protocol, sender, _, start = ip_header(data, version)
    if protocol not in (socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6) or len(data) < start + 8:
        return None
    quoted, _, target, inner = ip_header(data[start + 8 :], version)
    inner += start + 8
    if quoted != socket.IPPROTO_TCP or len(data) < inner + 8 or sender == own:
        return None  # a message of our own kernel says that a neighbour is silent to ARP or ND, not that a router knows no way
    our_port, port, sequence = struct.unpack_from("!HHI", data, inner)
    port_unreachable = data[start + 1] == (4 if version == 6 else 3)
    return (target, port), our_port, sequence, PortState.CLOSED if port_unreachable else PortState.UNREACHABLE


def ip_header(data: bytes, version: int) -> tuple[int, str, str, int]:
    """(Protocol, source, destination, where the payload starts) of an IP packet; protocol -1 if it is none. No extension headers."""
    size = 40 if version == 6 else 20
    if len(data) < size or data[0] >> 4 != version:
        return -1, "", "", 0
    if version == 6:
        return data[6], socket.inet_ntop(socket.AF_INET6, data[8:24]), socket.inet_ntop(socket.AF_INET6, data[24:40]), size
    return data[9], socket.inet_ntoa(data[12:16]), socket.inet_ntoa(data[16:20]), (data[0] & 15) * 4
