"""`match`: which CVEs a service has by its version, which it may have, and why; from `intel`, or from a file of CVE records."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Set
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import typer
from pydantic import BaseModel, ConfigDict, Field

from infra.app.lines import each, opened
from infra.app.output import count, print_rows, progress, tell, to_json
from infra.core.errors import BadInput
from infra.core.settings import load_settings
from processors.match.evidence import Seen, builder_in, seen
from processors.match.matcher import Matcher
from processors.match.matching import Match, keys_of
from processors.match.rulings import ORDER, Verdict
from schemas.codec import Codec
from schemas.events.base import Event
from schemas.events.intel import IntelRecord

app = typer.Typer()
MOST_SHOWN = 1000
COLUMNS = ("line", "cve", "verdict", "confidence", "reason", "confirm")
INTEL = typer.Option(
    None, "--intel", help="CVE JSON 5.x records: JSON lines (plain or gzip), a folder or a zip; without it the topic intel is read."
)


class Evidence(BaseModel):
    """One line of input: what `identify` writes or reads, or CPE names. Other fields come back with each answer."""

    model_config = ConfigDict(extra="allow")

    cpe23: str | None = None
    cpe: str | None = None
    cpes: tuple[str, ...] = Field((), max_length=64)
    version: str | None = None
    extra: str | None = None
    distribution: str | None = None
    revision: str | None = None
    banner: str | None = None
    banner_b64: str | None = None

    def seen(self) -> Seen:
        """What it shows. Raises ValueError for a line without a CPE name and without a banner."""
        names = tuple(one for one in (self.cpe23, self.cpe, *self.cpes) if one)
        builder = self.distribution or builder_in(f"{self.version or ''} {self.extra or ''} {self.banner or ''}")
        return seen(names, self.version or "", builder, self.revision or "", f"{self.extra or ''} {' '.join(names)}")


@app.command()
def match(
    file: str = typer.Argument("-", help="Evidence or CPE names as JSON lines; - is standard input."),
    intel: Path = INTEL,
    everything: bool = typer.Option(False, "--all", help="Write what is not affected too, with the reason."),
    cve: str = typer.Option("", "--cve", help="Only this CVE, whatever the verdict."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON lines on standard output."),
) -> None:
    """Say which CVEs a version is affected by, which it may be, how sure that is, and why.

    A line is what identify writes ({"cpe23": …, "distribution": …, "revision": …}), what it reads ({"banner_b64": …}), or a CPE name.
    """
    table = _table(intel)
    index: dict[str, set[str]] = {}
    for cve_id, event in table.items():
        for key in keys_of(event) if isinstance(event, IntelRecord) else ():
            index.setdefault(key, set()).add(cve_id)
    wrong: list[int] = []
    unknown: list[int] = []
    with ExitStack() as stack:
        lines = sys.stdin.buffer if file == "-" else stack.enter_context(opened(file))
        rows = (
            row
            for number, evidence, found in _verdicts(lines, table, index, wrong, unknown)
            for row in _rows(number, evidence, found, everything, cve.strip().upper())
        )
        if as_json:
            for row in rows:
                sys.stdout.write(to_json(row) + "\n")
            sys.stdout.flush()
        else:
            shown = list(itertools.islice(rows, MOST_SHOWN))
            more = sum(1 for _ in rows)
            print_rows("CVEs", COLUMNS, shown, False, "No CVE was found. --all shows what was looked at and is not affected.")
            if more:
                tell(f"{count(more, 'row')} more; --json prints all of them.")
    if unknown:
        tell(f"{count(len(unknown), 'line')} named no product.")
    if wrong:
        raise BadInput(f"{count(len(wrong), 'line')} could not be read; the others were answered.", "Mend the lines that are named above.")


def _table(file: Path | None) -> Mapping[str, Event]:
    """The records by CVE. Raises BadInput for a file that is none, MissingPrerequisite without a broker."""
    if file is None:
        from infra.app.people import read_table

        found: Mapping[str, Event] = read_table(load_settings(), "intel")
        if not found:
            tell("The topic intel is empty. Fill it with 'driftline intel sync', or name a file with --intel.", "yellow")
        return found
    read: dict[str, Event] = {}
    with progress() as display:
        task = display.add_task("reading CVE records", total=None)
        for record in _records(file):
            read[record.cve] = record
            if len(read) % 500 == 0:
                display.update(task, completed=len(read))
    return read


def _records(path: Path) -> Iterator[IntelRecord]:
    """The records that a feed of CVE records would bring into `intel`. Raises BadInput that says what is wrong."""
    from producers.intel.feeds import BY_NAME, statements
    from producers.intel.statements import FeedError, Rejected, record_of

    codec = Codec()
    try:
        for one in statements(BY_NAME["cve"], path):
            if not isinstance(one, Rejected):
                yield record_of(one, codec)
    except (FeedError, OSError) as error:
        raise BadInput(f"{path} can't be read: {error}.", "Name CVE JSON 5.x records: JSON lines, a folder or a zip.") from None


def _verdicts(
    lines: IO[bytes], table: Mapping[str, Event], index: Mapping[str, Set[str]], wrong: list[int], unknown: list[int]
) -> Iterator[tuple[int, Evidence, list[Match]]]:
    """The verdicts on each readable line; the numbers of the others go to `wrong`, and their errors to standard error."""
    matcher = Matcher()

    def read(number: int, line: bytes) -> tuple[Evidence, Seen]:
        evidence = _evidence(line, number)
        return evidence, evidence.seen()

    for number, (evidence, shown) in each(lines, "matching", read, wrong):
        if not shown.products:
            unknown.append(number)
        yield number, evidence, matcher.matches(shown, index, table)


def _evidence(line: bytes, number: int) -> Evidence:
    """One line. Raises ValueError for what is none."""
    if line.lstrip().startswith(b"cpe:"):
        return Evidence(cpe=line.decode().strip())
    try:
        read = json.loads(line)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    evidence = Evidence(cpe=read) if isinstance(read, str) else Evidence.model_validate(read)
    if (evidence.banner is None) == (evidence.banner_b64 is None) or evidence.cpe23 or evidence.cpe or evidence.cpes:
        if not (evidence.cpe23 or evidence.cpe or evidence.cpes or "cpe23" in evidence.model_fields_set):
            raise ValueError("it has neither a CPE name (cpe23, cpe, cpes) nor a banner")
        return evidence
    from infra.app.commands.identify import Grab, answer
    from processors.enrich.identifying import built_in_identifier

    return Evidence.model_validate(answer(number, Grab.model_validate(read), [built_in_identifier()]))


def _rows(number: int, evidence: Evidence, found: list[Match], everything: bool, cve: str) -> Iterator[dict[str, Any]]:
    """A row a CVE: the affected first, of these the worst first."""
    for one in sorted(found, key=lambda one: (ORDER[one.verdict], -(one.record.cvss or 0), -one.confidence, one.cve)):
        if one.cve != cve if cve else (one.verdict is Verdict.NOT_AFFECTED and not everything):
            continue
        told = {
            "line": number,
            "cve": one.cve,
            "verdict": one.verdict.value,
            "confidence": one.confidence,
            "reason": one.reason,
            "confirm": one.confirm or None,
            "product": one.product,
            "version": one.version or None,
            "cvss": one.record.cvss,
            "kev": one.record.kev,
        }
        yield (evidence.model_extra or {}) | told
