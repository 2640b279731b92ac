"""Lines of text, CSV or JSON to wanted targets. Pure but for the thread that waits for a pipe."""

from __future__ import annotations

import csv
import json
import queue
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, TextIO

from pydantic import ValidationError

from infra.core.errors import BadInput
from schemas.events.targets import TargetRequest
from schemas.portset import parse_port_sets
from schemas.targeting import Span, parse_target, show, too_many
from schemas.wording import what_is_wrong

Format = Literal["auto", "text", "csv", "jsonl"]
MOST_LINE = 65_536
NO_TEXT = 1 << 26
COLUMNS = ("target", "address", "ip", "network", "cidr", "host", "hostname")
OTHERS = ("ports", "probes", "zone", "grant_id")


@dataclass(frozen=True, slots=True)
class Manner:
    """How targets are to be looked at: what a line may say besides the target, and the options where it does not."""

    zone: str = "default"
    ports: str | None = None
    probes: tuple[str, ...] = ()
    grant_id: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one line asks for. `request` is a whole request that the line held, which goes out as it is."""

    targets: tuple[str, ...]
    manner: Manner
    addresses: int
    request: TargetRequest | None = None


class LineReader:
    """Understands the lines of one source in order, the first of which may decide the format.

    `most` is the size limit of a target. Zones and probes are checked if those that exist are given, probes when first needed.
    """

    def __init__(
        self,
        manner: Manner,
        form: Format = "auto",
        most: int = 1 << 20,
        zones: tuple[str, ...] = (),
        probes: Callable[[], Collection[str]] | None = None,
    ) -> None:
        self._manner, self._most, self._zones, self._probes = manner, most, zones, probes
        self._header: list[str] | None = None
        self._read: Callable[[str], Wanted | None] | None = {"text": self._text, "csv": self._csv, "jsonl": self._json}.get(form)

    def read(self, line: str) -> Wanted | None:
        """What a line asks for; None for a blank line, a comment or the header. Raises ValueError with a sentence for a bad line."""
        if len(line) > MOST_LINE:
            raise ValueError(f"The line is longer than {MOST_LINE} characters.")
        word = line.strip().removeprefix("\ufeff")
        if not word or word.startswith("#"):
            return None
        if self._read is None:
            self._read = {"{": self._json, "[": self._json, '"': self._json}.get(word[0]) or (self._csv if _header(word) else self._text)
        return self._read(word)

    def _text(self, word: str) -> Wanted:
        """`198.18.0.0/24`, or with ports behind it: `198.18.0.0/24 22,80`. A range may have blanks around its dash."""
        target, _, ports = word.partition("#")[0].strip().replace(" - ", "-").partition(" ")
        return self._wanted((target,), {"ports": ports.strip()})

    def _csv(self, word: str) -> Wanted | None:
        cells = _cells(word)
        if self._header is None:
            found = _header(word)
            self._header = found or ["target", "ports"]
            if found:
                return None
        row = dict(zip(self._header, cells, strict=False))
        target = next((row[name] for name in COLUMNS if row.get(name)), "")
        return self._wanted((target,), {name: row.get(name, "") for name in OTHERS})

    def _json(self, word: str) -> Wanted:
        try:
            value = json.loads(word)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"The line is not JSON: {error}.") from None
        if isinstance(value, str):
            return self._wanted((value,), {})
        if not isinstance(value, dict):
            raise ValueError('A JSON line is a target in quotes or an object such as {"target": "198.18.0.7", "ports": "22,80"}.')
        if "request_id" in value:
            return self._whole(value)
        unknown = set(value) - {"target", "targets", *OTHERS}
        if unknown:
            raise ValueError(f"The field '{show(min(unknown))}' is not known; known are target, targets, {', '.join(OTHERS)}.")
        targets = value.get("targets", [value["target"]] if "target" in value else [])
        if not isinstance(targets, list) or not targets or not all(isinstance(one, str) for one in targets):
            raise ValueError("The object names no target.")
        return self._wanted(tuple(targets), {name: _flat(value.get(name)) for name in OTHERS})

    def _whole(self, value: dict[str, object]) -> Wanted:
        try:
            request = TargetRequest.model_validate_json(json.dumps({"zone": self._manner.zone} | value))
        except ValidationError as error:
            raise ValueError(f"{what_is_wrong(error)}.") from None
        manner = Manner(request.zone, request.ports, request.probes, request.grant_id)
        return replace(self._checked(request.targets, manner), request=request)

    def _wanted(self, targets: tuple[str, ...], over: dict[str, str]) -> Wanted:
        if not any(over.values()):
            return self._checked(targets, self._manner)
        probes = tuple(over.get("probes", "").replace(",", " ").split())
        manner = Manner(
            over.get("zone") or self._manner.zone,
            over.get("ports") or self._manner.ports,
            probes or self._manner.probes,
            over.get("grant_id") or self._manner.grant_id,
        )
        return self._checked(targets, manner)

    def _checked(self, targets: tuple[str, ...], manner: Manner) -> Wanted:
        if manner.ports is not None:
            parse_port_sets(manner.ports)
        if manner.probes and self._probes is not None:
            known = self._probes()
            for name in manner.probes:
                if name not in known:
                    raise ValueError(f"There is no probe '{show(name)}' on this machine; there are {', '.join(sorted(known))}.")
        if self._zones and manner.zone not in self._zones:
            raise ValueError(f"There is no zone '{show(manner.zone)}'; the zones are {', '.join(self._zones)}.")
        addresses = 0
        for target in targets:
            parsed = parse_target(target)
            if not isinstance(parsed, Span):
                addresses += 1
                continue
            reason = too_many(parsed, self._most)
            if reason:
                raise ValueError(f"'{show(target)}' {reason}.")
            addresses += parsed.size
        return Wanted(targets, manner, addresses)


def bounded_lines(file: TextIO) -> Iterator[str]:
    """The lines of a file; of one that is too long only the beginning, so that a file without line ends does not fill the memory."""
    while line := file.readline(MOST_LINE + 2):
        yield line
        skipped = 0
        while not line.endswith("\n") and len(line) > MOST_LINE:
            line = file.readline(MOST_LINE + 2)
            skipped += len(line)
            if skipped > NO_TEXT:
                raise BadInput(f"A line of the input is longer than {NO_TEXT:,} characters.", "Give a text with a target a line.")


def as_they_come(lines: Iterable[str], linger: float = 0.2) -> Iterator[str | None]:
    """The lines of a pipe that may stay open for days; None once the oldest unsent line has waited `linger` seconds: time to send."""
    waiting: queue.Queue[str | BaseException | None] = queue.Queue(4096)

    def fill() -> None:
        try:
            for line in lines:
                waiting.put(line)
            waiting.put(None)
        except Exception as error:  # noqa: BLE001  raised again where the lines are read
            waiting.put(error)

    threading.Thread(target=fill, name="lines", daemon=True).start()
    due: float | None = None
    while True:
        try:
            line = waiting.get(timeout=None if due is None else max(0.0, due - time.monotonic()))
        except queue.Empty:
            due = None
            yield None
            continue
        if line is None:
            return
        if isinstance(line, BaseException):
            raise line
        due = due or time.monotonic() + linger
        yield line


def _cells(word: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([word]))]
    except csv.Error as error:
        raise ValueError(f"The line is not CSV: {error}.") from None


def _header(word: str) -> list[str] | None:
    names = [cell.lower() for cell in _cells(word)]
    return names if any(name in COLUMNS for name in names) else None


def _flat(value: object) -> str:
    """Ports and probes may be a text, a number or a list of them in JSON."""
    if value is None:
        return ""
    return ",".join(str(one) for one in value) if isinstance(value, list) else str(value)
