"""The verdict on one service and one CVE: affected, possible or not affected, how sure that is, and why in words. Pure.

A version in a banner is a hint. It is `affected` only where a source's range holds it and nothing speaks against it; where the versions
can't be compared, the sources disagree, or a distribution may have mended the version in place, it is `possible`: look closer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from processors.match import packages
from processors.match.evidence import FAMILIES, Seen, limits
from processors.match.products import cpe_parts, is_distribution, product_key
from processors.match.ranges import Stated, stated
from processors.match.rulings import ORDER, RECORD, Ruling, Verdict, Word, combine, ruling
from schemas.events.intel import AffectedProduct, IntelRecord, VersionStatus


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
            found.append(Statement(one, keys, stated(one), bool(package), limits(one.platforms, one.product)))
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
    """What one statement says of a version of its product, as far as the platforms that it names allow."""
    source = statement.product.source
    said = ruling(version, statement.said, RECORD if source in ("", "cna") else source)
    if said.word is Word.AFFECTED and statement.limits and not statement.limits & seen.systems:
        only = " and ".join(sorted(statement.limits))
        if seen.systems and statement.limits <= FAMILIES:
            return Ruling(Word.DEFAULT, said.source, f"only {only} is affected; this is {' and '.join(sorted(seen.systems))}", 0.7)
        return Ruling(Word.DOUBTED, said.source, f"{said.why}, but only on {only}, which was not seen", 0.45)
    sure = said.confidence if key in statement.keys else said.confidence * 0.8  # the vendor is not named
    return Ruling(said.word, said.source, said.why, sure)


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
