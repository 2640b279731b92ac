"""What a rule is: a small pure function from the facts of one service to a judgement, with its name, its source and its documentation.

A package outside this tree adds a rule with an entry point of the group `driftline.rules` that names a `Rule`:

    [project.entry-points."driftline.rules"]
    open-proxy = "my_package:OPEN_PROXY"

    def detect(facts: ServiceFacts) -> Judgement | None:
        if facts.service.service != "http-proxy":
            return None
        return Judgement("A proxy is reachable", "It forwards …", "Restrict it …", base=60, floor=40, ceiling=85, saw="service http-proxy")

    OPEN_PROXY = Rule("open-proxy", "CWE-441", "A proxy that anyone who reaches the port may use.", detect)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from processors.correlate.tables import Expected, Tables
from processors.match.matching import Match
from schemas.events.context import InventoryRecord
from schemas.events.findings import FiredRule
from schemas.events.observations import ServiceObservation

SEEN_LIMIT, EVIDENCE_LIMIT = 200, 512
TABLES = Tables()


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """All that a rule may look at: one service of one address as last seen, and what is known of it from elsewhere.

    `new`: the service opened lately on a host that was known before. `impact`: it stopped answering lately while it was probed; the
    service may be gone then (`gone`), and `service` say nothing but its port. `inventory` is the record of the longest matching network.
    `names` are those by which the host was looked at. `tables` are what rules look things up in.
    `matches`: vulnerabilities that the service has by its version, or may have (`processors.match`). `now` comes from a record.
    """

    zone: str
    address: str
    service: ServiceObservation
    now: datetime
    flapping: bool = False
    new: bool = False
    impact: bool = False
    inventory: InventoryRecord | None = None
    matches: tuple[Match, ...] = ()
    names: tuple[str, ...] = ()
    gone: bool = False
    tables: Tables = TABLES

    @property
    def expected(self) -> Expected | None:
        """Which services should be here: by the inventory, else by the user's table; None: nobody says."""
        record = self.inventory
        if record is not None and record.expected:
            return Expected(record.zone, record.network, record.expected)
        return self.tables.expected_at(self.zone, self.address) if self.tables.expected else None

    @property
    def place(self) -> str:
        """The service as a subject: `198.18.0.7:tcp/6379`."""
        return f"{self.address}:{self.service.transport}/{self.service.port}"

    @property
    def label(self) -> str:
        """Product and version, or the service's name, or the port: for sentences. Hostile input, made harmless."""
        service = self.service
        return printable(" ".join(part for part in (service.product or service.service, service.version) if part)) or f"port {service.port}"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A rule's word on one service: three plain sentences for an analyst, and risks 0–100 with floor ≤ base ≤ ceiling.

    `saw` is what the rule looked at, in words. `subject` names what is exposed where that is not the service itself (a certificate).
    `proven`: a harmless probe showed it; otherwise it is inferred from a banner, a version or a port. `steps` say how the base came about,
    where that takes more than the rule itself; `counted` names adjustments that it holds already, or that do not concern it.
    """

    title: str
    why: str
    action: str
    base: float
    floor: float
    ceiling: float
    saw: str
    subject: str = ""
    proven: bool = False
    cves: tuple[str, ...] = ()
    steps: tuple[FiredRule, ...] = ()
    counted: frozenset[str] = frozenset()


def never(_: ServiceFacts) -> tuple[datetime, ...]:
    """No moment at which the judgement changes by itself."""
    return ()


@dataclass(frozen=True, slots=True)
class Rule:
    """A named detection. `edges` gives the moments at which its judgement changes though nothing happens (a certificate expires).

    `covers` names weaker rules that say nothing new at a service where this one fires.
    """

    name: str
    source: str
    doc: str
    detect: Callable[[ServiceFacts], Judgement | None]
    edges: Callable[[ServiceFacts], tuple[datetime, ...]] = never
    covers: tuple[str, ...] = ()


def printable(text: str, limit: int = SEEN_LIMIT) -> str:
    """Hostile text made fit for a sentence: printable characters only, one line, capped, with a sign that it was."""
    if len(text) <= limit and text.isprintable():
        return " ".join(text.split())
    kept = "".join(one if one.isprintable() else " " for one in text[: limit * 2])
    words = " ".join(kept.split())
    return words if len(words) <= limit and len(text) <= limit * 2 else f"{words[: limit - 1]}…"
