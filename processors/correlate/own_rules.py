"""A user's own rules and tables as a TOML file (`correlator.rules`): read whole, every fault named with its line, then rules like ours.

The form is documented in docs/how-to/own-rules.md, whose example a test reads.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from infra.core.errors import BadInput
from processors.correlate.conditions import When
from processors.correlate.contract import TABLES, Judgement, Rule, ServiceFacts
from processors.correlate.tables import ENDED, EndOfLife, Expected, Tables
from schemas.events.context import NOTHING
from schemas.wording import fault

SERVICE = re.compile(r"(tcp|udp)/([1-9][0-9]{0,4})")


class Entry(BaseModel):
    """A table of the file: a name that is not known is an error, not a rule that never fires."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class OwnRule(Entry):
    """One `[[rule]]`."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{2,63}$")
    title: str = Field(min_length=1, max_length=200)
    why: str = Field(min_length=1, max_length=1000)
    action: str = Field(min_length=1, max_length=1000)
    source: str = Field("", max_length=200)
    base: float = Field(ge=0, le=100)
    floor: float = Field(0.0, ge=0, le=100)
    ceiling: float = Field(100.0, ge=0, le=100)
    covers: tuple[str, ...] = ()
    when: When
    unless: When | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.floor <= self.base <= self.ceiling:
            raise ValueError("floor, base and ceiling must be in this order")
        return self

    def made(self, file: str) -> Rule:
        """The rule that the correlator runs."""
        doc = f"When {self.when.words()}" + (f", unless {self.unless.words()}" if self.unless else "")
        return Rule(self.name, self.source or file, f"{doc}.", self._detect, covers=self.covers)

    def _detect(self, facts: ServiceFacts) -> Judgement | None:
        if not self.when.holds(facts) or (self.unless is not None and self.unless.holds(facts)):
            return None
        saw = f"{facts.label} on port {facts.service.port} in zone {facts.zone}: {self.when.words()}"
        return Judgement(self.title, self.why, self.action, self.base, self.floor, self.ceiling, saw)


class OwnEnd(Entry):
    """One `[[end_of_life]]`: it counts in place of ours for that product; without `below` no version of it is told of."""

    product: str = Field(min_length=1)
    below: str = ""
    since: str = ""
    source: str = ""


class OwnExpected(Entry):
    """One `[[expected]]`: services that should be in a network, for where the inventory says nothing; `none`: none should be."""

    zone: str = "default"
    network: str
    services: tuple[str, ...] = Field(min_length=1)

    @field_validator("network")
    @classmethod
    def _network(cls, value: str) -> str:
        return str(ipaddress.ip_network(value))

    @field_validator("services")
    @classmethod
    def _services(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            found = SERVICE.fullmatch(one)
            if value != (NOTHING,) and (found is None or int(found[2]) > 65535):
                raise ValueError(f"{one!r} is no service such as tcp/443, nor is it '{NOTHING}' alone")
        return value


class File(Entry):
    """The whole file."""

    rule: tuple[OwnRule, ...] = ()
    end_of_life: tuple[OwnEnd, ...] = ()
    expected: tuple[OwnExpected, ...] = ()
    management_zones: tuple[str, ...] = ()
    off: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Own:
    """What a file says: rules to add, tables as they are with it, names of rules to leave out."""

    rules: tuple[Rule, ...] = ()
    tables: Tables = TABLES
    off: frozenset[str] = frozenset()


def parse(text: str, name: str) -> Own:
    """What a file's text says; `name` is the file's, for the errors. Raises BadInput with every fault and its line."""
    try:
        file = File.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{name} is no TOML: {error}.", "Mend it there.") from None
    except ValidationError as error:
        lines = Lines(text)
        faults = [f"  {name}:{lines.of(one['loc'])}: {fault(one, _dotted(one['loc']))}" for one in error.errors()]
        raise BadInput("These rules are wrong:\n" + "\n".join(faults), "\nSee docs/how-to/own-rules.md for the form.") from None
    replaced = {one.product for one in file.end_of_life}
    ended = [EndOfLife(one.product, one.below, one.since, one.source or name) for one in file.end_of_life if one.below]
    tables = Tables(
        (*ended, *(one for one in ENDED if one.product not in replaced)),
        tuple(Expected(one.zone, one.network, one.services) for one in file.expected),
        file.management_zones,
    )
    return Own(tuple(one.made(name) for one in file.rule), tables, frozenset(file.off))


class Lines:
    """Where in a TOML text things stand, as far as its headers show: the parser of the standard library does not tell."""

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines()

    def of(self, path: tuple[int | str, ...]) -> int:
        """The line of a value by its path; of the table that holds it, where the value has no line of its own."""
        start, end, keys = 1, len(self._lines), [str(one) for one in path]
        if len(path) > 1 and isinstance(path[1], int):
            headers = [number for number, line in enumerate(self._lines, 1) if re.match(rf"\s*\[\[\s*{path[0]}\s*\]\]", line)]
            if path[1] < len(headers):
                start = headers[path[1]]
                others = (number for number, line in enumerate(self._lines, 1) if number > start and line.lstrip().startswith("[["))
                end, keys = next(others, len(self._lines) + 1) - 1, [one for one in keys[2:] if not one.isdigit()]
        return next(self._own(keys, start, end), start)

    def _own(self, keys: list[str], start: int, end: int) -> Iterator[int]:
        """Lines that set one of the keys, the innermost key's first."""
        for key in reversed(keys):
            for number in range(start, end + 1):
                if re.match(rf"\s*([\w.\"-]+\.)?[\"']?{re.escape(key)}[\"']?\s*=|\s*\[[\w.]*\b{re.escape(key)}\]", self._lines[number - 1]):
                    yield number


def _dotted(path: tuple[Any, ...]) -> str:
    """A path as people write it: `rule 2: when.port`."""
    first, *rest = [str(one) for one in path]
    if rest and rest[0].isdigit():
        return f"{first} {int(rest[0]) + 1}{': ' if rest[1:] else ''}{'.'.join(rest[1:])}"
    return ".".join([first, *rest])
