"""The gate that every packet passes: first the budgets of host, unit, grant and scanner, then scope and halts, with nothing in between.

Waiting at each level is first come, first served, behind that level's lock, and tokens are taken from all levels at once at the end.
So no rate is ever exceeded, a slow host delays nobody else's packets, and at each level one waiter, not hundreds, watches the clock.
A SYN sweep takes tokens by the batch, keeps the hosts' pace itself (`sweep/pace.py`) and masks what it writes by the same rule (`mask.py`).
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from infra.core.settings import Settings
from processors.scan.scope.gate import Halted, OutOfScope
from processors.scan.scope.mask import Addresses, Ports, ScopeMask, compile_mask
from processors.scan.scope.orders import Orders
from processors.scan.scope.pacing import Bucket, bucket, filled, share, spend, wait, with_limit
from processors.scan.witness.witness import Trace
from schemas.events.targets import WorkUnit
from schemas.ids import subnet_key
from schemas.scope import Ask, GrantBook, parsed_address, standing

STOPPING, LOST, CUT_OFF, FROZEN, EXPIRED, OVER_TIME = "stopping", "partition_lost", "cut_off", "frozen", "expired", "over_time"
UNFINISHED = frozenset({STOPPING, LOST, CUT_OFF})
"""Halts that say nothing about the unit: its attempt is never published, and it is done again, here or by a successor."""
AT_ONCE = 8  # packets: a conversation; who owes more pays it in such parts, so that the others get their turn
SLICE_SECONDS = 0.25  # longest sleep between two looks at the halts


class Rules(Protocol):
    """What counts now. `fresh_at`: since when (uptime, seconds) that is known to be all there is."""

    book: GrantBook
    orders: Orders
    fresh_at: float


@dataclass(slots=True)
class Level:
    """A budget that several packets share."""

    bucket: Bucket
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class ScannerGate:
    """What the units of one scanner share: its own budget, each grant's, and the conditions that halt everything.

    The scanner's loop sets `contact_at` (uptime of the last proof that the group's coordinator answers), `owned` (partitions), `stopping`.
    """

    def __init__(self, settings: Settings, rules: Rules, uptime: Callable[[], float], now: Callable[[], datetime]) -> None:
        self.settings, self.rules, self.uptime, self.now = settings, rules, uptime, now
        self.contact_at = uptime()
        self.owned = 1
        self.stopping = False
        self.packets = self.control = 0
        self.refused = 0
        self.whole = Level(bucket(settings.scanner.packets_per_second, uptime()))
        self._grants: dict[str, Level] = {}
        self._held: dict[str, tuple[float, str]] = {}

    def halt(self, unit: WorkUnit) -> str | None:
        """Why nothing of this unit may be sent now, or None."""
        if self.stopping:
            return STOPPING
        if self.cut_off():
            return CUT_OFF
        if self.rules.orders.freezes(unit.subnet):
            return FROZEN
        until, reason = self._held.get(subnet_key(unit.zone, unit.subnet), (0.0, ""))
        if self.uptime() < until:
            return reason
        now = self.now()
        if now >= unit.expires_at:
            return EXPIRED
        entry = self.rules.book.known.get(unit.grant_id)
        return f"no trusted grant has the id {unit.grant_id}" if entry is None else standing(entry, unit.zone, now)

    def hold(self, unit: WorkUnit, reason: str) -> None:
        """Halt the unit's subnet for `scanner.impact_hold_seconds`, for this reason."""
        now = self.uptime()
        self._held = {subnet: held for subnet, held in self._held.items() if held[0] > now}
        self._held[subnet_key(unit.zone, unit.subnet)] = now + self.settings.scanner.impact_hold_seconds, reason

    def issuer(self, unit: WorkUnit) -> str:
        """Who issued the unit's grant, by the grant itself; '' where it is not known."""
        entry = self.rules.book.known.get(unit.grant_id)
        return entry.grant.issued_by if entry is not None else ""

    def cut_off(self) -> bool:
        """Whether the last proof of contact is too old to go on sending."""
        return self.uptime() - min(self.rules.fresh_at, self.contact_at) > self.settings.scanner.cut_off_seconds

    def grant_level(self, grant_id: str) -> Level:
        """This scanner's share of a grant's total, at the grant's present intensity."""
        total = self.rules.book.known[grant_id].grant.intensity.packets_per_second
        rate, now = share(total, self.owned, self.settings.kafka.partitions), self.uptime()
        level = self._grants.setdefault(grant_id, Level(bucket(rate, now)))
        level.bucket = with_limit(level.bucket, rate, now)
        return level


