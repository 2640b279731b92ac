"""One record a CVE from what several feeds say of it. Pure; the order of the statements does not matter.

Of one feed the later statement counts, whole. What several feeds say is chosen in a fixed order: titles and dates of the CVE record
before NVD's and KEV's; of CVSS scores version 3.1 before 3.0, 4.0 and 2.0 (thresholds such as 7.0 were set for version 3), the CNA's
before an ADP container's and NVD's. All of them stay in `scores` and `sources`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from producers.intel.statements import EMPTY, Fields
from schemas.products import keys_of

FEEDS = ("cve", "nvd", "kev", "epss")
"""The feeds, in the order in which they are asked."""
OWN: dict[str, tuple[str, ...]] = {
    "cve": ("ssvc_exploitation", "ssvc_automatable", "ssvc_technical_impact"),
    "nvd": (),
    "kev": ("kev", "kev_added", "kev_due", "kev_ransomware"),
    "epss": ("epss", "epss_percentile", "epss_model"),
}
"""Fields that only this feed fills in."""
SHARED = ("affected", "scores", "sources")
CVSS_VERSIONS = ("3.1", "3.0", "4.0", "2.0")


def feed_of(name: str) -> str:
    """The feed that a source belongs to: `cna` and every ADP container stand in the CVE record."""
    return name if name in ("nvd", "kev", "epss") else "cve"


def feeds_in(record: Mapping[str, Any]) -> set[str]:
    """The feeds that had a part in a record."""
    return {feed_of(one["name"]) for one in record["sources"]}


def split(record: Mapping[str, Any]) -> dict[str, Fields]:
    """What each feed said, from a record: `join` of it is the record again."""
    found: dict[str, Fields] = {}
    for feed in feeds_in(record):
        one: Fields = {**EMPTY, "cve": record["cve"], **{name: record[name] for name in OWN[feed]}}
        one["affected"] = [item for item in record["affected"] if feed_of(item["source"]) == feed]
        one["scores"] = [item for item in record["scores"] if feed_of(item["source"]) == feed]
        one["sources"] = [item for item in record["sources"] if feed_of(item["name"]) == feed]
        found[feed] = _chosen(one)
    return found


def join(statements: Iterable[Mapping[str, Any]]) -> Fields:
    """One record of all statements on one CVE, each of one feed or of several. Raises ValueError without any."""
    latest: dict[str, Mapping[str, Any]] = {}
    for statement in statements:
        parts: Mapping[str, Mapping[str, Any]] = split(statement)
        for feed, one in parts.items():
            held = latest.get(feed)
            if held is None or held["as_of"] < one["as_of"] or (held["as_of"] == one["as_of"] and _text(held) < _text(one)):
                latest[feed] = one
    return combined(latest)


def combined(parts: Mapping[str, Mapping[str, Any]]) -> Fields:
    """One record of one statement a feed (`split` and back). Raises ValueError without any."""
    if not parts:
        raise ValueError("no feed says anything")
    found: Fields = dict(EMPTY)
    for name in SHARED:
        found[name] = [one for feed in FEEDS if feed in parts for one in parts[feed][name]]
    for feed in FEEDS:
        if feed in parts:
            found["cve"] = parts[feed]["cve"]
            found.update({name: parts[feed][name] for name in OWN[feed]})
    return _chosen(found)


def says_the_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two records differ in nothing but the dates as of which it was said, and where that was read."""
    return _undated(one) == _undated(other)


def nothing_left(record: Mapping[str, Any]) -> bool:
    """Whether all that is known is that the CVE left the catalogue of exploited vulnerabilities."""
    return feeds_in(record) <= {"kev"} and record["kev"] is not True


def _chosen(record: Fields) -> Fields:
    """The same with what follows from its sources, products and scores."""
    sources = record["sources"]
    record["products"] = keys_of(record["affected"])
    record["title"] = next((one["title"] for one in sources if one["title"]), "")
    record["published"] = next((one["published"] for one in sources if one["published"] is not None), None)
    record["updated"] = max((one["as_of"] for one in sources if one["name"] in ("cve", "nvd")), default=None)
    record["as_of"] = max(one["as_of"] for one in sources)
    best = min(record["scores"], key=_preference, default=None)
    record["cvss"], record["cvss_vector"] = (best["score"], best["vector"]) if best else (None, "")
    return record


def _preference(score: Mapping[str, Any]) -> tuple[int, int, str, float, str]:
    """What stands first counts: by version, then by who gave it, then the higher score."""
    version = CVSS_VERSIONS.index(score["version"]) if score["version"] in CVSS_VERSIONS else len(CVSS_VERSIONS)
    giver = 0 if score["source"] == "cna" else 2 if score["source"] == "nvd" else 1
    return version, giver, score["source"], -score["score"], score["vector"]


def _undated(record: Mapping[str, Any]) -> Fields:
    sources = [{**one, "as_of": 0, "url": ""} for one in record["sources"]]
    return {**record, "sources": sources, "as_of": 0, "updated": None}


def _text(record: Mapping[str, Any]) -> str:
    return json.dumps(record, sort_keys=True)
