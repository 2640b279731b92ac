"""`driftline intel`: what public feeds say of vulnerabilities."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import typer

from infra.app.output import count, print_json, print_rows, progress, tell
from infra.app.people import now, publisher, require_kafka
from infra.core.errors import BadInput
from infra.core.settings import Settings, load_settings
from infra.kafka.client import key_of, read_whole, value_of
from infra.kafka.registry import codec_for
from producers.auditing import audit, local_actor
from producers.intel.joining import FEEDS
from producers.intel.notes import load_notes
from producers.intel.sources import configured, named
from producers.intel.statements import CVE
from producers.intel.syncing import Manner, Outcome, sync
from schemas.codec import Codec, UndecodableError
from schemas.events.intel import AffectedProduct, IntelRecord, IntelSource, VersionRange

app = typer.Typer(help="Vulnerability intelligence: fetch feeds, show what is known.", no_args_is_help=True)
JSON = typer.Option(False, "--json", help="Print JSON on standard output.")
FACTS = (
    ("title", "title"),
    ("known exploited", "kev"),
    ("added to KEV", "kev_added"),
    ("due", "kev_due"),
    ("used by ransomware", "kev_ransomware"),
    ("EPSS", "epss"),
    ("EPSS percentile", "epss_percentile"),
    ("exploitation (SSVC)", "ssvc_exploitation"),
    ("automatable (SSVC)", "ssvc_automatable"),
    ("technical impact (SSVC)", "ssvc_technical_impact"),
    ("published", "published"),
)
DAYS = ("kev_added", "kev_due")
ALWAYS = ("kev", "epss", "ssvc_exploitation")


@app.command("sync")
def sync_feeds(
    kev: list[str] = typer.Option([], "--kev", help="CISA's KEV, JSON: a URL or a file. These options may be repeated."),  # noqa: B008
    epss: list[str] = typer.Option([], "--epss", help="EPSS, the daily CSV: a URL or a file."),  # noqa: B008
    cve: list[str] = typer.Option([], "--cve", help="CVE JSON 5.x: a URL, a file, JSON lines, a folder or a zip."),  # noqa: B008
    nvd: list[str] = typer.Option([], "--nvd", help="NVD 2.0 JSON: a URL, a file, a folder or a zip."),  # noqa: B008
    shrunk: bool = typer.Option(False, "--shrunk", help="Take a KEV or EPSS that lost more than a fifth of what is known."),
    anew: bool = typer.Option(False, "--anew", help="Fetch also what has not changed since it was fetched last."),
    as_json: bool = JSON,
) -> None:
    """Bring the topic 'intel' up to what feeds say. Given no feed: those that the setting intel.feeds switches on.

    Only what changed is written. A feed that is cut, hostile or wrong anywhere changes nothing: exit code 2, after the others are done.
    """
    settings = load_settings()
    sources = named({"kev": kev, "epss": epss, "cve": cve, "nvd": nvd}) or configured(settings)
    if not sources:
        raise BadInput(
            "No feed is named, and none is switched on.", "Name one, e.g. --kev FILE, or switch some on with DRIFTLINE_INTEL__FEEDS."
        )
    require_kafka(settings)
    with progress() as display:
        tasks: dict[str, Any] = {}

        def told(feed: str, doing: str, done: int, total: int | None) -> None:
            name = f"{feed}: {doing}"
            if name not in tasks:
                tasks[name] = display.add_task(name, total=total)
            display.update(tasks[name], completed=done, total=total)

        outcomes = sync(settings, codec_for(settings), sources, now(), Manner(shrunk, anew), told)
    _audit(outcomes)
    if as_json:
        print_json([_plain(one) for one in outcomes])
    else:
        for one in outcomes:
            tell(_said(one))
    if any(one.problem for one in outcomes):
        sys.exit(BadInput.exit_code)


@app.command("show")
def show(
    cves: list[str] = typer.Argument(help="Names of CVEs, e.g. CVE-2021-41773."),  # noqa: B008
    as_json: bool = JSON,
) -> None:
    """All that is known of vulnerabilities, with who says so and as of when. Exit code 2 if nothing is known of one."""
    wanted = list(dict.fromkeys(one.strip().upper() for one in cves))
    if wrong := [one for one in wanted if not CVE.fullmatch(one)]:
        raise BadInput(f"{', '.join(repr(one) for one in wrong)} is no CVE's name.", "Write it as CVE-2021-41773.")
    settings = load_settings()
    require_kafka(settings)
    values: dict[str, bytes] = {}
    codec, names = codec_for(settings), frozenset(wanted)

    def take(message: Any) -> None:
        if (key := key_of(message)) in names:
            value = value_of(message)
            values.pop(key, None)
            if value is not None:
                values[key] = value

    read_whole(settings, "intel", take)
    records = [record for one in wanted if (record := _decoded(codec, one, values.get(one))) is not None]
    if as_json:
        print_json([one.model_dump(mode="json") for one in records])
    else:
        for one in records:
            _print(one)
        _tell_synced(settings)
    unknown = [one for one in wanted if one not in {record.cve for record in records}]
    if unknown:
        them = "it" if len(unknown) == 1 else "them"
        tell(f"Nothing is known of {', '.join(unknown)}: no feed that was synced names {them}. 'driftline intel sync' brings more.")
        sys.exit(BadInput.exit_code)


def _decoded(codec: Codec, cve: str, value: bytes | None) -> IntelRecord | None:
    if value is None:
        return None
    try:
        record = codec.decode("intel", value)
    except UndecodableError as error:
        tell(f"The record of {cve} can't be read: {error}.")
        return None
    return record if isinstance(record, IntelRecord) else None


def _print(record: IntelRecord) -> None:
    """A record as tables: what is said, by whom and as of when; the products."""
    print_rows(record.cve, ("what", "is", "says", "as_of"), [*_facts(record), *_scores(record)], False, "")
    products = [
        {"vendor": one.vendor, "product": one.product or one.package, "versions": _versions(one), "says": one.source}
        for one in record.affected
    ]
    print_rows(f"{record.cve}: products", ("vendor", "product", "versions", "says"), products, False, "No feed names a product.")
    places = [f"{one.name}: {one.url}" for one in record.sources if one.url]
    if places:
        tell(f"Read from {', '.join(places)}.")


def _facts(record: IntelRecord) -> list[dict[str, Any]]:
    """What is known, and that the most important is unknown."""
    rows: list[dict[str, Any]] = []
    for label, name in FACTS:
        value = getattr(record, name)
        if value in (None, ""):
            if name in ALWAYS:
                rows.append({"what": label, "is": "unknown"})
            continue
        giver = _giver(record, name)
        said = "yes" if value is True else "no" if value is False else value.date() if name in DAYS else value
        rows.append({"what": label, "is": said, "says": giver.name if giver else "", "as_of": giver.as_of if giver else None})
    return rows


def _giver(record: IntelRecord, name: str) -> IntelSource | None:
    """The source of a field."""
    if name in ("title", "published"):
        return next((one for one in record.sources if getattr(one, name) == getattr(record, name)), None)
    feed = name.partition("_")[0]
    return next((one for one in record.sources if one.name == feed or (feed == "ssvc" and one.name not in FEEDS)), None)


def _scores(record: IntelRecord) -> list[dict[str, Any]]:
    dates = {one.name: one.as_of for one in record.sources}
    return [
        {
            "what": f"CVSS {one.version}",
            "is": f"{one.score} {one.vector}".strip(),
            "says": one.source,
            "as_of": dates.get("nvd" if one.source == "nvd" else "cve"),
        }
        for one in record.scores
    ]


def _tell_synced(settings: Settings) -> None:
    """As of when each feed was that this machine synced: a source's date is only since when it says so."""
    latest: dict[str, datetime] = {}
    for note in load_notes(settings.data_dir).values():
        latest[note.feed] = max(note.as_of, latest.get(note.feed, note.as_of))
    if latest:
        tell(f"This machine synced {', '.join(f'{feed} as of {at:%Y-%m-%d}' for feed, at in sorted(latest.items()))}.")


