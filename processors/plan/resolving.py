"""Names to addresses, at the edge: through the system's resolver, or the DNS servers that the settings name."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import structlog

from infra.core.errors import Backpressure
from processors.plan.dns import DnsError, query
from schemas.targeting import span_of

log = structlog.get_logger()

WORKERS = 16
MOST_SECONDS = 15.0
SECONDS_A_NAME = 0.02
BURST_SECONDS = 2.0
FORGET_SECONDS = 60.0
QUERY_SECONDS = 2.0
MOST_ADDRESSES = 64
MOST_RUNS = 4096


@dataclass(slots=True)
class _Lookup:
    """The names of one run: how long they may take, when their answers were wanted last, and the answers to come."""

    until: float
    used: float
    answers: dict[str, Future[tuple[str, ...]]]


class Resolver:
    """Resolves the names of each run once. `servers` are `address`, `address:port` or `[v6]:port`.

    The planner calls it inside a Kafka transaction, which must not stay open for long: after `burst` seconds of waiting it raises
    Backpressure, lookups go on, and the answers of a run are kept until nobody asked for them for a minute.
    """

    def __init__(self, servers: tuple[str, ...] = (), seconds: float = MOST_SECONDS, burst: float = BURST_SECONDS) -> None:
        self._servers = tuple(server_of(one) for one in servers)
        self._seconds, self._burst = seconds, burst
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="resolve")
        self._runs: dict[str, _Lookup] = {}
        self._waited = self._last = 0.0

    def resolve(self, run_id: str, names: Collection[str]) -> dict[str, tuple[str, ...]]:
        """Addresses by name, sorted; a name that has none, or none in time, is left out. Raises Backpressure if it takes long."""
        now = time.monotonic()
        self._forget(now)
        lookup = self._runs.pop(run_id, None) or self._ask(names, now)
        lookup.used = now
        self._runs[run_id] = lookup
        limit = min(now + self._burst - self._waited, lookup.until)
        _, unanswered = wait(lookup.answers.values(), timeout=max(0.0, limit - now))
        self._last = time.monotonic()
        self._waited += self._last - now
        if unanswered and self._last < lookup.until:
            self._waited = 0.0
            raise Backpressure(0.2)
        return {name: addresses for name, answer in lookup.answers.items() if (addresses := _outcome(name, answer))}

    def _ask(self, names: Collection[str], now: float) -> _Lookup:
        until = now + self._seconds + len(names) * SECONDS_A_NAME
        return _Lookup(until, now, {name: self._pool.submit(self._one, name, until) for name in names})

    def _forget(self, now: float) -> None:
        """Drop the runs that were used longest ago (they stand first); their unfinished lookups are given up."""
        if now - self._last > self._burst:
            self._waited = 0.0
        while self._runs and (len(self._runs) >= MOST_RUNS or now - next(iter(self._runs.values())).used > FORGET_SECONDS):
            for answer in self._runs.pop(next(iter(self._runs))).answers.values():
                answer.cancel()

    def _one(self, name: str, until: float) -> tuple[str, ...]:
        if time.monotonic() > until:
            return ()
        texts = self._through_servers(name) if self._servers else through_system(name)
        return usable(texts)

    def _through_servers(self, name: str) -> set[str]:
        for server in self._servers:
            try:
                return query(server, name, QUERY_SECONDS)
            except (OSError, DnsError) as error:
                log.info("resolver_failed", server=server[0], name=name, reason=str(error))
        return set()


def _outcome(name: str, answer: Future[tuple[str, ...]]) -> tuple[str, ...]:
    addresses = () if answer.cancel() or not answer.done() else answer.result()
    if not addresses:
        log.info("name_not_resolved", name=name)
    return addresses


def through_system(name: str) -> set[str]:
    """The addresses that the system's resolver gives (hosts file, then DNS)."""
    try:
        return {str(answer[4][0]) for answer in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return set()


def usable(texts: Collection[str]) -> tuple[str, ...]:
    """The addresses that can be probed, canonical and in the order of their numbers, at most `MOST_ADDRESSES`."""
    found = []
    for text in texts:
        try:
            found.append(span_of(text))
        except ValueError:
            continue
    return tuple(str(ipaddress.IPv4Address(one.first) if one.version == 4 else ipaddress.IPv6Address(one.first)) for one in sorted(found))[
        :MOST_ADDRESSES
    ]


def server_of(text: str) -> tuple[str, int]:
    """Address and port of a DNS server as the settings write it. Raises ValueError for what is no address."""
    host, port = text, "53"
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or "53"
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    return str(ipaddress.ip_address(host)), int(port)
