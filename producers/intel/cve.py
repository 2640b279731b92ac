"""CVE JSON 5.x: one record a CVE, of its CNA and of ADP containers, among them CISA's with SSVC.

Schema: https://cveproject.github.io/cve-schema/schema/docs/; SSVC as CISA Vulnrichment writes it: https://github.com/cisagov/vulnrichment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    product,
    required,
    score_of,
    shown,
    source,
    texts,
    title_of,
    version_range,
)

SCORES = {"cvssV4_0": "4.0", "cvssV3_1": "3.1", "cvssV3_0": "3.0", "cvssV2_0": "2.0"}
SSVC = {
    "Exploitation": ("ssvc_exploitation", ("none", "poc", "active")),
    "Automatable": ("ssvc_automatable", ("no", "yes")),
    "Technical Impact": ("ssvc_technical_impact", ("partial", "total")),
}
RESERVED = ("cna", "cve", "nvd", "kev", "epss")
STATUSES = ("affected", "unaffected", "unknown")


def read_cve(record: Mapping[str, Any], where: str = "the record", url: str = "") -> Fields | Rejected:
    """What a CVE record says. Raises FeedError where it is wrong."""
    if record.get("dataType") != "CVE_RECORD" or not part(record, "dataVersion", str, where).startswith("5."):
        raise FeedError(f"{where} is no CVE record of version 5")
    about = part(record, "cveMetadata", dict, where)
    name = cve_id(about.get("cveId"), f"{where}.cveMetadata.cveId")
    where = f"{where} ({name})"
    containers = part(record, "containers", dict, where)
    cna = part(containers, "cna", dict, where)
    as_of = _updated(about, cna, where)
    state = required(about, "state", f"{where}.cveMetadata")
    if state == "REJECTED":
        return Rejected(name, as_of)
    if state != "PUBLISHED":
        raise FeedError(f"{where}.cveMetadata.state is {shown(state)}, not PUBLISHED or REJECTED")
    found: Fields = {**EMPTY, "cve": name, "as_of": as_of}
    found["sources"] = [source("cve", as_of, url, _title(cna, where), moment_or_none(about, "datePublished", f"{where}.cveMetadata"))]
    found["affected"] = list(_affected(cna, f"{where}.cna", "cna"))
    found["scores"] = list(_scores(cna, f"{where}.cna", "cna"))
    for place, container in objects(containers, "adp", where):
        giver = _name_of(container, place)
        found["affected"] += _affected(container, place, giver)
        found["scores"] += _scores(container, place, giver)
        _take_ssvc(found, container, place, giver, as_of)
    return combined({"cve": found})


def _updated(about: Mapping[str, Any], cna: Mapping[str, Any], where: str) -> int:
    """When the record was changed last."""
    for holder, name in ((about, "dateUpdated"), (part(cna, "providerMetadata", dict, where), "dateUpdated"), (about, "datePublished")):
        if text := part(holder, name, str, where):
            return moment(text, f"{where}.{name}")
    raise FeedError(f"{where}.cveMetadata.dateUpdated is missing")


def _title(cna: Mapping[str, Any], where: str) -> str:
    """The title; of the many records that have none, how the description begins."""
    title = part(cna, "title", str, f"{where}.cna")
    for _, one in objects(cna, "descriptions", f"{where}.cna"):
        value = one.get("value")
        if not isinstance(value, str):
            raise FeedError(f"{where}.cna.descriptions: a value is not text")
        if not title and str(one.get("lang", "")).startswith("en"):
            title = value
    return title_of(title)


def _name_of(container: Mapping[str, Any], where: str) -> str:
    """What an ADP container calls itself; not a name that stands for another source."""
    name = part(part(container, "providerMetadata", dict, where), "shortName", str, where) or "ADP"
    return f"{name}-ADP" if name in RESERVED else name[:64]


def _affected(container: Mapping[str, Any], where: str, giver: str) -> Iterator[Fields]:
    for place, one in objects(container, "affected", where):
        yield product(
            part(one, "vendor", str, place),
            part(one, "product", str, place),
            giver,
            collection=part(one, "collectionURL", str, place),
            package=part(one, "packageName", str, place),
            cpes=texts(one, "cpes", place),
            platforms=texts(one, "platforms", place),
            default_status=_status(one, "defaultStatus", place),
            versions=[_version(version, spot) for spot, version in objects(one, "versions", place)],
        )
    yield from products_in(objects(container, "cpeApplicability", where), giver)


def _version(one: Mapping[str, Any], where: str) -> Fields:
    return version_range(
        part(one, "version", str, where),
        status=_status(one, "status", where),
        less_than=part(one, "lessThan", str, where),
        less_than_or_equal=part(one, "lessThanOrEqual", str, where),
        scheme=part(one, "versionType", str, where),
        changes=[
            {"at": required(change, "at", spot), "status": _status(change, "status", spot)}
            for spot, change in objects(one, "changes", where)
        ],
    )


def _status(holder: Mapping[str, Any], name: str, where: str) -> str:
    found = part(holder, name, str, where) or "unknown"
    if found not in STATUSES:
        raise FeedError(f"{where}.{name} is {shown(found)}, not {', '.join(STATUSES)}")
    return found


def _scores(container: Mapping[str, Any], where: str, giver: str) -> Iterator[Fields]:
    for place, metric in objects(container, "metrics", where):
        for name, version in SCORES.items():
            if metric.get(name) is not None:
                data = part(metric, name, dict, place)
                value = data.get("baseScore")
                yield score_of(giver, version, value, part(data, "vectorString", str, place), f"{place}.{name}.baseScore")


def _take_ssvc(found: Fields, container: Mapping[str, Any], where: str, giver: str, as_of: int) -> None:
    """CISA's decision points, with who decided and when. A word that CISA's SSVC does not have is unknown."""
    for place, metric in objects(container, "metrics", where):
        other = part(metric, "other", dict, place)
        if other.get("type") != "ssvc":
            continue
        content = part(other, "content", dict, place)
        for spot, option in objects(content, "options", place):
            for name, (field, words) in SSVC.items():
                word = part(option, name, str, spot).lower()
                if word in words:
                    found[field] = word
        decided = moment_or_none(content, "timestamp", place)
        found["sources"] = [one for one in found["sources"] if one["name"] != giver]
        found["sources"].append(source(giver, decided if decided is not None else as_of))