def _versions(one: AffectedProduct) -> str:
    """The ranges in words."""
    if not one.versions:
        return {"affected": "all", "unaffected": "none", "unknown": "unknown"}[one.default_status]
    words = [_range(span) for span in one.versions]
    more = f" and {len(words) - 20} more" if len(words) > 20 else ""
    return "; ".join(words[:20]) + more


def _range(span: VersionRange) -> str:
    end = f"< {span.less_than}" if span.less_than else f"≤ {span.less_than_or_equal}" if span.less_than_or_equal else ""
    start = f"{'>' if span.after else '≥' if end else ''} {span.version}".strip() if span.version not in ("", "0", "*") else ""
    turns = "".join(f", from {change.at} {change.status.value}" for change in span.changes)
    text = " ".join(part for part in (start, end) if part) or "all"
    return f"{text}{turns}{'' if span.status == 'affected' else f' ({span.status.value})'}"


def _said(one: Outcome) -> str:
    name = f"{one.source.feed} ({one.source.place})"
    if one.problem:
        return f"{name}: nothing was changed: {one.problem}."
    if one.note:
        return f"{name}: {one.note}."
    day = f" as of {one.as_of:%Y-%m-%d %H:%M}" if one.as_of else ""
    return f"{name}{day}: {count(one.statements, 'CVE')} read, {one.written} written, {one.withdrawn} withdrawn."


def _plain(one: Outcome) -> dict[str, Any]:
    return {
        "feed": one.source.feed,
        "place": one.source.place,
        "as_of": one.as_of,
        "read": one.statements,
        "written": one.written,
        "withdrawn": one.withdrawn,
        "problem": one.problem,
        "note": one.note,
    }


def _audit(outcomes: Sequence[Outcome]) -> None:
    """Who changed what is known of vulnerabilities."""
    done = [one for one in outcomes if one.written or one.withdrawn]
    if not done:
        return
    actor = local_actor()
    with publisher(load_settings()) as outlet:
        for one in done:
            detail = f"{one.written} written, {one.withdrawn} withdrawn, from {one.source.address or one.source.place}"
            outlet.publish("audit", actor.name, audit(actor, "intel.sync", one.source.feed, detail, now()))
