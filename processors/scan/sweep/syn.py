"""The SYN sweep: half-open probes by the batch, IPv4 and IPv6; needs CAP_NET_RAW.

Answers are matched without a table: the sequence number is a keyed hash of (address, port, attempt), so only a host that got the
probe can acknowledge it, and the source port tells the attempt. The kernel, which knows nothing of these probes, resets what
answers with SYN/ACK by itself. Each batch is masked by the grant in the function that writes it (`frames`), right before it leaves.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infra.core.settings import ScannerSettings
from processors.scan.deception import MANY_STRAYS, answer_on_everything
from processors.scan.meter import Meter
from processors.scan.scope.mask import Addresses, Flags, column_of_texts
from processors.scan.sweep.answers import Answers, answers_of
from processors.scan.sweep.backends import WayOut, way_out
from processors.scan.sweep.checks import NUMBERS, Checks, Watch
from processors.scan.sweep.cookies import cookies
from processors.scan.sweep.frames import SynWriter, words_of
from processors.scan.sweep.ledger import Key, Ledger, PortState
from processors.scan.sweep.neighbours import ethernet_header, neighbour_macs
from processors.scan.sweep.order import Indices, Order
from processors.scan.sweep.receive import Ears
from processors.scan.sweep.retrying import MOST_ATTEMPTS, worth_another
from processors.scan.sweep.rounds import Rounds
from processors.scan.sweep.routers import read_unreachable, unreachables_socket
from processors.scan.sweep.routes import Route, routes_of
from processors.scan.sweep.throttle import Reins
from processors.scan.sweep.transmit import RawSender
from schemas.scope import Ask

FIRST_SOURCE_PORT = 61_000  # above Linux's default ephemeral range, so that no socket of the kernel has it
BLOCK = MOST_ATTEMPTS + NUMBERS
CHECK_SECONDS, CHECK_ROUNDS = 1.0, 40  # between two checks at least: each costs a round
LEAST_PATIENCE = 0.05
WATCHED_AT_ONCE = 16


async def sweep_syn(ledger: Ledger, meter: Meter, settings: ScannerSettings, watch: Watch | None = None) -> None:
    """Probe every open key of the ledger. Raises Halted (the ledger then holds what was finished) and OSError without the privilege.

    What `watch` wants to be asked again is asked in the sweep's own checks.
    """
    for version in (4, 6):
        rows = np.array([row for row, address in enumerate(ledger.addresses) if (":" in address) == (version == 6)], dtype=np.uint32)
        if not len(rows):
            continue
        addresses = column_of_texts([ledger.addresses[row] for row in rows.tolist()], version)
        for group in routes_of(addresses):
            mine = rows[group.places]
            if group.route is None:
                ledger.note_rows(mine, PortState.UNREACHABLE)
                continue
            async with AsyncExitStack() as stack:
                out = await way_out(group.route, version, settings)
                stack.push_async_callback(asyncio.to_thread, out.sender.close)
                column, macs = addresses[group.places], None
                if out.interface is not None and out.next_hop is None:
                    macs, known = await neighbour_macs(out.interface, group.route.source, column, meter.mask, meter.control)
                    ledger.note_rows(mine[~known], PortState.SILENT)
                    mine, column, macs = mine[known], column[known], macs[known]
                if len(mine):
                    await SynRun(ledger, Hosts(mine, column, macs), group.route, out, meter, settings, stack, watch).to_the_end()
    ledger.silence()


@dataclass(frozen=True, slots=True)
class Hosts:
    """Hosts that are reached by one way: their rows in the ledger, addresses, and own next hops (6 bytes a row) where they have them."""

    rows: Indices
    addresses: Addresses
    macs: NDArray[np.uint8] | None


class SynRun:
    """All probes of one sweep that leave by one way."""

    def __init__(
        self,
        ledger: Ledger,
        hosts: Hosts,
        route: Route,
        out: WayOut,
        meter: Meter,
        settings: ScannerSettings,
        stack: AsyncExitStack,
        watch: Watch | None = None,
    ) -> None:
        self.version = 6 if ":" in route.source else 4
        rows = hosts.rows
        self._ledger, self._rows, self._source, self._meter, self._settings = ledger, rows, route.source, meter, settings
        self._secret = secrets.token_bytes(16)
        self._first_port = FIRST_SOURCE_PORT + BLOCK * secrets.randbelow(4000 // BLOCK)
        self._ports = np.array(ledger.ports, dtype=np.uint16)
        self._addresses = hosts.addresses
        self._sorted = np.argsort(self._addresses)
        self._macs, self._sender = hosts.macs, out.sender
        self._checks = Checks(len(rows), secrets.randbits(64))
        self._reins = Reins()
        self._rounds = Rounds(Order(len(rows), len(ledger.ports), secrets.randbits(64)), len(rows), meter, reins=self._reins)
        self._attempt, self._watch = 0, watch
        self._place_in_rows = {ledger.addresses[row]: place for place, row in enumerate(rows.tolist())} if watch else {}
        self._opened: NDArray[np.int64] = np.zeros(len(rows), dtype=np.int64)
        self._strays: NDArray[np.int64] = np.zeros(len(rows), dtype=np.int64)
        self._owed = self._sent = self._sent_before = 0
        self._news = asyncio.Event()
        ethernet = ethernet_header(out.interface, out.next_hop or bytes(6), self.version) if out.interface else b""
        self._writer = SynWriter(route.source, self._first_port, self._secret, ethernet)
        self._ears = Ears(self.version, self._first_port, BLOCK, len(rows) * len(ledger.ports))
        # In a thread: to close a packet socket the kernel waits, some 10 ms, until no core can be looking at it, and other sweeps go on.
        stack.push_async_callback(asyncio.to_thread, self._ears.close)
        self._routers = unreachables_socket(self.version)
        stack.push_async_callback(asyncio.to_thread, self._routers.close)
        loop = asyncio.get_running_loop()
        for sock, heard in ((self._ears.fileno(), self._hear), (self._routers.fileno(), self._hear_routers)):
            loop.add_reader(sock, heard)
            stack.callback(loop.remove_reader, sock)

    async def to_the_end(self) -> None:
        """Send attempt after attempt until all answered, or enough was found, or the limit is reached. Raises Halted and OSError."""
        began, first = time.monotonic(), 0.0
        for attempt in range(1, MOST_ATTEMPTS + 1):
            self._ledger.begin(attempt)
            await self._send_round(attempt)
            await self._check(0)
            await self._answered(self._checks.waiting, self._patience())
            self._judge()
            spent = time.monotonic() - began
            first = first or spent
            if not self._left() or not worth_another(self._ledger, attempt, self._settings, spent, first):
                break
            await self._answered(self._left, self._patience())
        await self._answered(self._left, self._settings.connect_timeout)
        self._ledger.drops += self._ears.drops()

    async def _send_round(self, attempt: int) -> None:
        """Send one SYN to each port that has no state yet; check now and then."""
        checked = time.monotonic()
        self._attempt = attempt

        async def between(place: int) -> None:
            nonlocal checked
            if time.monotonic() - checked >= max(CHECK_SECONDS, CHECK_ROUNDS / self._meter.per_host()):
                self._judge()
                await self._check(place)
                checked = time.monotonic()

        await self._rounds.send(self._open, lambda hosts, ports: self._send(hosts, ports, attempt), between)

    def _open(self, hosts: Indices, ports: Indices) -> Flags:
        """Which of these have no state yet."""
        found: Flags = self._ledger.states[self._rows[hosts], ports] == PortState.OPEN
        return found

    async def _check(self, place: int) -> None:
        """Ask some hosts again that answered, in a round of their own that is pushed in before this place of the present round."""
        wanted = [(self._place_in_rows[address], self._ledger.ports.index(port)) for address, port in self._wanted()]
        hosts, columns = self._checks.draw(self._sent - self._sent_before, wanted)
        self._sent_before = self._sent
        if not len(hosts):
            return
        number = MOST_ATTEMPTS + 1 + self._checks.number
        await self._rounds.push_in(hosts, columns, place, lambda *at: self._send(at[0], at[1], number))

    def _judge(self) -> None:
        """Take what the check under way showed into account: in the ledger, and for the rate."""
        self._hear()
        verdict, drops = self._checks.end(), self._ears.drops()
        self._ledger.checked += verdict.checked
        self._ledger.lost += verdict.lost
        self._ledger.drops += drops
        self._reins.judge(verdict.checked, verdict.lost, drops, time.monotonic())
        if self._watch is not None:
            for places, answered in ((verdict.alive, True), (verdict.silent, False)):
                for place in places.tolist():
                    self._watch.note(self._ledger.addresses[self._rows[place]], answered)
            self._watch.judge()

    def _wanted(self) -> list[Key]:
        """What the watch wants to be asked, of the hosts of this run."""
        due = self._watch.due(WATCHED_AT_ONCE) if self._watch is not None else []
        return [key for key in due if key[0] in self._place_in_rows]

    def _patience(self) -> float:
        """Seconds in which an answer comes: by what checks have shown, and the settings' where no host answered yet."""
        known = self._checks.round_trip
        return self._settings.connect_timeout if known is None else min(self._settings.connect_timeout, max(LEAST_PATIENCE, 4 * known))

    def _send(self, hosts: Indices, ports: Indices, attempt: int) -> None:
        """Write and send what the grant covers now; note what it does not. What got a state meanwhile needs no probe any more.

        A check that is not covered any more is not made, and what the port had answered stands.
        """
        if attempt <= MOST_ATTEMPTS:
            still = self._open(hosts, ports)
            if not still.all():
                self._meter.unsent(int(np.count_nonzero(~still)))
                hosts, ports = hosts[still], ports[still]
        addresses, numbers = self._addresses[hosts], self._ports[ports]
        macs = None if self._macs is None else self._macs[hosts]
        written = self._writer.write(addresses, numbers, attempt, self._meter.mask(), macs)
        self._sender.send(written.frames, addresses[written.allowed], self._meter.recheck_unit)
        if self._sender.unseen:
            self._meter.touched(addresses[written.allowed], numbers[written.allowed])
        self._sent += len(written.frames)
        if attempt > MOST_ATTEMPTS:
            self._checks.asked(hosts[written.allowed], time.monotonic())
        if len(written.frames) < len(hosts):
            self._meter.unsent(len(hosts) - len(written.frames))
        for host, port in zip(hosts[~written.allowed], ports[~written.allowed], strict=True) if attempt <= MOST_ATTEMPTS else ():
            key = self._ledger.addresses[self._rows[host]], self._ledger.ports[port]
            self._ledger.refuse(key, self._meter.refusal(key[0], Ask("tcp", key[1])))
        self._hear()

    async def _answered(self, waiting: Callable[[], int], seconds: float) -> None:
        """Wait until nothing is waited for any more, or for so long."""
        try:
            async with asyncio.timeout(seconds):
                while waiting():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pass

    def _left(self) -> int:
        """How many ports have no state yet."""
        return int(np.count_nonzero(self._ledger.states[self._rows] == PortState.OPEN))

    def _owe(self, hosts: NDArray[np.int64]) -> None:
        """Note the resets that the kernel sent to these, which answered with SYN/ACK."""
        self._owed += len(hosts)
        self._rounds.turns.owe(hosts)

    def _settle(self) -> None:
        """Pay for the kernel's resets from the budgets: what leaves next waits for them. Hosts pay by sitting out."""
        owed, self._owed = self._owed, 0
        if owed:
            self._meter.owe(owed)

    def _hear(self) -> None:
        """Take all blocks of the ring that are full, as one."""
        if blocks := self._ears.hear():
            self._note(answers_of(np.concatenate(blocks), self.version, self._secret, self._first_port))
            self._settle()

    def _note(self, answers: Answers) -> None:
        """Take answers to probes and checks of ours; the kernel resets each SYN/ACK, also a second one and one to no probe."""
        self._note_strays(answers.strays)
        if not len(answers.addresses):
            return
        hosts = self._places(answers.addresses)
        columns = np.minimum(np.searchsorted(self._ports, answers.ports), len(self._ports) - 1)
        known = (self._addresses[hosts] == answers.addresses) & (self._ports[columns] == answers.ports) & (answers.attempts <= BLOCK)
        self._owe(hosts[known & answers.opened])
        for attempt in np.unique(answers.attempts[known]):
            these = known & (answers.attempts == attempt)
            if attempt > MOST_ATTEMPTS:
                self._checks.heard(hosts[these], int(attempt) - MOST_ATTEMPTS - 1, time.monotonic())
                continue
            for opened in (True, False):
                chosen = np.flatnonzero(these & (answers.opened == opened))
                self._take(hosts[chosen], columns[chosen], opened, int(attempt))
        self._news.set()

    def _places(self, addresses: Addresses) -> NDArray[np.int64]:
        """Where these stand among the hosts; anywhere, if nowhere."""
        place = np.minimum(np.searchsorted(self._addresses, addresses, sorter=self._sorted), len(self._sorted) - 1)
        return self._sorted[place]

    def _note_strays(self, strays: Addresses) -> None:
        """Pay for what was reset and no answer; stop asking who sends too much of it."""
        if not len(strays):
            return
        hosts = self._places(strays)
        hosts = hosts[self._addresses[hosts] == strays]
        self._owe(hosts)
        self._strays += np.bincount(hosts, minlength=len(self._strays))
        for host in np.flatnonzero(self._strays >= self._settings.quarantine_ports):
            self._ledger.quarantine(self._ledger.addresses[self._rows[host]], MANY_STRAYS)
            self._strays[host] = 0

    def _take(self, hosts: NDArray[np.int64], columns: NDArray[np.int64], opened: bool, attempt: int) -> None:
        """Note answers of one kind at one attempt; see whether a host answers on everything."""
        if not len(hosts):
            return
        hosts, columns = np.divmod(np.unique(hosts * len(self._ports) + columns), len(self._ports))
        state = PortState.ANSWERED if opened else PortState.CLOSED
        fresh = self._ledger.note_all(self._rows[hosts], columns.astype(np.uint32), state, attempt)
        hosts, columns = hosts[fresh], columns[fresh]
        self._checks.answered(hosts.astype(np.uint32), columns.astype(np.uint32))
        if opened:
            self._opened += np.bincount(hosts, minlength=len(self._opened))
            asked = np.full(len(self._opened), len(self._ports))
            if self._attempt == 1:
                asked = np.minimum(self._rounds.turn + 1, asked) - self._rounds.turns.missed
            for host in answer_on_everything(self._opened, asked, self._settings.quarantine_ports):
                address = self._ledger.addresses[self._rows[host]]
                self._ledger.quarantine(address, f"answered on {self._opened[host]} of the first {asked[host]} ports")
                self._opened[host] = 0

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
            if not self._ledger.has((address, port)) or not 1 <= attempt <= MOST_ATTEMPTS:
                continue
            words = words_of(column_of_texts((address,), self.version))
            if sequence == cookies(self._secret, words, np.array([port], dtype=np.uint64), np.uint64(attempt))[0]:
                self._ledger.note((address, port), state, attempt)
                self._news.set()


def refused_by_kernel() -> str | None:
    """What the kernel has against the sockets of this sweep, or None."""
    try:
        Ears(4, FIRST_SOURCE_PORT, BLOCK, 1).close()
        RawSender(4).close()
    except (OSError, ImportError) as error:
        return str(error)
    return None
