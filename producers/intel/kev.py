"""KEV: CISA's catalogue of Known Exploited Vulnerabilities, as JSON (https://www.cisa.gov/known-exploited-vulnerabilities-catalog)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from producers.intel.statements import EMPTY, FeedError, Fields, cve_id, moment, part, product, required, source, title_of
from schemas.products import keys_of

MEMBERS = "vulnerabilities"


def read_kev(head: Mapping[str, Any], entries: Iterable[Mapping[str, Any]], url: str = "") -> Iterator[Fields]:
    """The statements of a catalogue: `head` are its members without the list of entries. Raises FeedError where it is wrong."""
    as_of = moment(required(head, "dateReleased", "the catalogue"), "dateReleased")
    count = head.get("count")
    found = 0
    for index, entry in enumerate(entries):
        found += 1
        yield _statement(entry, f"{MEMBERS}[{index}]", as_of, url)
    if isinstance(count, bool) or not isinstance(count, int) or count != found:
        raise FeedError(f"the catalogue names {count!r} entries and has {found}")


def withdrawn(cve: str, as_of: int, url: str = "") -> Fields:
    """What a catalogue says of a CVE that stood in an earlier one and no more in this."""
    return {**EMPTY, "cve": cve, "kev": False, "sources": [source("kev", as_of, url)], "as_of": as_of}


def _statement(entry: Mapping[str, Any], where: str, as_of: int, url: str) -> Fields:
    cve = cve_id(entry.get("cveID"), f"{where}.cveID")
    where = f"{where} ({cve})"
    due = part(entry, "dueDate", str, where)
    ransomware = part(entry, "knownRansomwareCampaignUse", str, where)
    vendor, name = required(entry, "vendorProject", where), required(entry, "product", where)
    title = title_of(part(entry, "vulnerabilityName", str, where))
    affected = [product(vendor.strip(), name.strip(), "kev")]
    return {
        **EMPTY,
        "cve": cve,
        "products": keys_of(affected),
        "title": title,
        "kev": True,
        "kev_added": moment(required(entry, "dateAdded", where), f"{where}.dateAdded"),
        "kev_due": moment(due, f"{where}.dueDate") if due else None,
        "kev_ransomware": True if ransomware == "Known" else None,  # the other word is "Unknown"
        "affected": affected,
        "sources": [source("kev", as_of, url, title)],
        "as_of": as_of,
    }
