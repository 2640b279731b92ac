"""The verdict on one service and one CVE: affected, possible or not affected, how sure that is, and why in words. Pure.

A version in a banner is a hint. It is `affected` only where a source's range holds it and nothing speaks against it; where the versions
can't be compared, the sources disagree, or a distribution may have mended the version in place, it is `possible`: look closer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from processors.match import packages
from processors.match.evidence import Seen, limits
from processors.match.products import cpe_parts, is_distribution, product_key
from processors.match.ranges import Range, Stated, branch_doubt, latest, stated
from schemas.events.intel import AffectedProduct, IntelRecord, VersionStatus


class Verdict(StrEnum):
    """Whether a service has a vulnerability, as far as its evidence says."""

    AFFECTED = "affected"
    POSSIBLE = "possible"
    NOT_AFFECTED = "not affected"


ORDER = {verdict: place for place, verdict in enumerate(Verdict)}


@dataclass(frozen=True, slots=True)
class Match:
    """A verdict. `confidence`, 0 to 1: how sure it is; of `possible`, how likely the CVE applies. `confirm` says what would settle it."""

    record: IntelRecord
    verdict: Verdict
    confidence: float
    reason: str
    product: str
    version: str
    confirm: str = ""

    @property
    def cve(self) -> str:
        """The CVE's id."""
        return self.record.cve


class Word(StrEnum):
    """What one statement says of a version, from the clearest to the least clear."""

    AFFECTED = "affected"
    UNAFFECTED = "listed as unaffected"
    DEFAULT = "unaffected by default"
    OUTSIDE = "in no range"
    DOUBTED = "doubted"
    UNREADABLE = "unreadable"


WORDS = tuple(Word)


@dataclass(frozen=True, slots=True)
class Ruling:
    """One statement's word, whose it is, why, and how sure it is of itself."""

    word: Word
    source: str
    why: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Statement:
    """One `AffectedProduct`, made ready: the keys it stands under, and what it says."""

    product: AffectedProduct
    keys: frozenset[str]
    said: Stated
    packaged: bool
    limits: frozenset[str]


@dataclass(frozen=True, slots=True)
class Known:
    """A record with its statements made ready, so that many services can be held against it."""

    record: IntelRecord
    statements: tuple[Statement, ...]

    @property
    def keys(self) -> frozenset[str]:
        """All product and package keys that it concerns."""
        return frozenset(key for one in self.statements for key in one.keys)


def known(record: IntelRecord) -> Known:
    """A record made ready to be matched."""
    found = []
    for one in record.affected:
        package = packages.packaged(one)
        keys = frozenset((package,)) if package else frozenset(product_keys(one))
        if keys:
            found.append(Statement(one, keys, stated(one), bool(package), limits(one.platforms)))
    return Known(record, tuple(found))


def keys_of(record: IntelRecord) -> frozenset[str]:
    """The keys under which an index must have a record; cheaper than `known`."""
    found: set[str] = set()
    for one in record.affected:
        package = packages.packaged(one)
        found.update((package,) if package else product_keys(one))
    return frozenset(found)


def product_keys(product: AffectedProduct) -> Iterator[str]:
    """Keys of a product by its words, its package and its CPE names; none of a distribution as a whole."""
    named = [(product.vendor, product.product), (product.vendor, product.package)]
    named += [(parts[1], parts[2]) for name in product.cpes if (parts := cpe_parts(name))]
    for vendor, name in named:
        key = product_key(vendor, name)
        if key and not is_distribution(key):
            yield key


def match(seen: Seen, one: Known) -> Match | None:
    """The verdict on a service; None where the record names nothing that the service shows."""
    found: Match | None = None
    for key, version in seen.products:
        rulings = [_rule(version, key, statement, seen) for statement in one.statements if _concerns(statement, key)]
        if rulings:
            upstream = Match(one.record, *combine(rulings, version), key, version)
            found = _worse(found, upstream)
    own = _own(seen, one)
    if own and seen.package:
        return _by_package(own, seen.package, seen, one, found)
    if own and any(packages.may_be(version, statement.said) for statement in own for _, version in seen.products):
        return _any_revision(seen, one, found)
    return _mended(found, seen) if found and seen.builder else found


def _concerns(statement: Statement, key: str) -> bool:
    return not statement.packaged and (key in statement.keys or f"*:{key.partition(':')[2]}" in statement.keys)


def _worse(first: Match | None, second: Match) -> Match:
    return second if first is None else min(first, second, key=lambda one: (ORDER[one.verdict], -one.confidence))


