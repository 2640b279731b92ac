"""Reads what stands as a version in words: `before 1.2`, `1.2.3 and earlier`, `>= 1.0, < 1.5`, `2.4.x`. Pure, and linear.

CVE records of version 4 had no ranges, so that CNAs wrote them into the version. Only forms that mean one thing are read; of `up to 1.2`
nobody can say whether 1.2 counts. Each form stands in `FORMS`, where `V` is a version.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from processors.match.versions import parsed

WORDS = re.compile(r"[<>=≤≥]+|[^\s<>=≤≥,]+|,")
NOISE = frozenset(("version", "versions", "ver", "release", "releases", "all", "the", "any", ",", "&&"))
OPERATORS = {"≤": "<=", "≥": ">=", "=<": "<=", "=>": ">=", "==": "="}
SILENT = frozenset(("", "n/a", "na", "unspecified", "unknown", "-", "--", "?", "none", "not specified", "see references", "tbd", "0"))
"""What says nothing of a version."""
WHOLE = frozenset(("*", "all", "all versions", "any", "all version"))
MOST_TEXT = 1024  # characters; some list dozens of versions
ENDS_AT = ("and", "or")
DOWN = ("prior", "earlier", "below", "older", "lower", "before", "previous")
UP = ("later", "above", "newer", "higher")


@dataclass(frozen=True, slots=True)
class Reading:
    """A form's meaning: places of its versions (0, 1) that start and end the range, None for open, and whether they belong to it."""

    start: int | None = None
    after: bool = False
    end: int | None = None
    included: bool = False


FORMS: dict[str, Reading] = {
    "= V": Reading(start=0, end=0, included=True),
    "< V": Reading(end=0),
    "<= V": Reading(end=0, included=True),
    "> V": Reading(start=0, after=True),
    ">= V": Reading(start=0),
    ">= V < V": Reading(start=0, end=1),
    ">= V <= V": Reading(start=0, end=1, included=True),
    "> V < V": Reading(start=0, after=True, end=1),
    "> V <= V": Reading(start=0, after=True, end=1, included=True),
    ">= V and < V": Reading(start=0, end=1),
    ">= V and <= V": Reading(start=0, end=1, included=True),
    "before V": Reading(end=0),
    "prior to V": Reading(end=0),
    "earlier than V": Reading(end=0),
    "older than V": Reading(end=0),
    "lower than V": Reading(end=0),
    "less than V": Reading(end=0),
    "below V": Reading(end=0),
    "up to and including V": Reading(end=0, included=True),
    "up to including V": Reading(end=0, included=True),
    "through V": Reading(end=0, included=True),
    "V through V": Reading(start=0, end=1, included=True),
    "from V through V": Reading(start=0, end=1, included=True),
    "V to V": Reading(start=0, end=1, included=True),
    "from V to V": Reading(start=0, end=1, included=True),
    "V - V": Reading(start=0, end=1, included=True),
    "V – V": Reading(start=0, end=1, included=True),
    "V before V": Reading(start=0, end=1),
    "from V before V": Reading(start=0, end=1),
    "from V prior to V": Reading(start=0, end=1),
    "V prior to V": Reading(start=0, end=1),
    "from V": Reading(start=0),
    **{f"V {joint} {word}": Reading(end=0, included=True) for joint in ENDS_AT for word in DOWN},
    **{f"V {joint} {word}": Reading(start=0) for joint in ENDS_AT for word in UP},
}


@dataclass(frozen=True, slots=True)
class Stretch:
    """A range read from words; '' is open. `start` is in it unless `after`; `end` is in it if `included`."""

    start: str = ""
    after: bool = False
    end: str = ""
    included: bool = False


def read(text: str, product: str = "") -> tuple[Stretch, ...] | None:
    """What a text says: ranges, several for a list of versions; None for what says nothing or can't be read in one way only.

    The product's name in front of a version is left out (`exim 4.95`).
    """
    plain = text.strip()
    if plain.lower() in WHOLE:
        return (Stretch(),)
    if plain.lower() in SILENT or len(plain) > MOST_TEXT:
        return None
    plain = _without(product, plain)
    if _from_to(plain):
        return None
    series = series_of(plain)
    if series:
        return (Stretch(start=series, end=f"{series}.*", included=True),)
    if _is_version(plain):
        return (Stretch(start=plain, end=plain, included=True),)
    words = [OPERATORS.get(word, word) for word in WORDS.findall(plain)]
    listed = [word for word in words if word != ","]
    if "," in words and all(map(_is_version, listed)):
        return tuple(Stretch(start=word, end=word, included=True) for word in listed)
    kept = [word for word in words if word.lower() not in NOISE]
    versions = [word for word in kept if _is_version(word)]
    reading = FORMS.get(" ".join("V" if _is_version(word) else word.lower() for word in kept))
    if reading is None:
        return _listed(plain, product)
    return (
        Stretch(
            "" if reading.start is None else versions[reading.start],
            reading.after,
            "" if reading.end is None else versions[reading.end],
            reading.included,
        ),
    )


def _listed(text: str, product: str) -> tuple[Stretch, ...] | None:
    """Ranges with commas between them (`6.0.0 to 6.0.4, 5.6.3 to 5.6.7`), each with both ends: of `6.0.2, 5.6.7 and before` who knows."""
    found = [one for part in text.split(",") for one in (read(part, product) or (Stretch(),))] if "," in text else []
    return tuple(found) if found and all(one.start and one.end for one in found) else None


def series_of(text: str) -> str:
    """`2.4` of `2.4.x`, `2.4.*` and `2.4*`: all versions that begin so. '' for what is no series."""
    low = text.strip()
    for sign in (".*", ".x", ".X", "*"):
        if low.endswith(sign):
            stem = low.removesuffix(sign)
            plain = stem.removeprefix("v").removesuffix(".x").removesuffix(".*")
            return plain if plain and all(one.isdigit() and one.isascii() for one in plain.split(".")) else ""
    return ""


def _from_to(text: str) -> bool:
    """Whether it is two versions with a dash between them (`5.0-5.3`), which may be a range, or a version with a package's number."""
    first, dash, last = text.partition("-")
    return bool(dash) and all("." in one and one.replace(".", "").isdigit() for one in (first, last))


def _without(product: str, text: str) -> str:
    """The text behind words of the product's name."""
    names = set(product.lower().replace(",", " ").split())
    words = text.split()
    while len(words) > 1 and words[0].lower() in names and not words[0][:1].isdigit():
        del words[0]
    return " ".join(words)


def _is_version(word: str) -> bool:
    found = parsed(word)
    if found is None:
        return False
    first = word.lower().removeprefix("v")[:1]
    return first.isdigit() or (len(found.parts) > 0 and not found.numbers and found.parts[0].number >= 0 and word[-1:].isdigit())
