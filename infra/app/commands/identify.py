"""`identify`: what products sent these banners, by the table of rules and, where one has them, recog's databases. No network, no Kafka."""

from __future__ import annotations

import base64
import binascii
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel, ConfigDict, Field

from infra.app.lines import each, opened
from infra.app.output import count, print_rows, tell, to_json
from infra.core.errors import BadInput, DriftlineError
from processors.enrich.identifying import Identifier, Identity, built_in_identifier
from processors.enrich.recog import Recog, load_recog
from processors.enrich.texts import texts_in

app = typer.Typer()
MOST_SHOWN = 1000
MOST_TOLD = 10
COLUMNS = ("line", "service", "vendor", "product", "version", "cpe23", "rule")
RECOG = typer.Option(None, "--recog", help="A folder with Rapid7's recog databases (XML); they are asked where the own rules know nothing.")


class Grab(BaseModel):
    """One line of input: a text that a service sent, as base64 or, where it is text, as it is. Other fields come back with the answer."""

    model_config = ConfigDict(extra="allow")

    protocol: str = ""
    port: int | None = Field(None, ge=0, le=65_535)
    banner_b64: str | None = None
    banner: str | None = None

    def raw(self) -> bytes:
        """The text. Raises ValueError if there is not exactly one, or it is no base64."""
        if (self.banner_b64 is None) == (self.banner is None):
            raise ValueError("it needs banner_b64 or banner, and not both")
        try:
            return base64.b64decode(self.banner_b64, validate=True) if self.banner_b64 is not None else (self.banner or "").encode()
        except (binascii.Error, UnicodeEncodeError):
            raise ValueError("its banner is no base64, or no text") from None


@app.command()
def identify(
    file: str = typer.Argument("-", help="Banners as JSON lines; - is standard input."),
    recog: Path = RECOG,
    check: bool = typer.Option(False, "--check", help="Only test recog's rules by their own examples."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON lines on standard output."),
) -> None:
    """Say vendor, product, version and CPE of banners: {"protocol": "ssh", "port": 22, "banner_b64": "U1NI…"} a line.

    Further fields of a line, such as an id, are given back with its answer (--json).
    """
    if check and recog is None:
        raise BadInput("--check tests recog's rules.", "Name their folder with --recog.")
    identifiers = [built_in_identifier()]
    if recog is not None:
        read = load_recog(recog)
        _tell_of(read, recog)
        if check:
            _check(read)
            return
        identifiers.append(Identifier(read.table()))
    wrong: list[int] = []
    with ExitStack() as stack:
        lines = sys.stdin.buffer if file == "-" else stack.enter_context(opened(file))
        rows = (row for _, row in each(lines, "identifying", lambda number, line: _answered(number, line, identifiers), wrong))
        if as_json:
            for row in rows:
                sys.stdout.write(to_json(row) + "\n")
            sys.stdout.flush()
        else:
            shown = [row for number, row in enumerate(rows) if number < MOST_SHOWN]
            print_rows("banners", COLUMNS, shown, False, "No banner came in.")
    if wrong:
        raise BadInput(f"{count(len(wrong), 'line')} could not be read; the others were answered.", "Mend the lines that are named above.")


def _answered(number: int, line: bytes, identifiers: Iterable[Identifier]) -> dict[str, Any]:
    return answer(number, Grab.model_validate_json(line), identifiers)


def answer(number: int, grab: Grab, identifiers: Iterable[Identifier]) -> dict[str, Any]:
    """The row of one banner: what the first table that knows it says; null where none does. Raises ValueError for a grab without a text.

    What the grab held besides stands there too, unless an answer has its name, so that answers can be joined with what they are of.
    """
    raw = grab.raw()
    found: Identity | None = None
    for one in identifiers:
        groups = one.groups(grab.protocol, grab.port)
        found = one.best(texts_in(raw, groups[0][0] if groups[0] else ""), groups)
        if found:
            break
    said = found or Identity("", "", "", "")
    named = {"service": said.service, "vendor": said.vendor, "product": said.product, "version": said.version, "extra": said.extra}
    facts = {"cpe23": said.cpe, "distribution": said.distribution, "revision": said.revision, "rule": said.rule}
    told = {"line": number, "protocol": grab.protocol or None, "port": grab.port}
    return (grab.model_extra or {}) | told | {name: text or None for name, text in (named | facts).items()}


def _tell_of(read: Recog, folder: Path) -> None:
    """What became of the databases; what can't be used is said, never silently dropped."""
    tell(f"recog: {count(len(read.fingerprints), 'rule')} from {folder}.")
    if read.others:
        tell(f"recog: {count(len(read.others), 'database')} left out, for texts that banners don't hold: {', '.join(read.others)}.")
    if read.refused:
        tell(f"recog: {count(len(read.refused), 'rule')} can't be used, for patterns that RE2 can't take or other flaws:", "yellow")
        for one in read.refused[:MOST_TOLD]:
            tell(f"  {one}")
        if len(read.refused) > MOST_TOLD:
            tell(f"  and {len(read.refused) - MOST_TOLD} more.")


def _check(read: Recog) -> None:
    examples = sum(len(one.examples) for one in read.fingerprints)
    wrong = list(read.wrong_examples())
    for one in wrong[:MOST_TOLD]:
        tell(one, style="yellow")
    if wrong:
        raise DriftlineError(f"{len(wrong)} of {count(examples, 'example')} of recog's are read otherwise here.")
    tell(f"All {count(examples, 'example')} of recog's hold.")
