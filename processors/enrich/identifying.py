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
ORDER = {field: number for number, field in enumerate(FIELDS)}
Group = tuple[str, ...]
"""Names of services whose rules are asked together."""


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
        self._sets: dict[tuple[Group, str], tuple[list[Rule], PatternSet]] = {}
        self._openings = {one.name: one.opening for one in table.services}
        named = tuple(dict.fromkeys(rule.service for rule in table.rules))
        asked = {one.name for one in table.services if one.asked}
        self._plain = tuple(name for name in named if name not in asked)
        self._order = (*self._plain, *(name for name in named if name in asked))

    def groups(self, protocol: str, port: int | None, *, strict: bool = False) -> tuple[Group, ...]:
        """Services whose rules may judge a text: that of its protocol if it is known, else those of the port one by one, then all together.

        `strict` leaves out the services whose texts say nothing of their protocol, unless protocol or port speak for them.
        """
        known = self.table.names.get(protocol.lower())
        if known is not None:
            return ((known,),)
        usual = self.table.of_port(port) if port is not None else ()
        return (*((one,) for one in usual), self._plain if strict else self._order)

    def matches(self, texts: Mapping[str, bytes], groups: Iterable[Group]) -> Iterator[Identity]:
        """What these services' rules make of texts by field, the best first."""
        fields = sorted(texts, key=lambda one: ORDER.get(one, len(ORDER)))
        for group in groups:
            for field in fields:
                yield from _judged(self, group, field, texts[field])
            for service in group:
                if (service, "bare") in self._rules:
                    yield from _judged(self, (service,), "bare", self._bare(service, texts.get("banner", b"")))

    def best(self, texts: Mapping[str, bytes], groups: Iterable[Group]) -> Identity | None:
        """The best of the matches."""
        return next(self.matches(texts, groups), None)

    def judge(self, group: Group, field: str, text: bytes) -> Iterator[Identity]:
        """What these services' rules make of one text, in the order of the rules."""
        found = self._sets.get((group, field))
        if found is None:
            rules = [rule for service in group for rule in self._rules.get((service, field), ())]
            found = self._sets[group, field] = rules, PatternSet([rule.pattern for rule in rules])
        rules, patterns = found
        for place in patterns.matching(text) if rules else ():
            groups = rules[place].pattern.search(text)
            if groups is not None:
                yield identity(rules[place], groups)

    def _bare(self, service: str, banner: bytes) -> bytes:
        opening = self._openings.get(service)
        found = opening.search(banner) if opening else None
        return found["bare"].encode() if found else banner


@functools.lru_cache(maxsize=4096)  # texts of a few hundred bytes, most of which many hosts of a network share
def _judged(identifier: Identifier, group: Group, field: str, text: bytes) -> tuple[Identity, ...]:
    return tuple(identifier.judge(group, field, text))


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
