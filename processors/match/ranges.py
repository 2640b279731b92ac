"""Whether a version lies in what a record states, and what status that gives: the rules of CVE JSON 5.x. Pure.

Source: CVE Program, "CVE 5.0 Product and Version Encodings" (github.com/CVEProject/cve-schema, schema/v5.0/docs/versions.md): a range is
`version` ≤ V < `lessThan` (or ≤ `lessThanOrEqual`), `0` is no start, `*` in an end is infinity (`2.*` holds all of 2.x), the last of
`changes` at or before V says the status, and a version that nothing names has the `defaultStatus`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from processors.match import phrases
from processors.match.versions import compare, is_semver, parsed, scheme_of
from schemas.events.intel import AffectedProduct, VersionChange, VersionRange, VersionStatus

OPEN = frozenset(("", "0", "*", "unspecified", "n/a", "-", "?", "all", "any", "none", "unknown", "0.0", "0.0.0"))
"""Starts that are none. `n/a` and `unspecified` stand in records that were turned from version 4 into version 5."""
ENDLESS = frozenset(("*", "unspecified", "all", "infinity"))
NEXT = "next of "
"""How records that were turned from version 4 say that a range begins behind a version."""


@dataclass(frozen=True, slots=True)
class Range:
    """From `start` ('' open; not itself if `after`) to `end` ('' none; itself if `included`); `series`: the end is all that begins so."""

    status: VersionStatus
    scheme: str = ""
    start: str = ""
    after: bool = False
    end: str = ""
    included: bool = False
    series: tuple[int, ...] = ()
    changes: tuple[VersionChange, ...] = ()
    worded: bool = False

    @property
    def single(self) -> bool:
        """Whether it holds one version."""
        return self.start == self.end != "" and self.included

    @property
    def empty(self) -> bool:
        """Whether its end lies before its start, or at it without belonging to it: a slip of who wrote the record."""
        order = compare(self.start, self.end, self.scheme) if self.start and self.end else None
        return order is not None and (order > 0 or (order == 0 and not self.included))

    def __str__(self) -> str:
        """The range as people write it: `2.4.0 ≤ version < 2.4.51`."""
        if self.single:
            return self.start
        start = f"{self.start} {'<' if self.after else '≤'} " if self.start else ""
        last = f"{'.'.join(map(str, self.series))}.*" if self.series else self.end
        sign = "≤" if self.included or self.series else "<"
        return f"{start}version{f' {sign} {last}' if last else ''}" if start or last else "every version"

    def holds(self, version: str) -> bool | None:
        """Whether a version is in it; None where that can't be told."""
        if self.single:  # what can't be put in order is another version all the same
            return version == self.start or version.lower() == self.start.lower() or compare(version, self.start, self.scheme) == 0
        below = self._below_end(version)
        if below is False or not self.start:
            return below
        order = compare(self.start, version, self.scheme)
        if order is None:
            return None
        return below if order < 0 or (order == 0 and not self.after) else False

    def _below_end(self, version: str) -> bool | None:
        if self.series:
            numbers = leading(version)
            return None if numbers is None else (numbers + (0,) * len(self.series))[: len(self.series)] <= self.series
        if not self.end:
            return True
        order = compare(version, self.end, self.scheme)
        return None if order is None else order < 0 or (order == 0 and self.included)

    def status_of(self, version: str) -> VersionStatus | None:
        """The status of a version that it holds; None where one of its changes can't be compared with it."""
        last: VersionChange | None = None
        for change in self.changes:
            order = compare(change.at, version, self.scheme)
            if order is None:
                return None
            if order <= 0:
                newer = 1 if last is None else compare(change.at, last.at, self.scheme)
                if newer is None:
                    return None
                last = change if newer >= 0 else last
        return self.status if last is None else last.status


@dataclass(frozen=True, slots=True)
class Unread:
    """A version text that says nothing, or could mean more than one thing."""

    text: str
    status: VersionStatus


@dataclass(frozen=True, slots=True)
class Stated:
    """What one source says of the versions of one product, made ready to be asked."""

    ranges: tuple[Range, ...]
    unread: tuple[Unread, ...]
    default: VersionStatus


