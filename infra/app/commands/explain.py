"""`explain`: how the risk of a finding, or of a vulnerability at an assumed place, comes about, rule by rule."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import typer

from consumers.assess.ranking import rank_of
from infra.app.output import RANK_STYLES, escape, out, print_json, print_rows, tell
from infra.app.people import now, require_kafka
from infra.core.errors import BadInput
from infra.core.settings import Settings, load_settings
from infra.kafka.client import key_of, read_whole, value_of
from infra.kafka.registry import codec_for
from processors.correlate.catalogue import rules_of
from processors.correlate.contract import ServiceFacts
from processors.correlate.judging import judge
from processors.match.matching import Match
from processors.match.rulings import Verdict
from producers.intel.feeds import BY_NAME, statements
from producers.intel.statements import CVE, FeedError, Rejected, record_of
from schemas.codec import Codec, UndecodableError
from schemas.events.base import Event
from schemas.events.context import Criticality, InventoryRecord
from schemas.events.findings import Exposure, Finding, FiredRule
from schemas.events.intel import IntelRecord
from schemas.events.observations import ServiceObservation

app = typer.Typer()
ADDRESS = "192.0.2.1"
"""Stands for the assumed host (RFC 5737): only its zone counts."""
COLUMNS = ("rule", "input", "value", "source")
INTEL = typer.Option(
    None, "--intel", help="CVE JSON 5.x records: JSON lines (plain or gzip), a folder or a zip; without it the topic intel is read."
)
CRITICALITY = typer.Option(None, "--criticality", help="Of the assumed asset; without it the inventory is taken not to know it.")


@app.command("explain")
def explain(
    what: str = typer.Argument(metavar="FINDING|CVE", help="A finding's id or the first characters of it, or a CVE's name."),
    zone: str | None = typer.Option(None, "--zone", help="From where the assumed service is reachable; 'default' if not given."),
    criticality: Criticality | None = CRITICALITY,
    intel: Path | None = INTEL,
    as_json: bool = typer.Option(False, "--json", help="Print JSON on standard output."),
) -> None:
    """Say how a risk comes about: each rule with its input, its value and its source, the floor, the ceiling and the rank.

    For a CVE: at a service that is surely affected, in a zone and of a criticality that you may name.
    """
    settings = load_settings()
    if CVE.fullmatch(what.strip().upper()):
        _tell(_of_cve(settings, what.strip().upper(), zone or "default", criticality, intel), as_json)
        return
    if not re.fullmatch(r"[0-9a-f]{4,32}", what):
        raise BadInput(
            f"'{what}' is neither a CVE's name nor a finding's id.",
            "Write CVE-2021-41773, or at least 4 hexadecimal digits of an id from 'driftline findings list --all'.",
        )
    if zone is not None or criticality is not None or intel is not None:
        raise BadInput("--zone, --criticality and --intel are for a CVE: a finding has its own.", "Leave them out, or name a CVE.")
    _tell(_of_finding(settings, what), as_json)


def _of_finding(settings: Settings, start: str) -> dict[str, Any]:
    """From the topic, which holds each finding as it stands."""
    found = [one for one in latest(settings, "findings", lambda key: key.startswith(start)) if isinstance(one, Finding)]
    if len(found) != 1:
        raise BadInput(
            f"{'No' if not found else 'More than one'} finding has an id that begins with {start}.", "See 'driftline findings list --all'."
        )
    (finding,) = found
    rows = [_row(one) for one in finding.rules]
    word, review = finding.decision, finding.review
    if word is not None:
        effect = f"risk {word.risk:g}" if word.risk is not None else word.kind.value.replace("_", " ")
        rows.append({"rule": "decision", "input": word.reason, "value": effect, "source": word.decided_by})
    elif finding.risk != finding.base_risk:
        rows.append({"rule": "model", "input": review.explanation, "value": f"risk {finding.risk:g}", "source": review.model})
    about = {"finding_id": finding.finding_id, "title": finding.title, "zone": finding.zone, "criticality": finding.criticality}
    risks = {"base_risk": finding.base_risk, "floor": finding.floor, "ceiling": finding.ceiling, "risk": finding.risk}
    return {**about, "rules": rows, **risks, "rank": finding.rank.value}


def _of_cve(settings: Settings, cve: str, zone: str, criticality: Criticality | None, file: Path | None) -> dict[str, Any]:
    """At a service of which nothing is known but that it is affected."""
    record = in_file(file, cve) if file else next(iter(latest(settings, "intel", lambda key: key == cve)), None)
    if not isinstance(record, IntelRecord):
        raise BadInput(f"Nothing is known of {cve}.", "Bring it with 'driftline intel sync', or name a file of CVE records with --intel.")
    (one,) = exposures(settings, record, zone, criticality)
    said = [{"says": source.name, "as_of": source.as_of} for source in record.sources]
    about = {"cve": cve, "title": record.title, "zone": zone, "criticality": criticality.value if criticality else "", "sources": said}
    risks = {"base_risk": one.base_risk, "floor": one.floor, "ceiling": one.ceiling, "risk": one.base_risk}
    return {**about, "finding_rule": one.rule, "rules": [_row(step) for step in one.rules], **risks, "rank": rank_of(one.base_risk).value}


def exposures(settings: Settings, record: IntelRecord, zone: str, criticality: Criticality | None) -> Sequence[Exposure]:
    """What the rules say of a vulnerability at a service that is surely affected."""
    rules, tables = rules_of(settings.correlator.rules)
    owned = InventoryRecord(zone=zone, network=ADDRESS, criticality=criticality) if criticality else None
    match = Match(record, Verdict.AFFECTED, 1.0, "assumed to be affected", "", "")
    service = ServiceObservation(port=65535, service="any service")
    facts = ServiceFacts(zone, ADDRESS, service, now(), inventory=owned, matches=(match,), tables=tables)
    found = [one for one in judge(rules, facts, (), ()).values() if record.cve in one.cves]
    if len(found) != 1:
        raise BadInput("The rules on vulnerabilities are switched off.", "See DRIFTLINE_CORRELATOR__RULES.")
    return found


def in_file(path: Path, cve: str) -> IntelRecord | None:
    """A CVE's record in a file of them. Raises BadInput where the file is wrong."""
    codec = Codec()
    try:
        for one in statements(BY_NAME["cve"], path):
            if not isinstance(one, Rejected) and one["cve"] == cve:
                return record_of(one, codec)
    except (FeedError, OSError) as error:
        raise BadInput(f"{path} can't be read: {error}.", "Name a file with one CVE JSON 5 record a line, plain or gzip.") from None
    return None


