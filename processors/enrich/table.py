"""The table of rules: what a text that a service sent says about the product. Data in `rules/*.toml`, read here; nothing is matched here.

`rules/services.toml` names the services: what else they are called, their ports, and whether a text of theirs is an answer that says
nothing of its protocol (`asked`). Every other file holds rules in their order. The first rule that matches counts.
"""

from __future__ import annotations

import functools
import hashlib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from processors.enrich.linear import Pattern

SERVICES = "services.toml"
FIELDS = ("banner", "title", "www_authenticate", "generator", "cookie", "location", "server", "powered_by", "bare")
"""The texts that rules look at, the more telling first: an application's title says more than the server in front of it.

`bare` is a banner behind its protocol's own words (`SSH-2.0-`, `220 `).
"""


@dataclass(frozen=True, slots=True)
class Example:
    """A text (a character is a byte) and what its rule must make of it."""

    text: str
    version: str = ""
    extra: str = ""
    cpe: str = ""
    revision: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """One fingerprint: where to look, for what, and what it means. `{v}` in a template is the pattern's group `v`."""

    name: str
    service: str
    field: str
    pattern: Pattern
    vendor: str
    product: str
    version: str = ""
    extra: str = ""
    cpe: str = ""
    distribution: str = ""
    revision: str = ""
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True, slots=True)
class ServiceName:
    """A service: `also` is what others call it, `opening` its protocol's own words before a banner."""

    name: str
    also: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    asked: bool = False
    opening: Pattern | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """All rules, the services that they are of, and a version that changes with either."""

    version: str
    rules: tuple[Rule, ...]
    services: tuple[ServiceName, ...]
    names: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", {name: one.name for one in self.services for name in (one.name, *one.also)})

    def of_port(self, port: int) -> tuple[str, ...]:
        """The services that usually listen there."""
        return tuple(one.name for one in self.services if port in one.ports)


def parse_services(text: str) -> tuple[ServiceName, ...]:
    """Services from TOML. Raises ValueError, KeyError or TypeError for a wrong one (a developer's mistake, found by the tests)."""
    return tuple(
        ServiceName(
            one["name"],
            tuple(one.get("also", ())),
            tuple(one.get("ports", ())),
            one.get("asked", False),
            Pattern(f"(?i)^(?:{one['opening']})(?s:(?P<bare>.*))") if "opening" in one else None,
        )
        for one in tomllib.loads(text)["service"]
    )


def parse_rules(text: str) -> Iterator[Rule]:
    """Rules from TOML; the file's `service` and `field` hold where a rule has none. Raises as `parse_services` does."""
    raw = tomllib.loads(text)
    for one in raw.get("rule", ()):
        told: dict[str, Any] = {"service": raw.get("service"), "field": raw.get("field", "banner"), **one}
        examples = tuple(Example(**example) for example in told.pop("example", ()))
        pattern = Pattern(f"(?i){told.pop('pattern')}")
        if told["service"] is None or (told["field"] not in FIELDS and not told["field"].startswith("facts.")):
            raise ValueError(f"rule {told['name']} names no service, or a field that there is not")
        told.setdefault("version", "{v}" if "v" in pattern.names else "")
        yield Rule(**told, pattern=pattern, examples=examples)


def made_of(texts: Sequence[str], services: str) -> Table:
    """A table; its version is a hash of all of it, so that no change can go unnoticed."""
    digest = hashlib.sha256("\0".join((services, *texts)).encode()).hexdigest()[:12]
    return Table(digest, tuple(rule for text in texts for rule in parse_rules(text)), parse_services(services))


@functools.cache
def built_in_table() -> Table:
    """The table that comes with this package."""
    folder = files("processors.enrich") / "rules"
    texts = {one.name: one.read_text(encoding="utf-8") for one in folder.iterdir() if one.name.endswith(".toml")}
    services = texts.pop(SERVICES)
    return made_of([texts[name] for name in sorted(texts)], services)
