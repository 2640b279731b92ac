"""SSVC: how urgent a vulnerability is where it was found, by four decision points and one table. Pure.

The table is CISA's (CISA Stakeholder-Specific Vulnerability Categorization Guide, November 2022; as data: CERT/CC's SSVC repository,
`cisa_coordinator_2_0_3.csv`). A point has CISA's own value where the record gives one (the ADP container of the CVE record), else one
derived here, each with its source. What can't be derived stays unknown and says so; the table then counts it as the worse value.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from schemas.events.context import Criticality, InventoryRecord
from schemas.events.findings import FiredRule
from schemas.events.intel import IntelRecord

GUIDE = "CISA SSVC Guide, November 2022"
EPSS_POC = 0.088
"""From this probability on, exploitation within 30 days is taken for likely: the threshold of Vulnerability Management Chaining
(arXiv:2506.01220), where it goes with CVSS 7 and KEV."""
HIGH_TAGS = frozenset(("safety", "public-safety", "mission-essential", "critical-infrastructure", "patient-care"))
LOW_TAGS = frozenset(("lab", "test", "sandbox"))


class Action(StrEnum):
    """What CISA's table advises, from the least to the most urgent."""

    TRACK = "Track"
    TRACK_CLOSELY = "Track*"
    ATTEND = "Attend"
    ACT = "Act"


# Exploitation, automatable, technical impact → the action for mission & well-being low, medium, high.
_T, _S, _A, _X = Action.TRACK, Action.TRACK_CLOSELY, Action.ATTEND, Action.ACT
TABLE: dict[tuple[str, str, str], tuple[Action, Action, Action]] = {
    ("none", "no", "partial"): (_T, _T, _T),
    ("none", "no", "total"): (_T, _T, _S),
    ("none", "yes", "partial"): (_T, _T, _A),
    ("none", "yes", "total"): (_T, _T, _A),
    ("poc", "no", "partial"): (_T, _T, _S),
    ("poc", "no", "total"): (_T, _S, _A),
    ("poc", "yes", "partial"): (_T, _T, _A),
    ("poc", "yes", "total"): (_T, _S, _A),
    ("active", "no", "partial"): (_T, _T, _A),
    ("active", "no", "total"): (_T, _A, _X),
    ("active", "yes", "partial"): (_A, _A, _X),
    ("active", "yes", "total"): (_A, _X, _X),
}
MISSIONS = ("low", "medium", "high")


class Evidence(NamedTuple):
    """What of a record counts here."""

    kev: bool
    exploitation: str = ""
    automatable: str = ""
    impact: str = ""
    cvss: float | None = None
    vector: str = ""
    epss: float | None = None
    percentile: float | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """A decision point: its value ('' unknown), what the table counts it as, why, and by which source."""

    name: str
    value: str
    counted: str
    because: str
    source: str

    def fired(self) -> FiredRule:
        """As a step of an exposure."""
        effect = self.value or f"unknown, counts as {self.counted}"
        return FiredRule(rule=f"ssvc-{self.name}", effect=effect, input=self.because, source=self.source)


@dataclass(frozen=True, slots=True)
class Decision:
    """The four points in the order of the guide, and the action that the table gives."""

    points: tuple[Point, Point, Point, Point]
    action: Action

    @property
    def exploited(self) -> bool:
        """Whether attacks are known."""
        return self.points[0].value == "active"


def evidence_in(record: IntelRecord) -> Evidence:
    """What of a record of `intel` counts. Percentiles are rounded to hundredths, so that not every day's scores change findings."""
    return Evidence(
        record.kev is True,
        record.ssvc_exploitation,
        record.ssvc_automatable,
        record.ssvc_technical_impact,
        record.cvss,
        record.cvss_vector,
        record.epss,
        None if record.epss_percentile is None else round(record.epss_percentile, 2),
    )


def decide(known: Evidence, mission: Point) -> Decision:
    """CISA's decision on a vulnerability at an asset."""
    metrics = metrics_of(known.vector)
    points = (exploitation(known, metrics), automatable(known, metrics), impact(known, metrics), mission)
    row = TABLE[points[0].counted, points[1].counted, points[2].counted]
    return Decision(points, row[MISSIONS.index(mission.counted)])