def _rule(version: str, key: str, statement: Statement, seen: Seen) -> Ruling:
    """What one statement says of a version of its product."""
    ruling = _word(version, statement.said, statement.product.source or "the record")
    sure = ruling.confidence if key in statement.keys else ruling.confidence * 0.8  # the vendor is not named
    if ruling.word is Word.AFFECTED and statement.limits:
        only = " and ".join(sorted(statement.limits))
        if not statement.limits & seen.systems:
            named = seen.systems and statement.limits <= {"windows", "linux", "macos", "freebsd"}
            if named:
                return Ruling(Word.DEFAULT, ruling.source, f"only {only} is affected; this is {' and '.join(sorted(seen.systems))}", 0.7)
            return Ruling(Word.DOUBTED, ruling.source, f"{ruling.why}, but only on {only}, which was not seen", 0.45)
    return Ruling(ruling.word, ruling.source, ruling.why, sure)


def _word(version: str, said: Stated, source: str) -> Ruling:
    if not version:
        if not said.ranges and not said.unread and said.default is VersionStatus.UNAFFECTED:
            return Ruling(Word.DEFAULT, source, f"{source} says that no version is affected", 0.9)
        return Ruling(Word.UNREADABLE, source, "no version was seen", 0.1)
    held = [(one, one.holds(version)) for one in said.ranges]
    if holding := [one for one, holds in held if holds]:
        return _held(version, holding, said, source)
    if unclear := [one for one, holds in held if holds is None and one.status is not VersionStatus.UNAFFECTED]:
        return Ruling(Word.UNREADABLE, source, f"{version} can't be compared with {unclear[0]} ({source})", 0.2)
    if unread := [one for one in said.unread if one.status is not VersionStatus.UNAFFECTED]:
        return Ruling(Word.UNREADABLE, source, f"'{unread[0].text[:40]}', which {source} states as version, names no range", 0.15)
    shown = ", ".join(str(one) for one in said.ranges[:3]) + (" …" if len(said.ranges) > 3 else "")
    accused = any(one.status is VersionStatus.AFFECTED for one in said.ranges)
    if said.default is VersionStatus.AFFECTED and accused:
        return Ruling(
            Word.DOUBTED, source, f"{source} lists {shown} as affected, and yet all other versions, {version} too, by default", 0.4
        )
    if said.default is VersionStatus.AFFECTED:
        return Ruling(Word.AFFECTED, source, f"{source} says that all versions are affected{f' but {shown}' if shown else ''}", 0.65)
    if said.default is VersionStatus.UNAFFECTED:
        return Ruling(
            Word.DEFAULT, source, f"{version} is not in {shown or 'any range'}, and {source} says that others are unaffected", 0.9
        )
    if accused:
        return Ruling(Word.OUTSIDE, source, f"{version} is not in {shown}, which {source} says is affected", 0.6)
    return Ruling(Word.DOUBTED, source, f"{source} says nothing of {version}", 0.2)


def _held(version: str, holding: list[Range], said: Stated, source: str) -> Ruling:
    """Of ranges that hold the version those that begin last count; the order of ranges counts for nothing."""
    counting = latest([one for one in holding if one.single] or holding)
    statuses = {one.status_of(version) for one in counting}
    if len(statuses) > 1:
        return Ruling(Word.DOUBTED, source, f"{source} contradicts itself on {version}", 0.4)
    doubts = {one: branch_doubt(said.ranges, one, version) for one in counting}
    where = min((one for one in counting if doubts[one] is None), key=str, default=min(counting, key=str))
    status = statuses.pop()
    if status is None:
        return Ruling(Word.UNREADABLE, source, f"{version} can't be compared with the changes in {where} ({source})", 0.3)
    if status is VersionStatus.UNKNOWN:
        return Ruling(Word.DOUBTED, source, f"{source} does not know whether {where} is affected", 0.25)
    if status is VersionStatus.UNAFFECTED:
        return Ruling(Word.UNAFFECTED, source, f"{version} is in {where}, which {source} says is unaffected", 0.95)
    if doubt := doubts[where]:
        why = f"{version} is above the end of its own branch ({doubt}), though {source}'s {where} holds it"
        return Ruling(Word.DOUBTED, source, why, 0.4)
    sure = 0.75 if where.worded else 0.9 if where.single else 0.85
    return Ruling(Word.AFFECTED, source, f"{version} is in {where}, which {source} says is affected", sure)


