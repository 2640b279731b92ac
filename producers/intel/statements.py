"""What one feed says of one CVE, as plain data with the fields of `IntelRecord`, and the checks that every feed's values pass.

A statement has the sources, products and scores of its feed alone; `producers/intel/joining.py` makes one record of several.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from schemas.codec import Codec
from schemas.events.base import FIRST, LAST
from schemas.events.intel import IntelRecord
from schemas.plain import Plain, milliseconds

Fields = dict[str, Any]
Kind = TypeVar("Kind")
CVE = re.compile(r"CVE-[0-9]{4}-[0-9]{4,19}")
MOST_TEXT, MOST_TITLE, MOST_ITEMS = 4096, 256, 20_000
"""Longest text of a feed that is taken, and of a title that is kept; most items of any list. The largest real ones are a tenth of it."""


class FeedError(ValueError):
    """The feed is not what it should be; the message says what is wrong and where."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A CVE that was withdrawn, and when (ms since 1970)."""

    cve: str
    as_of: int


EMPTY: Fields = {
    "cve": "",
    "as_of": 0,
    "kev": None,
    "epss": None,
    "products": [],
    "epss_percentile": None,
    "epss_model": "",
    "sources": [],
    "title": "",
    "cvss": None,
    "cvss_vector": "",
    "kev_added": None,
    "kev_due": None,
    "kev_ransomware": None,
    "ssvc_exploitation": "",
    "ssvc_automatable": "",
    "ssvc_technical_impact": "",
    "affected": [],
    "scores": [],
    "published": None,
    "updated": None,
}
"""A record that says nothing. Never changed: its lists are shared."""


def source(name: str, as_of: int, url: str = "", title: str = "", published: int | None = None) -> Fields:
    """An `IntelSource` as plain data."""
    return {"name": name, "as_of": as_of, "url": url, "title": title, "published": published}


def record_of(statement: Fields, codec: Codec) -> IntelRecord:
    """The statement as the event that would stand in `intel`. Raises FeedError for text that can't be written (a lone surrogate)."""
    try:
        event = codec.decode("intel", codec.encode("intel", Plain("IntelRecord", statement)))
    except (ValueError, TypeError, ArithmeticError) as error:
        raise FeedError(f"{statement['cve']} can't be written ({error})") from None
    assert isinstance(event, IntelRecord)  # noqa: S101  the topic holds nothing else
    return event


def product(vendor: str, name: str, source_name: str, **more: Any) -> Fields:
    """An `AffectedProduct` as plain data."""
    found = {"collection": "", "package": "", "cpes": [], "platforms": [], "default_status": "unknown", "versions": [], **more}
    return {"vendor": vendor, "product": name, "source": source_name, **found}


def version_range(version: str = "", **more: Any) -> Fields:
    """A `VersionRange` as plain data."""
    found = {"status": "affected", "after": False, "less_than": "", "less_than_or_equal": "", "scheme": "", "changes": [], **more}
    return {"version": version, **found}


def score_of(source_name: str, version: str, value: object, vector: str, where: str) -> Fields:
    """A `CvssScore` as plain data. Raises FeedError for a score that is no number from 0 to 10."""
    return {"source": source_name, "version": version, "score": number(value, 10.0, where), "vector": vector}


def cve_id(value: object, where: str) -> str:
    """A CVE's name. Raises FeedError for anything else."""
    if not isinstance(value, str) or not CVE.fullmatch(value):
        raise FeedError(f"{where} is no CVE's name: {shown(value)}")
    return value


def part(holder: Mapping[str, Any], name: str, kind: type[Kind], where: str) -> Kind:
    """A member that may be absent or null (then it is empty). Raises FeedError for one of another type, or too large."""
    value = holder.get(name)
    if value is None:
        return kind()
    if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
        raise FeedError(f"{where}.{name} is {shown(value)}, not {WORDS[kind]}")
    if isinstance(value, list | dict) and len(value) > MOST_ITEMS:
        raise FeedError(f"{where}.{name} has {len(value)} items, more than {MOST_ITEMS}")
    if isinstance(value, str) and len(value) > MOST_TEXT:
        raise FeedError(f"{where}.{name} has {len(value)} characters, more than {MOST_TEXT}")
    return value


WORDS: dict[type, str] = {str: "text", list: "a list", dict: "an object", bool: "true or false"}


def objects(holder: Mapping[str, Any], name: str, where: str) -> list[tuple[str, Fields]]:
    """A list of objects, each with where it stands. Raises FeedError if it is none."""
    found = []
    for index, one in enumerate(part(holder, name, list, where)):
        place = f"{where}.{name}[{index}]"
        if not isinstance(one, dict):
            raise FeedError(f"{place} is {shown(one)}, not an object")
        found.append((place, one))
    return found


def texts(holder: Mapping[str, Any], name: str, where: str) -> list[str]:
    """A list of texts. Raises FeedError if it is none."""
    values = part(holder, name, list, where)
    for index, one in enumerate(values):
        if not isinstance(one, str) or len(one) > MOST_TEXT:
            raise FeedError(f"{where}.{name}[{index}] is {shown(one)}, not a text of at most {MOST_TEXT} characters")
    return values


def required(holder: Mapping[str, Any], name: str, where: str) -> str:
    """A text that must be there."""
    found = part(holder, name, str, where)
    if not found:
        raise FeedError(f"{where}.{name} is missing")
    return found


def number(value: object, most: float, where: str) -> float:
    """A number from 0 to `most`. Raises FeedError for anything else: a truth value, NaN, what is too large."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value <= most:
        raise FeedError(f"{where} is {shown(value)}, not a number from 0 to {most:g}")
    return float(value)


def moment(text: str, where: str) -> int:
    """A time in ISO 8601, UTC where it names no zone, as milliseconds since 1970. Raises FeedError."""
    try:
        found = datetime.fromisoformat(text)
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise FeedError(f"{where} is no time: {shown(text)}") from None
    if not FIRST <= found < LAST:
        raise FeedError(f"{where} is not between {FIRST.year} and {LAST.year}: {shown(text)}")
    return milliseconds(found)


def moment_or_none(holder: Mapping[str, Any], name: str, where: str) -> int | None:
    """A time that may be absent."""
    text = part(holder, name, str, where)
    return moment(text, f"{where}.{name}") if text else None


def title_of(text: str) -> str:
    """A title as it is kept: one line, cut."""
    line = " ".join(text.split())
    return line if len(line) <= MOST_TITLE else f"{line[: MOST_TITLE - 1]}…"


def shown(value: object) -> str:
    """A value of a feed in a message: short."""
    text = repr(value) if not isinstance(value, dict | list) else f"a{'n object' if isinstance(value, dict) else ' list'}"
    return text if len(text) <= 60 else f"{text[:59]}…"
