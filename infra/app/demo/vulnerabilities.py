"""What the demo knows of vulnerabilities, and which of them a match by version alone would report wrongly.

`intel` holds a few public facts, written for the demo in the form of the feeds; 'driftline intel sync' brings all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from infra.app.people import now, read_table
from infra.core.errors import DriftlineError
from infra.core.settings import Settings
from infra.kafka.registry import codec_for
from processors.match.evidence import seen_in
from processors.match.matching import known, match
from processors.match.rulings import Verdict
from producers.intel.sources import named
from producers.intel.syncing import sync
from schemas.events.assets import AssetState, ServiceStatus
from schemas.events.base import Event
from schemas.events.intel import IntelRecord

FACTS = Path(__file__).parent / "intel"


def bring_facts(settings: Settings) -> None:
    """Write the demo's facts to `intel`. Raises DriftlineError."""
    sources = named({"kev": [str(FACTS / "kev.json")], "cve": [str(FACTS / "cve.jsonl")]})
    for outcome in sync(settings, codec_for(settings), sources, now()):
        if outcome.problem:
            raise DriftlineError(f"The demo's {outcome.source.feed} could not be taken in: {outcome.problem}.", "Install Driftline anew.")


def only_by_version(settings: Settings) -> list[dict[str, Any]]:
    """What stands in no finding, though the upstream version lies in the range: a row each, the worst first."""
    rows = by_version_only(read_table(settings, "assets"), read_table(settings, "intel"))
    return sorted(rows, key=lambda row: (-row["cvss"], row["cve"], row["place"]))


def by_version_only(assets: Mapping[str, Event], intel: Mapping[str, Event]) -> Iterator[dict[str, Any]]:
    """The rows for open services, given the tables `assets` and `intel`."""
    records = [known(one) for one in intel.values() if isinstance(one, IntelRecord)]
    hosts = [one for one in assets.values() if isinstance(one, AssetState)]
    for host, service in [(one, each) for one in hosts for each in one.services]:
        if service.seen is None or service.status is ServiceStatus.CLOSED:
            continue
        seen = seen_in(service.seen)
        naive = replace(seen, builder="", package=None)
        for record in records:
            ours, theirs = match(seen, record), match(naive, record)
            if theirs and theirs.verdict is Verdict.AFFECTED and ours and ours.verdict is Verdict.NOT_AFFECTED:
                yield {
                    "cve": record.record.cve,
                    "cvss": record.record.cvss or 0.0,
                    "place": f"{host.address}:{service.transport}/{service.port}",
                    "by_version_alone": theirs.reason,
                    "not_reported_because": ours.reason,
                }