def combine(rulings: Iterable[Ruling], version: str = "") -> tuple[Verdict, float, str]:
    """One verdict of what several statements say; their order counts for nothing.

    A source that says "affected" of one of its statements means it, whatever its others say by default. Sources that contradict each
    other make it possible; one that could not be read gives way to one that could.
    """
    by: dict[Word, list[Ruling]] = {word: [] for word in WORDS}
    for one in sorted(rulings, key=lambda one: (-one.confidence, one.source != "cna", one.source, one.why)):
        by[one.word].append(one)
    accusing = {one.source for one in by[Word.AFFECTED]}
    unclear = accusing | {one.source for one in (*by[Word.UNREADABLE], *by[Word.DOUBTED])}
    firm = by[Word.UNAFFECTED] + [one for one in by[Word.DEFAULT] if one.source not in unclear]
    if affected := by[Word.AFFECTED]:
        if firm:
            return Verdict.POSSIBLE, 0.5, f"{affected[0].why}; but {firm[0].why}"
        sure = affected[0].confidence * (0.9 if any(one.source not in accusing for one in by[Word.OUTSIDE]) else 1.0)
        return Verdict.AFFECTED, round(sure, 2), affected[0].why
    if doubted := by[Word.DOUBTED]:
        if by[Word.UNAFFECTED]:
            return Verdict.NOT_AFFECTED, 0.7, by[Word.UNAFFECTED][0].why
        return Verdict.POSSIBLE, round(doubted[0].confidence, 2), doubted[0].why
    if unreadable := by[Word.UNREADABLE]:
        dumb = {one.source for one in unreadable}
        readable = by[Word.UNAFFECTED] + [one for one in (*firm, *by[Word.OUTSIDE]) if one.source not in dumb]
        if readable and version:
            return Verdict.NOT_AFFECTED, 0.6, readable[0].why
        return Verdict.POSSIBLE, round(unreadable[0].confidence, 2), unreadable[0].why
    clear = by[Word.UNAFFECTED] or by[Word.DEFAULT] or by[Word.OUTSIDE]
    return Verdict.NOT_AFFECTED, round(clear[0].confidence, 2), clear[0].why


def _own(seen: Seen, one: Known) -> list[Statement]:
    """What the distribution that built the service says of its package."""
    if not seen.builder:
        return []
    wanted = {key for key in seen.keys if "/" in key}
    return [statement for statement in one.statements if statement.packaged and wanted & statement.keys]


def _by_package(own: list[Statement], package: packages.Package, seen: Seen, one: Known, found: Match | None) -> Match | None:
    told = [packages.status_for(package, statement.product, statement.said) for statement in own]
    clear = sorted(word for word in told if word is not None)
    product = found.product if found else seen.products[0][0]
    statuses = {status for status, _ in clear}
    if not clear:
        return _mended(found, seen) if found else None
    if statuses == {VersionStatus.UNAFFECTED}:
        why = f"{seen.builder} has mended it or never had it: {clear[0][1]}"
        return Match(one.record, Verdict.NOT_AFFECTED, 0.95, why, product, package.version)
    if statuses == {VersionStatus.AFFECTED}:
        why = f"{seen.builder} says that its package is affected: {clear[0][1]}"
        return Match(one.record, Verdict.AFFECTED, 0.95, why, product, package.version)
    why = f"{seen.builder} says different things of its package"
    return Match(one.record, Verdict.POSSIBLE, 0.5, why, product, package.version, _ask(seen))


def _any_revision(seen: Seen, one: Known, found: Match | None) -> Match:
    """The distribution lists its package of this version, and the revision that runs is not known."""
    product, version = (found.product, found.version) if found else seen.products[0]
    sure = 0.35 if found and found.verdict is Verdict.AFFECTED else 0.25
    why = f"{seen.builder} lists its package of {version}, but the banner does not show which revision runs"
    return Match(one.record, Verdict.POSSIBLE, sure, why, product, version, _ask(seen))


def _mended(found: Match, seen: Seen) -> Match:
    """A version that a distribution built: affected by its number is only possible, since the fix may be in it all the same."""
    if found.verdict is Verdict.NOT_AFFECTED:
        return found
    sure = 0.35 if found.verdict is Verdict.AFFECTED else found.confidence * 0.7
    shown = f" (package {seen.package.version})" if seen.package else ""
    why = f"{found.reason}; but {seen.builder} mends versions in place{shown}, and the record does not give its fixed version"
    return Match(found.record, Verdict.POSSIBLE, round(sure, 2), why, found.product, found.version, _ask(seen))


def _ask(seen: Seen) -> str:
    if seen.package:
        return f"Confirm on the host: {seen.package.command}, and compare with {seen.builder}'s security tracker."
    return f"Confirm on the host which package of {seen.builder} runs, and compare with its security tracker."
