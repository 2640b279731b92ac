"""Tells on `touches` what left this machine for the units in work, a second later, whatever becomes of the units.

A thread of its own reads the tap and publishes outside any transaction: what left has left, also where an attempt is never published
or the process is killed a moment later (what it sent in its last second or two is then not told).

A packet belongs to the latest unit of its address. After its end a unit stays open for `LINGER` seconds, for what the kernel still
answers: a SYN-ACK comes again up to five times in 63 s (tcp(7), tcp_synack_retries). What other programs of this machine send to the
addresses meanwhile counts too: nobody outside could tell it from ours.
"""

from __future__ import annotations

import ipaddress
import select
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import structlog
from confluent_kafka import KafkaError, Message, Producer

from infra.core.errors import DriftlineError
from infra.core.settings import Settings
from infra.kafka.client import prefixed, producer_config
from processors.scan.scope.mask import Addresses, Ports, column_of
from processors.scan.witness.account import Account, Packets
from processors.scan.witness.tap import RETIRE_MS, Tap, interface_to
from schemas.codec import Codec
from schemas.events.targets import WorkUnit
from schemas.events.touches import PacketKind, Touch, Touches
from schemas.ids import content_id, partition_of, subnet_key
from schemas.scope import Ask

log = structlog.get_logger()
LINGER = 65.0
FLUSH_SECONDS = 1.0
GATHER_SECONDS = 0.03  # from the first packet to reading the ring, which holds some 60,000
MOST_OPEN = 1000  # units, those that linger included
MOST_ENTRIES = 2000  # of one record
KINDS = {"tcp": PacketKind.TCP, "udp": PacketKind.UDP, "icmp": PacketKind.ICMP}


@dataclass(slots=True, eq=False)
class Trace:
    """What is known of the packets of one attempt at a unit. `ended_at` is the wall clock, seconds."""

    unit: WorkUnit
    attempt: int
    issued_by: str
    account: Account
    lock: threading.Lock
    by_tap: bool
    ended_at: float | None = None

    def sent(self, addresses: Addresses, ports: Ports) -> None:
        """SYNs that left past the tap (AF_XDP, PACKET_QDISC_BYPASS). An engine whose packets pass the kernel's queues must not tell."""
        with self.lock:
            self.account.sent(addresses, ports, PacketKind.TCP, time.time())

    def admitted(self, address: str, ask: Ask, packets: int) -> None:
        """The gate let packets through: that is what counts where there is no tap."""
        if self.by_tap:
            return
        version = self.account.version
        column = np.repeat(column_of([_number(address)], version), packets)
        with self.lock:
            self.account.sent(column, np.full(packets, ask.port or 0, dtype=np.uint16), KINDS.get(ask.kind, PacketKind.OTHER), time.time())

    def end(self) -> None:
        """The attempt is over; what comes late still counts for a while."""
        self.ended_at = time.time()


