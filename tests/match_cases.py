"""Versions inside and outside of what a CVE record says, from its JSON alone: the referee of `processors.match`, which it does not use.

It is simple on purpose: versions compare as lists of numbers and words (`natural`), ranges as CVE JSON 5.x says, in the record's order.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SAMPLE = Path(__file__).parents[2] / "shared" / "data" / "cve-sample.jsonl.gz"
PLAIN = re.compile(r"v?\d[\w.()\\-]{0,39}(?<!\.x)", re.ASCII)
BEFORE = re.compile(r"(?i)(?:all )?(?:versions? )?(?:<|before|prior to) ?(\S+)")
DOWN = re.compile(r"(?i)(\S+) (?:and|or) (?:prior|earlier|below)(?: versions?)?")
BETWEEN = re.compile(r">= ?(\S+), ?< ?(\S+)")
FROM_TO = re.compile(r"(?i)(?:from )?(\S+) (?:to|through) (\S+)")
SINCE = re.compile(r">= ?(\S+)")
SHIPPERS = ("red hat", "suse")
PRE = ("rc", "beta", "alpha", "m", "dev", "pre", "preview", "cr")
Key = list[tuple[float, int, str]]
NO_START = ("", "0", "*", "n/a", "unspecified", "-", "?")


@dataclass
class Span:
    """A range of a record as the referee reads it."""

    status: str
    low: str | None
    high: str | None
    included: bool
    changes: list[dict[str, str]] = field(default_factory=list)

    def holds(self, version: str) -> bool:
        """Whether a version is in it, by natural order."""
        mine = natural(version)
        if self.low is not None and mine < natural(self.low):
            return False
        return self.high is None or mine < natural(self.high) or (self.included and mine == natural(self.high))


@dataclass
class Entry:
    """One `affected` of a record that could be read whole; `plain` is false where some of its versions could not."""

    source: str
    raw: dict[str, Any]
    spans: list[Span]
    plain: bool

    def status(self, version: str) -> str:
        """What it says of a version: the first range that holds it, else the default."""
        for one in self.spans:
            if one.holds(version):
                found = one.status
                for change in sorted(one.changes, key=lambda change: natural(change["at"])):
                    found = change["status"] if natural(change["at"]) <= natural(version) else found
                return found
        return f"default {self.raw.get('defaultStatus', 'unknown')}"

    def contradicts(self, version: str) -> bool:
        """Whether its ranges say different things of a version."""
        return len({one.status for one in self.spans if one.holds(version)}) > 1


@dataclass
class Case:
    """A version of a record's product and the verdict that is right for it. `limited`: the record names platforms."""

    cve: str
    cpe: str
    builder: str
    revision: str
    inside: bool
    version: str
    limited: bool = False


def records() -> Iterator[dict[str, Any]]:
    """The 1,200 records."""
    with gzip.open(SAMPLE) as lines:
        yield from map(json.loads, lines)


def natural(version: str) -> Key:
    """Numbers and words in turn; words of pre-releases before the end, other words behind it, numbers last."""
    pieces = re.findall(r"\d+|[a-z]+", version.lower().removeprefix("v"))
    found: Key = [
        (2.0, int(one), "") if one.isdigit() else (-2.0 if one in PRE else 1.0, 0, "" if one == "final" else one)
        for one in pieces
        if one != "final"
    ]
    while found and found[-1] == (2.0, 0, ""):
        found.pop()
    return [*found, (-1.0, 0, "")]


def entries(record: dict[str, Any]) -> list[Entry]:
    """What the CNA and the ADPs say."""
    containers = record["containers"]
    parts = [(containers["cna"], "cna"), *((one, one["providerMetadata"].get("shortName", "adp")) for one in containers.get("adp", ()))]
    found = []
    for part, source in parts:
        for raw in part.get("affected", ()):
            spans = [span(one) for one in raw.get("versions", ())]
            found.append(Entry(source, raw, [one for one in spans if one], all(spans)))
    return found


def span(one: dict[str, Any]) -> Span | None:
    """A range; None for what the referee can't read."""
    version, status, changes = one["version"].strip(), one["status"], one.get("changes", [])
    high = one.get("lessThan", one.get("lessThanOrEqual"))
    if high is None:
        return worded(version, status)
    low = None if version in NO_START else version
    high = None if high == "*" else high.strip()
    if any(text is not None and not PLAIN.fullmatch(text) for text in (low, high, *(change["at"] for change in changes))):
        return None
    return Span(status, low, high, "lessThanOrEqual" in one, changes)


def worded(text: str, status: str) -> Span | None:
    """A version, or a range in words."""
    if PLAIN.fullmatch(text) and not text.endswith(("x", "X")) and text != "0" and not re.fullmatch(r"[\d.]+-[\d.]+", text):
        return Span(status, text, text, True)
    for form, low, high, included in (
        (BETWEEN, 1, 2, False),
        (BEFORE, 0, 1, False),
        (DOWN, 0, 1, True),
        (FROM_TO, 1, 2, True),
        (SINCE, 1, 0, False),
    ):
        found = form.fullmatch(text)
        if found and all(map(PLAIN.fullmatch, found.groups())):
            return Span(status, found[low] if low else None, found[high] if high else None, included)
    return None


