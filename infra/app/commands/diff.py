"""`driftline diff`: what differs between two scans, or between two moments of the state."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import typer

from infra.app.history import snapshot_at, with_looks
from infra.app.output import count, plain, print_json, print_rows, rows_out, tell
from infra.app.people import now
from infra.core.errors import BadInput
from infra.core.settings import load_settings
from producers.grants.wording import parse_past
from producers.imports.comparing import Comparison, Snapshot, compare
from producers.imports.opening import items
from producers.imports.snapshots import Stated, snapshot_of
from schemas.portset import parse_port_sets
from schemas.targeting import Span, parse_target

app = typer.Typer()
FORMS = ("text", "table", "json")
DIFFERENT = 1
MOST_UNSEEN = 100


@app.command()
def diff(
    files: list[Path] = typer.Argument(None, help="Files of nmap, masscan or naabu: what was, then what is."),  # noqa: B008
    at: list[str] = typer.Option(  # noqa: B008
        [], "--at", help="The state as it was then: 2026-11-01, '2d ago', now; one --at alone is compared with now."
    ),
    zone: str = typer.Option("default", "--zone", help="The zone, for --at."),
    form: str = typer.Option("table", "--format", help="table, text or json."),
    as_json: bool = typer.Option(False, "--json", help="The same as --format json."),
    targets: list[str] = typer.Option(  # noqa: B008
        [],
        "--targets",
        help="What was scanned, for files that don't say it (masscan's, naabu's): an address, network or range; with --ports.",
    ),
    ports: str = typer.Option(None, "--ports", help="Which ports of them: 22,80-90,U:53."),
    ignore: list[str] = typer.Option(  # noqa: B008
        [], "--ignore", help="Leave out: service, names, os, script, or one script as script:NAME; may be repeated."
    ),
    partial: bool = typer.Option(False, "--partial", help="Take what a scan that was interrupted wrote."),
) -> None:
    """Say what differs between two scans, or two moments. Exit code 0: nothing, 1: something, 2: bad input.

    What one of the two did not look at is not compared, and never called gone.
    """
    form = "json" if as_json else form
    if form not in FORMS:
        raise BadInput(f"There is no format '{form}'.", f"The formats are {', '.join(FORMS)}.")
    was, is_now = _sides(files or [], at, zone, partial, _stated(targets, ports))
    found = _without(compare(was, is_now), ignore)
    if form == "json":
        _print_json(was, is_now, found)
    elif form == "text":
        _print_text(was, is_now, found)
    else:
        rows = [{"host": one.host, "port": one.port, "what": one.what, "was": one.was, "is": one.now} for one in found.differences]
        print_rows("differences", ("host", "port", "what", "was", "is"), rows, False, "Nothing differs.")
        _print_unseen(found)
    if found.unseen and form != "json":
        whole = sum(not one.port for one in found.unseen)
        words = f"{count(whole, 'host')} and {count(len(found.unseen) - whole, 'port')}"
        tell(f"Not compared, since only one of the two looked there: {words} (--json lists all of them).")
    if found.differences:
        sys.exit(DIFFERENT)


def _sides(files: list[Path], at: list[str], zone: str, partial: bool, stated: Stated | None) -> tuple[Snapshot, Snapshot]:
    moment = now()
    moments = [*at, "now"] if len(at) == 1 and not files else at
    if len(files) + len(moments) != 2:
        raise BadInput("A diff needs two sides.", "Name two files, or two moments with --at, or one of each.")
    if moments and zone not in load_settings().zones:
        raise BadInput(f"There is no zone '{zone}'.", "See the setting 'zones'.")
    whens = [_moment(text, moment) for text in moments]
    sides: list[tuple[Snapshot, datetime | None]] = [(snapshot_of(str(file), items(file, "any", partial), stated), None) for file in files]
    sides += [(snapshot_at(when, zone), when) for when in whens]
    known = {address for one, _ in sides for address in one.hosts}
    was, is_now = (with_looks(one, when, zone, known) if when else one for one, when in sides)
    return was, is_now


def _stated(targets: list[str], ports: str | None) -> Stated | None:
    """What the user says was scanned. Raises BadInput."""
    if not targets and ports is None:
        return None
    if not targets or ports is None:
        raise BadInput("--targets and --ports go together.", "Say which addresses were scanned, and which ports of them.")
    try:
        spans = [parse_target(one) for one in targets]
        sets = parse_port_sets(ports)
    except ValueError as error:
        raise BadInput(str(error), "Write --targets 198.18.0.0/24 --ports 22,80-90.") from None
    named = [one.text for one in spans if not isinstance(one, Span)]
    if named:
        raise BadInput(f"'{named[0]}' is a name.", "Write addresses: what a name stood for then is not known.")
    return Stated(tuple(one for one in spans if isinstance(one, Span)), sets)


def _moment(text: str, moment: datetime) -> datetime:
    when = parse_past(text, moment)
    if when > moment:
        raise BadInput(f"'{text}' is in the future.", "Name a moment that is past.")
    return when


def _without(found: Comparison, ignore: list[str]) -> Comparison:
    """Without what the user does not want to see. Raises BadInput for what is no kind of difference."""
    for word in ignore:
        if word not in ("service", "names", "os", "script") and not word.startswith("script:"):
            raise BadInput(f"'{word}' can't be ignored.", "Leave out service, names, os, script or script:NAME.")
    gone = {word.replace(":", " ", 1) for word in ignore}
    kept = tuple(one for one in found.differences if one.what not in gone and not ("script" in gone and one.what.startswith("script ")))
    return Comparison(kept, found.unseen)


def _print_unseen(found: Comparison) -> None:
    """What was up or open where only one side looked: it may be new, or gone, or neither."""
    alive = [{"host": one.host, "port": one.port, "only": one.only, "state": one.state} for one in found.unseen if _alive(one.state)]
    if alive:
        title = "not compared, since only one of the two looked there"
        print_rows(title, ("host", "port", "only", "state"), alive[:MOST_UNSEEN], False, "")


def _alive(state: str) -> bool:
    return state.split(" ", 1)[0] in ("up", "open", "(open:")


def _print_json(was: Snapshot, is_now: Snapshot, found: Comparison) -> None:
    listed = [{"host": one.host, "port": one.port, "what": one.what, "was": one.was, "is": one.now} for one in found.differences]
    unseen: list[Mapping[str, str]] = [{"host": one.host, "port": one.port, "only": one.only, "state": one.state} for one in found.unseen]
    print_json({"was": was.label, "is": is_now.label, "equal": not listed, "differences": listed, "not_compared": unseen})


def _print_text(was: Snapshot, is_now: Snapshot, found: Comparison) -> None:
    """As `diff -u` does it: a place, then what was and what is."""
    if not found.differences:
        return
    lines, place = [f"--- {was.label}", f"+++ {is_now.label}"], ""
    for one in found.differences:
        here = " ".join(filter(None, (one.host, one.port)))
        if here != place:
            lines.append(f"@@ {here}")
            place = here
        lines += [f"-{one.what}: {line}" for line in one.was.splitlines()]
        lines += [f"+{one.what}: {line}" for line in one.now.splitlines()]
    console = rows_out()
    for line in lines:
        console.print(plain(line), markup=False, emoji=False, soft_wrap=True)
