"""Compares versions by the rules of their scheme: semver, rpm, deb, maven, or the order that most makers mean. Pure.

rpm, deb and maven are compared by univers (github.com/aboutcode-org/univers), whose modules are imported when first needed. SemVer 2.0.0 is
compared here, since univers reads `1.2.3.4` as 1.2.3 with a build number, so that 1.2.3.4 and 1.2.3.5 would be the same. Capitals count for
nothing, against the letter of some schemes, since CPE names have none.
"""

from __future__ import annotations

import functools
from typing import Any

from processors.match import generic

MOST = 100  # characters of a version: what is longer is a sentence, or an attack on univers' recursion
SCHEMES = {
    "semver": "semver",
    "rpm": "rpm",
    "deb": "deb",
    "dpkg": "deb",
    "debian": "deb",
    "maven": "maven",
    "git": "git",
    "hg": "git",
    "svn": "git",
    "original_commit_for_fix": "git",
}
"""Names of schemes as CVE records have them (`versionType`). Of commits (`git`) nobody can say which came first without the repository."""
READERS = (ValueError, TypeError, AttributeError, IndexError, KeyError, RuntimeError)
"""What univers raises for what is no version of its scheme."""


def scheme_of(name: str) -> str:
    """The scheme that a record's `versionType` means; '' for custom, unknown and misspelt ones."""
    return SCHEMES.get(name.strip().lower(), "")


@functools.lru_cache(maxsize=1 << 15)
def compare(left: str, right: str, scheme: str = "") -> int | None:
    """-1, 0 or 1 as `left` is before, equal to or after `right` by a scheme of `scheme_of`; None for what can't be compared.

    Many records call versions semver that are none: if one of the two is none, both are compared as of no scheme.
    """
    if scheme == "git":
        return 0 if left == right and left else None
    if scheme == "semver":
        first, second = _semver(left), _semver(right)
        if first is not None and second is not None:
            if first[0] == second[0]:
                return 0 if first[1] == second[1] else None  # only what the build says differs, which has no order
            return -1 if first[0] < second[0] else 1
    if scheme in ("rpm", "deb", "maven"):
        return _by_univers(_read(left, scheme), _read(right, scheme))
    mine, other = parsed(left), parsed(right)
    return None if mine is None or other is None else generic.compare(mine, other)


def is_semver(text: str) -> bool:
    """Whether it can be compared by SemVer."""
    return _semver(text) is not None


@functools.lru_cache(maxsize=1 << 15)
def parsed(text: str) -> generic.Generic | None:
    """The version as of no scheme; None for what is none."""
    return generic.parse(text) if len(text) <= MOST and text.isascii() else None


Identifiers = tuple[tuple[int, int, str], ...]
Semver = tuple[tuple[tuple[int, ...], int, Identifiers], str]
"""What counts for the order (numbers, 0 for a pre-release, its identifiers), and the build."""


@functools.lru_cache(maxsize=1 << 15)
def _semver(text: str) -> Semver | None:
    """A version by SemVer 2.0.0, of which the last two numbers may be missing; None for what is none."""
    low = text.strip().lower()
    if len(low) > MOST or not low.isascii():
        return None
    low = low.removeprefix("v")
    plain, _, build = low.partition("+")
    core, dash, before = plain.partition("-")
    numbers = core.split(".")
    if len(numbers) > 3 or not all(one.isdigit() for one in numbers):
        return None
    identifiers = before.split(".") if dash else []
    if not all(one.replace("-", "a").isalnum() for one in identifiers):
        return None
    ranked = tuple((0, int(one), "") if one.isdigit() else (1, 0, one) for one in identifiers)
    core_numbers = tuple(int(one) for one in (*numbers, "0", "0")[:3])
    return (core_numbers, 0 if dash else 1, ranked), build


@functools.lru_cache(maxsize=1 << 14)
def _read(text: str, scheme: str) -> Any:
    """A version as univers has it; None for what is none of that scheme."""
    low = text.strip().lower()
    if not low or len(low) > MOST or not low.isascii() or not any(one.isdigit() for one in low):
        return None
    try:
        return _reader(scheme)(low)
    except READERS:
        return None


@functools.cache
def _reader(scheme: str) -> Any:
    if scheme == "rpm":
        from univers.rpm import RpmVersion

        return RpmVersion.from_string
    if scheme == "deb":
        from univers.debian import Version as DebianVersion

        return DebianVersion.from_string
    from univers.maven import Version as MavenVersion

    return MavenVersion


def _by_univers(left: Any, right: Any) -> int | None:
    if left is None or right is None:
        return None
    try:
        return -1 if left < right else 1 if right < left else 0
    except READERS:
        return None
