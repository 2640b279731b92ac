"""NVD 2.0: the answers of NVD's CVE API and its data feeds (https://nvd.nist.gov/developers/vulnerabilities, https://nvd.nist.gov/vuln/data-feeds)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from producers.intel.configurations import products_in
from producers.intel.joining import combined
from producers.intel.statements import (
    EMPTY,
    FeedError,
    Fields,
    Rejected,
    cve_id,
    moment,
    moment_or_none,
    objects,
    part,
    required,
    score_of,
    source,
    title_of,
)

MEMBERS = "vulnerabilities"
METRICS = {"cvssMetricV40": "4.0", "cvssMetricV31": "3.1", "cvssMetricV30": "3.0", "cvssMetricV2": "2.0"}


def read_nvd(head: Mapping[str, Any], entries: Iterable[Mapping[str, Any]], url: str = "") -> Iterator[Fields | Rejected]:
    """The statements of one answer or feed: `head` are its members without the list of entries, all there when the list is at its end.

    Raises FeedError where it is wrong, which may be at the end.
    """
    found = 0
    for index, entry in enumerate(entries):
        found += 1
        yield statement_of(part(entry, "cve", dict, f"{MEMBERS}[{index}]"), f"{MEMBERS}[{index}].cve", url)
    if head.get("format") != "NVD_CVE" or not part(head, "version", str, "the feed").startswith("2."):
        raise FeedError("the feed does not say that its format is NVD_CVE 2.0")
    per_page, total = head.get("resultsPerPage"), head.get("totalResults")
    if not isinstance(per_page, int) or not isinstance(total, int) or found != per_page:
        raise FeedError(f"the feed says that it has {per_page!r} of {total!r} entries and has {found}")


def statement_of(cve: Mapping[str, Any], where: str, url: str = "") -> Fields | Rejected:
    """What NVD says of one CVE."""
    name = cve_id(cve.get("id"), f"{where}.id")
    where = f"{where} ({name})"
    as_of = moment(required(cve, "lastModified", where), f"{where}.lastModified")
    if part(cve, "vulnStatus", str, where) == "Rejected":
        return Rejected(name, as_of)
    said = [one for _, one in objects(cve, "descriptions", where) if one.get("lang") == "en"]
    title = title_of(_description(said[0], where)) if said else ""
    published = moment_or_none(cve, "published", where)
    own = {
        **EMPTY,
        "cve": name,
        "affected": products_in(objects(cve, "configurations", where), "nvd"),
        "scores": list(_scores(part(cve, "metrics", dict, where), f"{where}.metrics")),
        "sources": [source("nvd", as_of, url, title, published)],
        "as_of": as_of,
    }
    return combined({"nvd": own})


def _description(one: Mapping[str, Any], where: str) -> str:
    value = one.get("value")
    if not isinstance(value, str):
        raise FeedError(f"{where}.descriptions: a value is not text")
    return value


def _scores(metrics: Mapping[str, Any], where: str) -> Iterator[Fields]:
    """One score a version: NVD's own (Primary) before those that it repeats."""
    for name, version in METRICS.items():
        given = []
        for place, one in objects(metrics, name, where):
            data = part(one, "cvssData", dict, place)
            vector = part(data, "vectorString", str, place)
            given.append((one.get("type") != "Primary", score_of("nvd", version, data.get("baseScore"), vector, f"{place}.baseScore")))
        if given:
            yield min(given, key=lambda one: (one[0], -one[1]["score"]))[1]
