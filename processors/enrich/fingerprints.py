"""Fill in product, version and CPEs from banners and headers, by a small versioned table of rules (`rules.toml`).

What nmap said stands; a rule only fills what is empty. What a rule filled is marked in `evidence` as `fingerprints@VERSION:RULE=FIELDS`, so
that it can be taken out again: a new table is applied to the old observation too before the two are compared, and so changes nothing alone.
"""

from __future__ import annotations

import functools
import re
import tomllib
from dataclasses import dataclass
from importlib.resources import files

from schemas.events.observations import HostObservation, ServiceObservation

MARK = "fingerprints@"
MAX_TEXT = 2048
_EMPTY: dict[str, str | tuple[str, ...]] = {"service": "", "product": "", "version": "", "extra": "", "cpes": ()}


@dataclass(frozen=True, slots=True)
class Example:
    """A text and what its rule must make of it."""

    text: str
    product: str
    version: str = ""
    extra: str = ""
    cpe: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """One fingerprint: where to look, for what, and what it means."""

    name: str
    field: str
    pattern: re.Pattern[str]
    service: str
    product: str
    version: str
    extra: str
    cpes: tuple[str, ...]
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """A table of rules and its version."""

    version: str
    rules: tuple[Rule, ...]

    def enrich(self, seen: HostObservation) -> HostObservation:
        """The observation with what its texts say, and the table's version."""
        return seen.model_copy(update={"services": tuple(self.identify(one) for one in seen.services), "fingerprints": self.version})

    def identify(self, seen: ServiceObservation) -> ServiceObservation:
        """One service with what this table makes of it. What an earlier table made of it is taken out first."""
        marks = [one for one in seen.evidence if one.startswith(MARK)]
        if marks and all(one.startswith(f"{MARK}{self.version}:") for one in marks):
            return seen  # this table's own work
        plain = without_marks(seen)
        for rule in self.rules:
            found = rule.pattern.search(text_of(plain, rule.field)[:MAX_TEXT])
            if found:
                return self._fill(plain, rule, found)
        return plain

    def _fill(self, seen: ServiceObservation, rule: Rule, found: re.Match[str]) -> ServiceObservation:
        if seen.product and seen.product != rule.product:
            return seen
        version = expand(rule.version, found)
        if seen.version and version and not same_version(seen.version, version):
            return seen
        said = {"service": rule.service, "product": rule.product, "version": version, "extra": expand(rule.extra, found)}
        fill: dict[str, object] = {name: value for name, value in said.items() if value and not getattr(seen, name)}
        cpes = tuple(filter(None, (expand(one, found, cut=True) for one in rule.cpes)))
        if cpes and not seen.cpes:
            fill["cpes"] = cpes
        if not fill:
            return seen
        mark = f"{MARK}{self.version}:{rule.name}={'+'.join(sorted(fill))}"
        return seen.model_copy(update={**fill, "evidence": (*seen.evidence, mark)})


def without_marks(seen: ServiceObservation) -> ServiceObservation:
    """The service as it was before any table touched it."""
    marks = [one for one in seen.evidence if one.startswith(MARK)]
    if not marks:
        return seen
    filled = {name for mark in marks for name in mark.partition("=")[2].split("+")}
    plain: dict[str, object] = {name: _EMPTY[name] for name in filled if name in _EMPTY}
    return seen.model_copy(update={**plain, "evidence": tuple(one for one in seen.evidence if not one.startswith(MARK))})


def text_of(seen: ServiceObservation, field: str) -> str:
    """The text that a rule looks at; empty where there is none."""
    if field == "banner":
        return seen.banner
    if field.startswith("facts."):
        return seen.facts.get(field.removeprefix("facts."), "")
    if seen.http is None:
        return ""
    return {"server": seen.http.server, "title": seen.http.title, "powered_by": seen.http.headers.get("x-powered-by", "")}[field]


def expand(template: str, found: re.Match[str], *, cut: bool = False) -> str:
    """The template with its groups; '' if a group is empty, or (`cut`) only without its last `:{group}` then."""
    groups = {name: value or "" for name, value in found.groupdict().items()}
    if all(groups[name] for name in re.findall(r"\{(\w+)\}", template)):
        return template.format_map(groups)
    return template.rpartition(":")[0] if cut else ""


def same_version(one: str, other: str) -> bool:
    """Whether two versions only differ in how much they say: `9.2p1` and `9.2p1 Debian 2+deb12u3`."""
    short, long = sorted((one, other), key=len)
    return long == short or long.startswith(f"{short} ")


def parse_table(text: str) -> Fingerprints:
    """A table from TOML. Raises ValueError, KeyError or re.error for a wrong one (a developer's mistake, found by the tests)."""
    raw = tomllib.loads(text)
    rules = tuple(
        Rule(
            name=one["name"],
            field=one["field"],
            pattern=re.compile(one["pattern"], re.IGNORECASE),
            service=one["service"],
            product=one["product"],
            version=one.get("version", ""),
            extra=one.get("extra", ""),
            cpes=tuple(one.get("cpes", ())),
            examples=tuple(Example(**example) for example in one["example"]),
        )
        for one in raw["rule"]
    )
    return Fingerprints(version=str(raw["version"]), rules=rules)


@functools.cache
def built_in() -> Fingerprints:
    """The table that comes with this package."""
    return parse_table((files("processors.enrich") / "rules.toml").read_text(encoding="utf-8"))
