"""Says what product sent a text: the first rule of the table that matches it. Pure, and linear in the text's length."""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from processors.enrich.cpe import filled
from processors.enrich.linear import PatternSet
from processors.enrich.table import FIELDS, Rule, Table, built_in_table

PLACE = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Identity:
    """What a rule makes of a text. Empty where the text does not say. `revision` is the distribution's own, behind the version."""

    rule: str
    service: str
    vendor: str
    product: str
    version: str = ""
    extra: str = ""
    cpe: str = ""
    distribution: str = ""
    revision: str = ""


class Identifier:
    """A table, made ready to be asked."""

    def __init__(self, table: Table) -> None:
        self.table = table
        grouped: dict[tuple[str, str], list[Rule]] = defaultdict(list)
        for rule in table.rules:
            grouped[rule.service, rule.field].append(rule)
        self._rules = dict(grouped)
        self._sets: dict[tuple[str, str], PatternSet] = {}
        self._openings = {one.name: one.opening for one in table.services}
        self._order = tuple(dict.fromkeys(rule.service for rule in table.rules))
        asked = {one.name for one in table.services if one.asked}
        self._plain = tuple(name for name in self._order if name not in asked)

    def services(self, protocol: str, port: int | None, *, strict: bool = False) -> tuple[str, ...]:
        """Whose rules may judge a text: those of its protocol if that is known, else those of the port, then all.

        `strict` leaves out the services whose texts say nothing of their protocol, unless protocol or port speak for them.
        """
        known = self.table.names.get(protocol.lower())
        if known is not None:
            return (known,)
        usual = self.table.of_port(port) if port is not None else ()
        return tuple(dict.fromkeys((*usual, *(self._plain if strict else (*self._plain, *self._order)))))

    def matches(self, texts: Mapping[str, bytes], services: Iterable[str]) -> Iterator[Identity]:
        """What these services' rules make of texts by field, the best first."""
        fields = sorted(texts, key=lambda one: FIELDS.index(one) if one in FIELDS else len(FIELDS))
        for service in services:
            for field in fields:
                yield from self._judged(service, field, texts[field])
            if (service, "bare") in self._rules:
                yield from self._judged(service, "bare", self._bare(service, texts.get("banner", b"")))

    def best(self, texts: Mapping[str, bytes], services: Iterable[str]) -> Identity | None:
        """The best of the matches."""
        return next(self.matches(texts, services), None)

    def _judged(self, service: str, field: str, text: bytes) -> Iterator[Identity]:
        rules = self._rules.get((service, field))
        if not rules or not text:
            return
        found = self._sets.get((service, field))
        if found is None:
            found = self._sets[service, field] = PatternSet([rule.pattern for rule in rules])
        for place in found.matching(text):
            groups = rules[place].pattern.search(text)
            if groups is not None:
                yield identity(rules[place], groups)

    def _bare(self, service: str, banner: bytes) -> bytes:
        opening = self._openings.get(service)
        found = opening.search(banner) if opening else None
        return found["bare"].encode() if found else banner


def identity(rule: Rule, groups: Mapping[str, str]) -> Identity:
    """What a rule says, with the groups of its match."""
    return Identity(
        rule.name,
        rule.service,
        expand(rule.vendor, groups),
        expand(rule.product, groups),
        expand(rule.version, groups),
        expand(rule.extra, groups),
        filled(rule.cpe, groups) if rule.cpe else "",
        expand(rule.distribution, groups),
        expand(rule.revision, groups),
    )


def expand(template: str, groups: Mapping[str, str]) -> str:
    """The template with its groups, or '' if one of them is empty."""
    if "{" not in template:
        return template
    if not all(groups.get(name) for name in PLACE.findall(template)):
        return ""
    return PLACE.sub(lambda place: groups[place[1]], template)


@functools.cache
def built_in_identifier() -> Identifier:
    """The table that comes with this package, ready to be asked."""
    return Identifier(built_in_table())