def latest(settings: Settings, topic: str, wanted: Callable[[str], bool]) -> list[Event]:
    """The events as they stand under the keys that are wanted."""
    require_kafka(settings)
    values: dict[str, bytes] = {}

    def take(message: Any) -> None:
        key = key_of(message)
        if wanted(key):
            value = value_of(message)
            values.pop(key, None)
            if value is not None:
                values[key] = value

    read_whole(settings, topic, take)
    codec = codec_for(settings)
    try:
        return [codec.decode(topic, value) for value in values.values()]
    except UndecodableError as error:
        raise BadInput(f"A record of {topic} can't be read: {error}.", "Was it written by a later version?") from None


def _row(one: FiredRule) -> dict[str, str]:
    return {"rule": one.rule, "input": one.input, "value": one.effect, "source": one.source}


def _tell(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    name = found.get("cve") or found["finding_id"]
    rank = str(found["rank"])
    console = out()
    console.print(f"[{RANK_STYLES[rank]}] {rank} {found['risk']:.0f} [/] [bold]{escape(name)}[/] {escape(found['title'])}")
    print_rows("rules", COLUMNS, found["rules"], False, "No rule had a part in it.")
    console.print(
        f"base {found['base_risk']:g}, floor {found['floor']:g}, ceiling {found['ceiling']:g}, risk {found['risk']:g}, rank {rank}"
    )
    if "cve" in found:
        given = found["criticality"] or "unknown"
        tell(f"Assumed: a service that is surely affected, seen from zone {found['zone']}, criticality {given}.")
        said = [f"{one['says']} as of {one['as_of']:%Y-%m-%d}" for one in found["sources"]]
        tell(f"Known from {', '.join(said) or 'an unnamed source'}.")