def stated(product: AffectedProduct) -> Stated:
    """The statement of a source."""
    ranges: list[Range] = []
    unread: list[Unread] = []
    for one in product.versions:
        found = list(_ranges(one, product.product))
        ranges += found
        if not found:
            unread.append(Unread(one.version, one.status))
    return Stated(tuple(ranges), tuple(unread), product.default_status)


def _ranges(one: VersionRange, product: str) -> Iterator[Range]:
    """The ranges of one entry; none where it can't be read."""
    scheme = scheme_of(one.scheme)
    start, end = one.version.strip(), (one.less_than or one.less_than_or_equal).strip()
    if not end and not one.after:
        for read in phrases.read(start, product) or ():
            yield _range(one, scheme, read.start, read.after, read.end, read.included, not _plain(read))
        return
    after = one.after
    if start.lower().startswith(NEXT):
        start, after = start[len(NEXT) :].strip(), True
    if start.lower() in OPEN:
        start, after = "", False
    start = phrases.series_of(start) or start
    if _silly(start) or (end.lower() not in ENDLESS and _silly(end)):
        return
    found = _range(one, scheme, start, after, "" if end.lower() in ENDLESS else end, bool(one.less_than_or_equal), False)
    if not found.empty:
        yield found


def _plain(read: phrases.Stretch) -> bool:
    return read.start == read.end


def _silly(text: str) -> bool:
    """Whether an end of a range holds no number, or several versions."""
    return bool(text) and ("," in text or not any(one.isdigit() for one in text))


def _range(one: VersionRange, scheme: str, start: str, after: bool, end: str, included: bool, worded: bool) -> Range:
    series = phrases.series_of(end)
    bounds = (start, "" if series else end, *(change.at for change in one.changes))
    if scheme == "semver" and not all(is_semver(bound) for bound in bounds if bound):
        scheme = ""  # Junos' 22.3R2 is called semver by many; one range is compared in one way
    numbers = tuple(int(number) for number in series.split(".")) if series else ()
    return Range(one.status, scheme, start, after, "" if series else end, included, numbers, one.changes, worded)


def leading(version: str) -> tuple[int, ...] | None:
    """The numbers that a version begins with, behind an epoch; None where it begins with none."""
    found = parsed(version.rpartition(":")[2].partition("-")[0]) or parsed(version)
    return found.numbers if found and found.numbers else None


def latest(holding: list[Range]) -> list[Range]:
    """Of ranges that hold a version, those that begin last: the most exact ones. Ranges should be disjoint, but some records' are not.

    `17.1.0 ≤ version` unaffected and `14.1.0 ≤ version` affected are meant as branches: of 17.1.2 the former speaks.
    """
    return [one for one in holding if not any(_begins_before(one, other) for other in holding)]


def _begins_before(one: Range, other: Range) -> bool:
    if not one.start or not other.start:
        return bool(other.start) and not one.start
    return compare(one.start, other.start, one.scheme) == -1


def branch_doubt(ranges: tuple[Range, ...], held: Range, version: str) -> Range | None:
    """The range whose end in its own branch a version has passed, though a range of another branch holds it too.

    `5.7.42 and prior, 8.0.33 and prior`: to the letter 5.7.44 is affected, but hardly meant. None where there is no such doubt.
    """
    mine = leading(version)
    if mine is None or held.single or _ends_in_branch(held, mine) or same_branch(leading(held.start) if held.start else None, mine):
        return None
    passed = [one for one in ranges if one.status is VersionStatus.AFFECTED and not one.single and _ends_in_branch(one, mine)]
    return next((one for one in passed if one.holds(version) is False), None)


def _ends_in_branch(one: Range, mine: tuple[int, ...]) -> bool:
    return same_branch(one.series or (leading(one.end) if one.end else None), mine)


def same_branch(bound: tuple[int, ...] | None, mine: tuple[int, ...]) -> bool:
    """Whether two versions differ in the last number of the first at most."""
    return bound is not None and len(bound) > 1 and mine[: len(bound) - 1] == bound[:-1]