def exploitation(known: Evidence, metrics: dict[str, str]) -> Point:
    """Whether attacks or public proofs of concept are known. KEV is CISA's word too, and later than the container's."""
    name, worst = "exploitation", known.exploitation
    if known.kev and worst != "active":
        return Point(name, "active", "active", "listed in KEV", "CISA BOD 22-01")
    if worst in ("none", "poc", "active"):
        return Point(name, worst, worst, "CISA's own value", GUIDE)
    threat = metrics.get("E", "")
    if metrics.get("version") == "4.0" and threat == "A":
        return Point(name, "active", "active", "CVSS E:A, attacked", "CVSS v4.0, 3.1")
    if threat in ("P", "F", "H", "POC"):
        return Point(name, "poc", "poc", f"CVSS E:{threat}, an exploit exists", "CVSS v3.1, 3.1 and v4.0, 3.1")
    if known.epss is not None:
        likely = known.epss >= EPSS_POC
        value, word = ("poc", "at least") if likely else ("none", "below")
        return Point(name, value, value, f"not in KEV, EPSS {word} {EPSS_POC:g}", "derived: arXiv:2506.01220")
    return Point(name, "", "poc", "neither CISA's value nor EPSS", "derived: the worse of none and poc")


def automatable(known: Evidence, metrics: dict[str, str]) -> Point:
    """Whether attacks can run by themselves: over the network, without a login, a victim's click or conditions that are not given."""
    name, source = "automatable", "derived: CVSS exploitability metrics"
    if known.automatable in ("yes", "no"):
        return Point(name, known.automatable, known.automatable, "CISA's own value", GUIDE)
    if metrics.get("AU") in ("Y", "N"):
        value = "yes" if metrics["AU"] == "Y" else "no"
        return Point(name, value, value, f"CVSS AU:{metrics['AU']}", "CVSS v4.0, 4.2")
    wanted = EASY.get(metrics.get("version", ""), {})
    if not wanted or not wanted.keys() <= metrics.keys():
        return Point(name, "", "yes", "neither CISA's value nor a CVSS vector", "derived: the worse value")
    value = "yes" if all(metrics[key] == easy for key, easy in wanted.items()) else "no"
    return Point(name, value, value, "CVSS " + " ".join(f"{key}:{metrics[key]}" for key in wanted), source)


def impact(known: Evidence, metrics: dict[str, str]) -> Point:
    """Whether the attacker gets all control: reads everything and changes everything. A crash alone is partial."""
    name = "technical-impact"
    if known.impact in ("partial", "total"):
        return Point(name, known.impact, known.impact, "CISA's own value", GUIDE)
    wanted = TOTAL.get(metrics.get("version", ""), {})
    if not wanted or not wanted.keys() <= metrics.keys():
        return Point(name, "", "total", "neither CISA's value nor a CVSS vector", "derived: the worse value")
    value = "total" if all(metrics[key] == full for key, full in wanted.items()) else "partial"
    return Point(name, value, value, "CVSS " + " ".join(f"{key}:{metrics[key]}" for key in wanted), "derived: CVSS impact metrics")


def mission(record: InventoryRecord | None) -> Point:
    """How much the asset matters, by its criticality and tags. Without a record it is unknown and counts as medium."""
    name, source = "mission", f"{GUIDE}; inventory"
    if record is None:
        return Point(name, "", "medium", "the inventory does not know the asset", source)
    tags = {tag.lower() for tag in record.tags}
    if record.criticality in (Criticality.HIGH, Criticality.CRITICAL):
        return Point(name, "high", "high", f"criticality {record.criticality}", source)
    if named := sorted(tags & HIGH_TAGS):
        return Point(name, "high", "high", f"tag {named[0]}", source)
    if record.criticality is Criticality.LOW:
        return Point(name, "low", "low", "criticality low", source)
    if named := sorted(tags & LOW_TAGS):
        return Point(name, "low", "low", f"tag {named[0]}", source)
    return Point(name, "medium", "medium", "criticality normal", source)


EASY = {
    "2.0": {"AV": "N", "AC": "L", "Au": "N"},
    "3.0": {"AV": "N", "AC": "L", "PR": "N", "UI": "N"},
    "3.1": {"AV": "N", "AC": "L", "PR": "N", "UI": "N"},
    "4.0": {"AV": "N", "AC": "L", "AT": "N", "PR": "N", "UI": "N"},
}
TOTAL = {
    "2.0": {"C": "C", "I": "C"},
    "3.0": {"C": "H", "I": "H"},
    "3.1": {"C": "H", "I": "H"},
    "4.0": {"VC": "H", "VI": "H"},
}


def metrics_of(vector: str) -> dict[str, str]:
    """The metrics of a CVSS vector, and under `version` which version it is of; nothing of what is no vector."""
    first, *rest = vector.split("/")
    kind, _, number = first.partition(":")
    version = number if kind == "CVSS" else "2.0"
    parts = rest if kind == "CVSS" else [first, *rest]
    found = dict(part.split(":", 1) for part in parts if ":" in part)
    return {**found, "version": version} if found else {}
