"""CVE records from a file of CVE JSON 5.x, one a line, as `match --intel` takes them. The feeds have their own, stricter reader."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from infra.core.errors import BadInput
from schemas.events.intel import AffectedProduct, IntelRecord, VersionChange, VersionRange

MOST_LINE = 16 << 20  # bytes


def read_file(path: Path) -> Iterator[IntelRecord]:
    """The records of a file, plain or gzip. Raises BadInput where it can't be read, with the line."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            yield from _lines(gzip.GzipFile(fileobj=file) if packed else file, path)
    except (OSError, EOFError) as error:
        raise BadInput(f"{path} can't be read: {error}.", "Name a file with one CVE JSON 5 record a line, plain or gzip.") from None


def _lines(file: IO[bytes] | gzip.GzipFile, path: Path) -> Iterator[IntelRecord]:
    number = 0
    while line := file.readline(MOST_LINE + 1):
        number += 1
        if not line.strip():
            continue
        try:
            if len(line) > MOST_LINE:
                raise ValueError("it is too long")
            yield read_cve(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BadInput(f"Line {number} of {path} is no CVE record: {error}.", "It takes CVE JSON 5.x, one record a line.") from None


def read_cve(record: dict[str, Any]) -> IntelRecord:
    """What a CVE record says of affected versions, and its CVSS and SSVC. Raises KeyError, ValueError or TypeError for what is none."""
    containers = record["containers"]
    whole = [(containers["cna"], "cna"), *((one, one["providerMetadata"].get("shortName", "adp")) for one in containers.get("adp", ()))]
    scores = [one[kind]["baseScore"] for part, _ in whole for one in part.get("metrics", ()) for kind in one if kind.startswith("cvss")]
    ssvc: dict[str, str] = {}
    for part, _ in whole:
        for one in part.get("metrics", ()):
            if one.get("other", {}).get("type") == "ssvc":
                ssvc |= {name: value for point in one["other"]["content"]["options"] for name, value in point.items()}
    return IntelRecord(
        cve=record["cveMetadata"]["cveId"],
        title=containers["cna"].get("title", ""),
        cvss=scores[0] if scores else None,
        ssvc_exploitation=ssvc.get("Exploitation", ""),
        ssvc_automatable=ssvc.get("Automatable", ""),
        ssvc_technical_impact=ssvc.get("Technical Impact", ""),
        kev=True if any(one.get("other", {}).get("type") == "kev" for part, _ in whole for one in part.get("metrics", ())) else None,
        affected=tuple(_product(one, source) for part, source in whole for one in part.get("affected", ())),
        as_of=_moment(record["cveMetadata"].get("dateUpdated") or record["cveMetadata"].get("datePublished")),
    )


def _product(one: dict[str, Any], source: str) -> AffectedProduct:
    return AffectedProduct(
        vendor=one.get("vendor", ""),
        product=one.get("product", ""),
        source=source,
        collection=one.get("collectionURL", ""),
        package=one.get("packageName", ""),
        cpes=tuple(one.get("cpes", ())),
        platforms=tuple(one.get("platforms", ())),
        default_status=one.get("defaultStatus", "unknown"),
        versions=tuple(_range(span) for span in one.get("versions", ())),
    )


def _range(one: dict[str, Any]) -> VersionRange:
    return VersionRange(
        status=one["status"],
        version=one["version"],
        less_than=one.get("lessThan", ""),
        less_than_or_equal=one.get("lessThanOrEqual", ""),
        scheme=one.get("versionType", ""),
        changes=tuple(VersionChange(at=change["at"], status=change["status"]) for change in one.get("changes", ())),
    )


def _moment(text: str | None) -> datetime:
    found = datetime.fromisoformat(text) if text else datetime.fromtimestamp(0, UTC)
    return found if found.tzinfo else found.replace(tzinfo=UTC)