def cases(record: dict[str, Any]) -> tuple[list[Case], str]:
    """Versions inside and outside; where there is not one of each, why."""
    found = entries(record)
    named = [one for one in found if _name(one)]
    if not named:
        return [], "the record names no product"
    readable = [one for one in named if _shipped(one) or (one.plain and one.spans)]
    if not readable:
        return [], "no version of it can be read: " + ", ".join(
            sorted({one["version"] for entry in found for one in entry.raw.get("versions", ())})
        )[:60]
    why = "no version is affected by one source and by none unaffected, or none is unaffected"
    for entry in readable:
        made = list(_packaged(entry, record) if _shipped(entry) else _of_product(entry, named, record))
        if any(one.inside for one in made) and not all(one.inside for one in made):
            return made, ""
    return [], why


def one_of_each(made: list[Case], cve: str) -> list[Case]:
    """One version inside and one outside, by lot."""
    luck = random.Random(cve)  # noqa: S311  luck, not a secret
    return [luck.choice([one for one in made if one.inside is inside]) for inside in (True, False)]


def _of_product(entry: Entry, named: list[Entry], record: dict[str, Any]) -> Iterator[Case]:
    related = [one for one in named if not _shipped(one) and _related(one, entry)]
    if not all(one.plain for one in related):
        return
    system = " ".join(entry.raw.get("platforms", ()))
    open_ended = {span.high for one in related for span in one.spans if span.low is None}
    stated = {text for one in related for span in one.spans for text in (span.low, span.high)}
    for version in candidates(related):
        said = {one.status(version) for one in related}
        if any(one.contradicts(version) for one in related):
            continue  # the schema wants ranges to be disjoint
        if "affected" in said and len(open_ended) > 1 and version not in stated:
            continue  # `5.7.42 and prior, 8.0.33 and prior` means branches
        agreed = "affected" in said and not said & {"unaffected", "default unaffected", "unknown"}
        agreed = agreed or ("affected" in said and "unaffected" not in said and _one_source(related, version))
        if agreed or not any(("unaffected" not in one and one.endswith(" affected")) or one in ("affected", "unknown") for one in said):
            yield Case(record["cveMetadata"]["cveId"], _cpe(entry, version), "", "", agreed, version, bool(system))


def _one_source(related: list[Entry], version: str) -> bool:
    """Whether those that say unaffected by default say affected too, of another range of the same product."""
    accusing = {one.source for one in related if one.status(version) == "affected"}
    return all(one.source in accusing for one in related if one.status(version) == "default unaffected")


def candidates(related: list[Entry]) -> list[str]:
    """Versions at, just below and just above the ends of ranges, and one far above all."""
    found: dict[str, None] = {}
    for one in (span for entry in related for span in entry.spans):
        for text in (one.low, one.high, *(change["at"] for change in one.changes)):
            if text is not None:
                found |= dict.fromkeys((text, *_beside(text)))
    return [*found, "9999.1"]


def _beside(text: str) -> Iterator[str]:
    """The versions next to a plain dotted one."""
    if re.fullmatch(r"\d+(\.\d+)+", text):
        head, _, last = text.rpartition(".")
        yield f"{head}.{int(last) + 1}"
        if int(last) > 0:
            yield f"{head}.{int(last) - 1}"


def _packaged(entry: Entry, record: dict[str, Any]) -> Iterator[Case]:
    """The fixed version of a distribution's package, and the one before it."""
    name = entry.raw.get("packageName", "").rpartition("/")[2]
    versions = entry.raw.get("versions", ())
    if len(versions) != 1 or not name or re.search(r"(?i)update|support", entry.raw["product"]):
        return
    one = versions[0]
    fixed = one["version"] if (one["status"], one.get("lessThan")) == ("unaffected", "*") else one.get("lessThan", "")
    found = re.fullmatch(r"(?:\d+:)?([^-:]+)-(\d+)(\D.*)", fixed)
    if not found or int(found[2]) == 0:
        return
    for inside, revision in ((True, f"{int(found[2]) - 1}{found[3]}"), (False, f"{found[2]}{found[3]}")):
        cpe = f"cpe:2.3:a:acme:{_quoted(name)}:{_quoted(found[1])}:*:*:*:*:*:*:*"
        yield Case(record["cveMetadata"]["cveId"], cpe, entry.raw["vendor"], revision, inside, f"{found[1]}-{revision}")


def _name(entry: Entry) -> str:
    """Its product, or package, without signs."""
    name = entry.raw.get("product") or entry.raw.get("packageName") or ""
    name = "" if name.strip().lower() in ("", "n/a", "unknown", "unspecified") else re.sub(r"[^a-z0-9]", "", name.lower())
    return name.removesuffix("software")


def _related(one: Entry, other: Entry) -> bool:
    short, long = sorted((_name(one), _name(other)), key=len)
    return long.endswith(short) or long.removeprefix(short) in ("server", "software", "os")


def _shipped(entry: Entry) -> bool:
    return bool(entry.raw.get("packageName")) and entry.raw.get("vendor", "").lower() in SHIPPERS


def _cpe(entry: Entry, version: str) -> str:
    vendor, product = entry.raw.get("vendor") or "", entry.raw.get("product") or entry.raw.get("packageName") or ""
    vendor = product if vendor.strip().lower() in ("", "n/a") else vendor
    return f"cpe:2.3:a:{_quoted(vendor)}:{_quoted(product)}:{_quoted(version)}:*:*:*:*:*:*:*"


def _quoted(text: str) -> str:
    return re.sub(r"([^a-z0-9_.\-])", r"\\\1", "_".join(text.replace("\\", "").lower().split()))
