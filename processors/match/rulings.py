"""What a source says of a version, and what several sources come to: one verdict, how sure it is, and why. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from processors.match.ranges import Range, Stated, branch_doubt, latest
from schemas.events.intel import VersionStatus


class Verdict(StrEnum):
    """Whether a service has a vulnerability, as far as its evidence says."""

    AFFECTED = "affected"
    POSSIBLE = "possible"
    NOT_AFFECTED = "not affected"


ORDER = {verdict: place for place, verdict in enumerate(Verdict)}


class Word(StrEnum):
    """What one statement says of a version, from the clearest to the least clear."""

    AFFECTED = "affected"
    UNAFFECTED = "listed as unaffected"
    DEFAULT = "unaffected by default"
    OUTSIDE = "in no range"
    DOUBTED = "doubted"
    UNREADABLE = "unreadable"
    SILENT = "silent"


WORDS = tuple(Word)
RECORD = "the CVE record"
"""As who says what stands in the record itself, by the authority that gave the number (CNA)."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """One statement's word, whose it is, why, and how sure it is of itself."""

    word: Word
    source: str
    why: str
    confidence: float


def ruling(version: str, said: Stated, source: str) -> Ruling:
    """What one source's statement says of a version, '' for one that was not seen."""
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
    if said.ranges:
        return Ruling(Word.DOUBTED, source, f"{source} says nothing of {version}", 0.2)
    return Ruling(Word.SILENT, source, f"{source} names the product, and no version", 0.1)


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
    for one in sorted(rulings, key=lambda one: (-one.confidence, one.source != RECORD, one.source, one.why)):
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
    if not clear:
        return Verdict.POSSIBLE, round(by[Word.SILENT][0].confidence, 2), by[Word.SILENT][0].why
    return Verdict.NOT_AFFECTED, round(clear[0].confidence, 2), clear[0].why
