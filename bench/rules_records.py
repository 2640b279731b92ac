"""The dated files that `bench-rules` reads: CVE records with and without their ADP containers, KEV, a day of EPSS."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from producers.intel.cve import read_cve
from producers.intel.feeds import BY_NAME, statements
from producers.intel.json_stream import JsonStream
from producers.intel.opening import open_feed
from producers.intel.statements import Rejected
from schemas.events.intel import IntelRecord
from schemas.plain import EPOCH


@dataclass(frozen=True, slots=True)
class Case:
    """A CVE: what is left without its ADP containers, CISA's three values ('' where it gave none), and when it was published (ms)."""

    bare: IntelRecord
    cisa: tuple[str, str, str]
    published: int | None


def cases(path: Path) -> Iterator[Case]:
    """The CVE records of a file, JSON lines, folder or zip, plain or gzip."""
    feed = BY_NAME["cve"]
    for opened in open_feed(path, feed.files, feed.most):
        for line, record in JsonStream(opened.chunks).values():
            whole = read_cve(record, f"line {line}")
            bare = read_cve({**record, "containers": {"cna": record["containers"].get("cna", {})}}, f"line {line}")
            if not isinstance(whole, Rejected) and not isinstance(bare, Rejected):
                left = IntelRecord(cve=bare["cve"], cvss=bare["cvss"], cvss_vector=bare["cvss_vector"], as_of=EPOCH)
                points = (whole["ssvc_exploitation"], whole["ssvc_automatable"], whole["ssvc_technical_impact"])
                yield Case(left, points, bare["published"])


def listed(path: Path) -> dict[str, int]:
    """The CVEs of a KEV catalogue with the moment when each was added (ms)."""
    return {one["cve"]: one["kev_added"] for one in statements(BY_NAME["kev"], path) if not isinstance(one, Rejected)}


def scored(found: Sequence[Case], path: Path) -> list[Case]:
    """The cases with the scores of a day of EPSS."""
    wanted = {one.bare.cve for one in found}
    days = (one for one in statements(BY_NAME["epss"], path) if not isinstance(one, Rejected) and one["cve"] in wanted)
    scores = {one["cve"]: {"epss": one["epss"], "epss_percentile": one["epss_percentile"]} for one in days}
    return [Case(one.bare.model_copy(update=scores.get(one.bare.cve, {})), one.cisa, one.published) for one in found]