class Witness:
    """All traces of one scanner, its tap, and the thread that reads and tells."""

    def __init__(self, settings: Settings, agent_id: str, codec: Codec) -> None:
        self._settings, self._agent_id, self._codec = settings, agent_id, codec
        over = {"message.timeout.ms": 0, "queue.buffering.max.kbytes": 16_384, "linger.ms": 5}
        self._producer = Producer(producer_config(settings, **over))
        self._begun, self._records = datetime.now(UTC).isoformat(), 0
        self._traces: dict[str, list[Trace]] = {}  # by subnet, the latest first
        self._leaving: list[Trace] = []  # forgotten before their time, not told yet
        self._tap: Tap | None = None
        self._lock = threading.Lock()
        self._news, self._stop = threading.Event(), threading.Event()
        self._failure: Exception | None = None
        self._flush_due = 0.0
        self._warned = False
        self._thread = threading.Thread(target=self._follow, name="witness", daemon=True)
        self._thread.start()

    def open(self, unit: WorkUnit, attempt: int, issued_by: str) -> Trace:
        """Count what leaves for this unit's addresses from now on. `issued_by`: who issued its grant."""
        account = Account(unit.addresses, since=time.time())
        with self._lock:
            trace = Trace(unit, attempt, issued_by, account, self._lock, by_tap=False)
            self._traces.setdefault(unit.subnet, []).insert(0, trace)
            self._forget_some()
            trace.by_tap = account.exact = self._watch()
        self._news.set()
        return trace

    def raise_failure(self) -> None:
        """Raise what ended the thread, if anything did: what can't be accounted for must not be sent."""
        if self._failure is not None:
            raise DriftlineError(f"The scanner can't tell any more what it sends ({self._failure}).", "It starts again.") from self._failure

    def close(self) -> None:
        """Tell the last; waits at most five seconds for the broker to hear it. Closing twice is fine."""
        if self._stop.is_set():
            return
        self._stop.set()
        self._news.set()
        self._thread.join(10.0)
        self._producer.flush(5.0)

    def _watch(self) -> bool:
        """Let the tap see the subnets of all traces; whether there is one."""
        try:
            if self._tap is None:
                self._tap = Tap(self._traces)
            else:
                self._tap.watch(self._traces)
        except OSError as error:
            if not self._warned:
                self._warned = True
                log.warning("packets_counted_by_admission", reason=str(error))
            return False
        return True

    def _follow(self) -> None:
        try:
            while not self._stop.is_set():
                self._wait()
                with self._lock:
                    self._read()
                if time.monotonic() >= self._flush_due:
                    self._flush_due = time.monotonic() + FLUSH_SECONDS
                    self._tell()
                self._producer.poll(0)
            time.sleep(2 * RETIRE_MS / 1000)  # until the ring's last block is handed over
            with self._lock:
                self._read()
            self._tell()
        except Exception as error:  # whatever it is: the scanner must end
            log.exception("witness_failed")
            self._failure = error
        finally:
            if self._tap is not None:
                self._tap.close()

    def _wait(self) -> None:
        """Until packets came, or a second passed; while no unit is open, until one is."""
        if not self._traces and not len(self._producer):
            self._news.wait()
        self._news.clear()
        if self._tap is None:
            self._stop.wait(FLUSH_SECONDS / 4)
        elif select.select([self._tap], [], [], FLUSH_SECONDS)[0]:
            self._stop.wait(GATHER_SECONDS)

    def _read(self) -> None:
        if self._tap is None:
            return
        found: dict[int, list[Packets]] = defaultdict(list)
        for packets in self._tap.read():
            found[packets.addresses.dtype.itemsize].append(packets)
        for parts in found.values():
            self._share_out(Packets.joined(parts))

    def _share_out(self, packets: Packets) -> None:
        """Each packet to the latest trace of its address that was open when it left."""
        whole = packets.addresses
        subnets = whole & np.uint32(0xFFFFFF00) if whole.dtype.kind == "u" else whole.astype("S8")
        for key in np.unique(subnets):
            some = packets.only(subnets == key)
            for trace in self._traces.get(_subnet(key), ()):
                some = some.only(~trace.account.add(some))
                if not len(some.addresses):
                    break

    def _tell(self) -> None:
        """Publish what is not told yet. Packets are summed up outside the lock: who sends must not wait for that."""
        with self._lock:
            missed = self._tap.missed() if self._tap is not None else 0
            traces = [*self._leaving, *(trace for known in self._traces.values() for trace in known)]
            for trace in traces:
                trace.account.exact &= not missed
            taken = [trace.account.take() for trace in traces]
            self._leaving.clear()
            self._let_go()
        if missed:
            log.error("packets_not_counted", count=missed)
        for trace, packets in zip(traces, taken, strict=True):
            self._publish(trace, trace.account.told(packets, interface_to))

    def _publish(self, trace: Trace, found: tuple[Touch, ...]) -> None:
        unit = trace.unit
        key = subnet_key(unit.zone, unit.subnet)
        for start in range(0, len(found), MOST_ENTRIES):
            self._records += 1
            record = Touches(
                record_id=content_id("touches", self._agent_id, self._begun, self._records),
                unit_id=unit.unit_id,
                run_id=unit.run_id,
                campaign_id=unit.campaign_id,
                zone=unit.zone,
                subnet=unit.subnet,
                grant_id=unit.grant_id,
                grant_revision=unit.grant_revision,
                issued_by=trace.issued_by,
                agent_id=self._agent_id,
                attempt=trace.attempt,
                exact=trace.account.exact,
                touches=found[start : start + MOST_ENTRIES],
                at=datetime.now(UTC),
            )
            where = partition_of(key, self._settings.kafka.partitions)
            self._send(key, where, self._codec.encode("touches", record))

    def _send(self, key: str, where: int, value: bytes) -> None:
        name = prefixed(self._settings, "touches")
        try:
            self._producer.produce(name, value, key.encode(), where, on_delivery=_delivered)
        except BufferError:
            self._producer.flush(FLUSH_SECONDS)  # the gate is closed while the broker is away; so little comes that this may wait
            self._producer.produce(name, value, key.encode(), where, on_delivery=_delivered)

    def _let_go(self) -> None:
        """Forget what ended long ago; without any unit there is no tap: it costs every packet of the machine a little."""
        over = time.time() - LINGER
        kept = {
            subnet: left
            for subnet, traces in self._traces.items()
            if (left := [one for one in traces if one.ended_at is None or one.ended_at > over])
        }
        self._traces = kept
        if kept:
            self._watch()
        elif self._tap is not None:
            self._tap.close()
            self._tap = None

    def _forget_some(self) -> None:
        """Where too many are open, those that ended first are told and forgotten."""
        ended = sorted((one for traces in self._traces.values() for one in traces if one.ended_at is not None), key=_ended)
        count = sum(map(len, self._traces.values()))
        if count > MOST_OPEN:
            self._read()
        for trace in ended[: max(0, count - MOST_OPEN)]:
            self._leaving.append(trace)
            self._traces[trace.unit.subnet].remove(trace)
            if not self._traces[trace.unit.subnet]:
                del self._traces[trace.unit.subnet]


def _number(address: str) -> int:
    return int(ipaddress.ip_address(address))


def _subnet(key: Any) -> str:
    """The subnet of a key: an IPv4 network's number, or the first 8 bytes of an IPv6 address."""
    if isinstance(key, bytes):
        return f"{ipaddress.IPv6Address(key.ljust(16, bytes(1)))}/64"
    return f"{ipaddress.IPv4Address(int(key))}/24"


def _ended(trace: Trace) -> float:
    return trace.ended_at or 0.0


def _delivered(error: KafkaError | None, _: Message) -> None:
    if error is not None:
        log.error("touches_not_told", reason=error.str())
