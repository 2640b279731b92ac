"""Small made feeds for tests. The EPSS scores in them are made up."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from producers.intel.feeds import BY_NAME, statements
from producers.intel.statements import Fields, Rejected

SHARED = Path(__file__).parents[2] / "shared" / "data"
REAL_CVES, REAL_KEV = SHARED / "cve-sample.jsonl.gz", SHARED / "kev-2025-01.json.gz"
HTTPD = "CVE-2021-41773"
DAY = "2026-03-01"


def kev(cves: Sequence[str] = (HTTPD,), day: str = DAY, **over: Any) -> bytes:
    entries = [
        {
            "cveID": cve,
            "vendorProject": "Apache",
            "product": "HTTP Server",
            "vulnerabilityName": f"A flaw {cve}",
            "dateAdded": "2021-11-03",
            "dueDate": "2021-11-17",
            "knownRansomwareCampaignUse": "Known",
        }
        for cve in cves
    ]
    whole = {"title": "KEV", "dateReleased": f"{day}T12:00:00.1234Z", "count": len(entries), "vulnerabilities": entries, **over}
    return json.dumps(whole).encode()


def epss(scores: Mapping[str, float], day: str = DAY) -> bytes:
    rows = "".join(f"{cve},{score:.5f},{score / 2:.5f}\n" for cve, score in scores.items())
    return f"#model_version:made-up,score_date:{day}T00:00:00+0000\ncve,epss,percentile\n{rows}".encode()


def cve(name: str = HTTPD, day: str = DAY, *, state: str = "PUBLISHED", less_than: str = "2.4.51", **cna: Any) -> Fields:
    affected = {
        "vendor": "Apache Software Foundation",
        "product": "Apache HTTP Server",
        "defaultStatus": "unaffected",
        "versions": [{"status": "affected", "version": "2.4.49", "lessThan": less_than, "versionType": "semver"}],
    }
    score = {"cvssV3_1": {"baseScore": 7.5, "vectorString": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N"}}
    options = [{"Exploitation": "active"}, {"Automatable": "yes"}, {"Technical Impact": "total"}]
    ssvc = {"other": {"type": "ssvc", "content": {"options": options, "timestamp": f"{day}T08:00:00Z"}}}
    adp = {"providerMetadata": {"shortName": "CISA-ADP"}, "metrics": [ssvc]}
    return {
        "dataType": "CVE_RECORD",
        "dataVersion": "5.1",
        "cveMetadata": {"cveId": name, "state": state, "dateUpdated": f"{day}T09:00:00Z", "datePublished": "2021-10-05T00:00:00"},
        "containers": {"cna": {"title": "Path traversal", "affected": [affected], "metrics": [score], **cna}, "adp": [adp]},
    }


def nvd(*cves: Fields, **over: Any) -> bytes:
    head = {"resultsPerPage": len(cves), "startIndex": 0, "totalResults": len(cves), "format": "NVD_CVE", "version": "2.0"}
    return json.dumps({**head, **over, "vulnerabilities": [{"cve": one} for one in cves]}).encode()


def nvd_cve(name: str = HTTPD, configurations: Sequence[Fields] = (), day: str = DAY, status: str = "Analyzed") -> Fields:
    primary = {"type": "Primary", "cvssData": {"version": "3.1", "baseScore": 9.8, "vectorString": "CVSS:3.1/AV:N"}}
    return {
        "id": name,
        "published": "2021-10-05T09:15:00.000",
        "lastModified": f"{day}T10:00:00.000",
        "vulnStatus": status,
        "descriptions": [{"lang": "es", "value": "Un fallo"}, {"lang": "en", "value": "A flaw"}],
        "metrics": {"cvssMetricV31": [{**primary, "type": "Secondary"}, primary]},
        "configurations": list(configurations),
    }


def match(version: str = "*", vulnerable: bool = True, name: str = "a:apache:http_server", **bounds: str) -> Fields:
    return {"vulnerable": vulnerable, "criteria": f"cpe:2.3:{name}:{version}:*:*:*:*:*:*:*", **bounds}


def lines(*records: Fields) -> bytes:
    return "".join(f"{json.dumps(one)}\n" for one in records).encode()


def read(feed: str, content: bytes, folder: Path, packed: bool = False) -> list[Fields | Rejected]:
    """What a feed of this content says."""
    path = folder / f"{feed}.feed"
    path.write_bytes(gzip.compress(content) if packed else content)
    return list(statements(BY_NAME[feed], path))