class UnitGate:
    """The gate of one attempt at one unit. `lost` is set when its partition was taken away; `halted` says why it was first stopped.

    A unit has twice `planner.unit_seconds`: its sweep is planned to take at most that long at its own budget, and a closer look at what
    answered may take as long again. Time that it waits for budgets shared with others does not count.
    """

    def __init__(self, scanner: ScannerGate, unit: WorkUnit, trace: Trace | None = None) -> None:
        now = scanner.uptime()
        self.trace = trace
        self.unit, self.lost = unit, False
        self.halted: str | None = None
        self.packets = 0
        self._scanner = scanner
        self._waits_since: float | None = None
        self._deadline = now + 2 * scanner.settings.planner.unit_seconds
        self._addresses = frozenset(ipaddress.ip_address(one) for one in unit.addresses)
        entry = scanner.rules.book.known.get(unit.grant_id)
        limit = scanner.settings.scanner.host_limit
        rate, per_host = float(unit.packets_per_second), float(min(unit.per_host_per_second, limit))
        if entry is not None:  # a unit may ask for less than its grant allows, never for more
            # A zone that was granted the same hosts after the unit was planned shares their budgets too.
            zones = scanner.rules.book.zones_at(self._addresses, scanner.now())
            rate = min(rate, max(1.0, entry.grant.intensity.packets_per_second / zones))
            per_host = min(per_host, max(1.0, min(limit, entry.grant.intensity.per_host_per_second) / zones))
        self._per_host = per_host
        self._own = Level(bucket(rate, now))
        self._hosts: dict[str, Level] = {}
        self._mask: tuple[object, ScopeMask] | None = None

    def halt(self) -> str | None:
        """Why this attempt must stop now, or None."""
        reason = LOST if self.lost else self._scanner.halt(self.unit)
        now = self._scanner.uptime()
        if reason is None and (self._waits_since or now) > self._deadline:
            reason = OVER_TIME
        if reason is not None and self.halted is None:
            self.halted = reason
        return reason

    def allows_intrusive(self) -> bool:
        """Whether the unit's grant allows probes that do more than look."""
        entry = self._scanner.rules.book.known.get(self.unit.grant_id)
        return entry is not None and entry.grant.intensity.intrusive

    def check(self, unit: WorkUnit, address: str, ask: Ask) -> None:
        """Check one packet without waiting. Raises OutOfScope or Halted."""
        reason = self.halt()
        if reason is not None:
            raise Halted(reason)
        problem = self._problem(unit, address, ask)
        if problem is not None:
            self._scanner.refused += 1
            raise OutOfScope(problem)

    async def admit(self, unit: WorkUnit, address: str, ask: Ask, packets: int = 1) -> None:
        """Wait until the budgets of scanner, unit and host allow `packets` more, then check. Raises OutOfScope or Halted.

        Those of one conversation are paid for together, each level's debt paid back by who comes next: were they paid for one by one, all
        that wait would be ready, and talk, in the same moment.
        """
        self.check(unit, address, ask)
        host = self._hosts.setdefault(address, Level(bucket(self._per_host, self._scanner.uptime())))
        if self._spent_at_once((host, self._own, self._scanner.grant_level(unit.grant_id), self._scanner.whole), packets):
            self._admitted(address, ask, packets)
            return
        for first in range(0, packets, AT_ONCE):
            some = min(AT_ONCE, packets - first)
            async with host.lock:
                await self._tokens(host, some, jitter=0.1)
                async with self._own.lock:
                    await self._tokens(self._own, some)
                    await self._shared_tokens(unit, address, ask, host, some)
            self._admitted(address, ask, some)

    def _spent_at_once(self, levels: tuple[Level, ...], packets: int) -> bool:
        """Take the tokens of all levels, if they are there and nobody waits for them."""
        now = self._scanner.uptime()
        if any(level.lock.locked() or filled(level.bucket, now).tokens < packets for level in levels):
            return False
        for level in levels:
            level.bucket = spend(level.bucket, now, packets)
        return True

    def _admitted(self, address: str, ask: Ask, packets: int) -> None:
        self.packets += packets
        self._scanner.packets += packets
        if self.trace is not None:
            self.trace.admitted(address, ask, packets)

    async def admit_some(self, unit: WorkUnit, most: int) -> int:
        """Wait until the budgets of scanner, grant and unit allow a packet; take the tokens of as many as they allow, up to `most`.

        Raises Halted. The hosts' own pace is the sweep's matter, and so is the mask.
        """
        whole, grant = self._scanner.whole, self._scanner.grant_level(unit.grant_id)
        async with self._own.lock:
            await self._tokens(self._own, 1)
            self._waits_since = began = self._scanner.uptime()
            try:
                async with grant.lock:
                    await self._tokens(grant, 1)
                    async with whole.lock:
                        await self._tokens(whole, 1)
                        reason = self.halt()
                        if reason is not None:
                            raise Halted(reason)
                        return self._take((self._own, grant, whole), most)
            finally:
                self._deadline += self._scanner.uptime() - began
                self._waits_since = None

    def _take(self, levels: tuple[Level, ...], most: int) -> int:
        now = self._scanner.uptime()
        count = max(1, min(most, *(int(filled(level.bucket, now).tokens) for level in levels)))
        for level in levels:
            level.bucket = spend(level.bucket, now, count)
        self.packets += count
        self._scanner.packets += count
        return count

    def unsent(self, unit: WorkUnit, packets: int) -> None:
        """Take back so many packets that `admit_some` let through and that did not leave after all."""
        now = self._scanner.uptime()
        for level in (self._own, self._scanner.grant_level(unit.grant_id), self._scanner.whole):
            level.bucket = spend(level.bucket, now, -packets)
        self.packets -= packets
        self._scanner.packets -= packets

    def owe(self, unit: WorkUnit, address: str, ask: Ask, packets: int) -> None:
        """Book packets that the kernel sent to a host by itself, at all levels at once. Who asks next waits until they are paid for."""
        now = self._scanner.uptime()
        host = self._hosts.setdefault(address, Level(bucket(self._per_host, now)))
        for level in (host, self._own, self._scanner.grant_level(unit.grant_id), self._scanner.whole):
            level.bucket = spend(level.bucket, now, packets)
        self._admitted(address, ask, packets)

    def control(self, unit: WorkUnit, packets: int) -> None:
        """Count so many of those that `admit_some` let through apart: they are no probes."""
        self.packets -= packets
        self._scanner.packets -= packets
        self._scanner.control += packets

    def sent(self, addresses: Addresses, ports: Ports) -> None:
        """TCP packets to these addresses and ports have left past the kernel's taps."""
        if self.trace is not None:
            self.trace.sent(addresses, ports)

    def hold(self, unit: WorkUnit, reason: str) -> None:
        """Let nothing more out to the unit's subnet for a while."""
        self._scanner.hold(unit, reason)

    def check_unit(self) -> None:
        """Raises Halted if nothing of the unit may leave now."""
        reason = self.halt()
        if reason is not None:
            raise Halted(reason)

    def mask(self, unit: WorkUnit) -> ScopeMask:
        """Which packets are covered now; made anew whenever the valid grants of the zone are others."""
        book, now = self._scanner.rules.book, self._scanner.now()
        version = tuple((one.grant.grant_id, one.grant.revision) for one in book.of_zone(unit.zone, now))
        if self._mask is None or self._mask[0] != version:
            self._mask = version, compile_mask(book, unit.zone, self.unit.grant_id, now)
        return self._mask[1]

    def refusal(self, unit: WorkUnit, address: str, ask: Ask) -> str:
        """Why a packet that the mask does not allow is not covered."""
        self._scanner.refused += 1
        return self._problem(unit, address, ask) or "the grants have changed"

    def per_host(self, unit: WorkUnit) -> float:
        """Packets a second that a host of this unit may get."""
        return min(float(unit.per_host_per_second), self._per_host)

    async def _shared_tokens(self, unit: WorkUnit, address: str, ask: Ask, host: Level, packets: int) -> None:
        """Wait for the budgets that others use too, check, and take tokens of each level. One admission of a unit is here at a time."""
        whole, grant = self._scanner.whole, self._scanner.grant_level(unit.grant_id)
        self._waits_since = began = self._scanner.uptime()
        try:
            async with grant.lock:
                await self._tokens(grant, packets)
                async with whole.lock:
                    await self._tokens(whole, packets)
                    self.check(unit, address, ask)
                    now = self._scanner.uptime()
                    for level in (host, self._own, grant, whole):
                        level.bucket = spend(level.bucket, now, packets)
        finally:
            self._deadline += self._scanner.uptime() - began
            self._waits_since = None

    async def _tokens(self, level: Level, packets: int, jitter: float = 0.0) -> None:
        """Sleep until the level has tokens for `packets`, looking at the halts all along."""
        pause = wait(level.bucket, self._scanner.uptime(), packets)
        pause += pause * jitter * random.random()  # noqa: S311  hosts that were asked together drift apart
        while pause > 0:
            await asyncio.sleep(min(pause, SLICE_SECONDS))
            reason = self.halt()
            if reason is not None:
                raise Halted(reason)
            pause = wait(level.bucket, self._scanner.uptime(), packets)

    def _problem(self, unit: WorkUnit, address: str, ask: Ask) -> str | None:
        if unit.unit_id != self.unit.unit_id or parsed_address(address) not in self._addresses:
            return f"{address} is no address of this unit"
        return self._scanner.rules.book.refusal(unit.zone, self.unit.grant_id, address, ask, self._scanner.now())
