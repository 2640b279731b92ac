"""NVD's configurations, which CVE JSON 5.1 has too (`cpeApplicability`): which products, in which versions, on which platforms.

A configuration joins nodes by AND or OR, a node CPE match criteria. What is vulnerable becomes an affected product; what else must be
there by AND becomes its platforms, of which any one is enough: of three or more nodes that is less than NVD says.
Sources: NVD's CVE API 2.0 schema (https://nvd.nist.gov/developers/vulnerabilities); CPE 2.3 names: NISTIR 7695.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from producers.intel.statements import FeedError, Fields, objects, part, product, required, shown, version_range

COLON = re.compile(r"(?<!\\):")
ESCAPED = re.compile(r"\\(.)")
PATCH = re.compile(r"p\d+", re.IGNORECASE)
PARTS = 13
"""A CPE 2.3 name is `cpe:2.3:` and eleven components."""
Match = tuple[str, str]
"""A criterion's CPE name and where it stands."""


def products_in(configurations: list[tuple[str, Fields]], source: str) -> list[Fields]:
    """The affected products, each with all its version ranges. Raises FeedError for what is no configuration."""
    found: dict[tuple[str, tuple[str, ...]], Fields] = {}
    for where, configuration in configurations:
        for match, place, platforms in _vulnerable(configuration, where):
            parts = cpe_parts(required(match, "criteria", place), f"{place}.criteria")
            name = ":".join([*parts[:5], "*", "*", *parts[7:]])
            held = found.get((name, platforms))
            if held is None:
                vendor, what = _unescaped(parts[3]), _unescaped(parts[4])
                held = product(vendor, what, source, cpes=[name], platforms=list(platforms), default_status="unaffected")
                found[name, platforms] = held
            span = _range(match, parts, place)
            if span not in held["versions"]:
                held["versions"].append(span)
    return list(found.values())


def cpe_parts(name: str, where: str) -> list[str]:
    """The components of a CPE 2.3 name, as they are written. Raises FeedError."""
    parts = COLON.split(name)
    if parts[:2] != ["cpe", "2.3"] or len(parts) != PARTS or parts[2] not in ("a", "o", "h", "*"):
        raise FeedError(f"{where} is no CPE 2.3 name: {shown(name)}")
    return parts


def _vulnerable(configuration: Fields, where: str) -> Iterator[tuple[Fields, str, tuple[str, ...]]]:
    """Each vulnerable criterion, where it stands, and the CPE names of the platforms that must be there too."""
    nodes = [(place, node, *_matches(node, place)) for place, node in objects(configuration, "nodes", where)]
    if part(configuration, "negate", bool, where):
        return  # "anything but this": no product can be named
    together = _operator(configuration, where) == "AND"
    for index, (_, node, vulnerable, others) in enumerate(nodes):
        if part(node, "negate", bool, where):
            continue
        beside: list[str] = list(others) if _operator(node, where) == "AND" else []
        if together:
            for number, (_, other, weak, rest) in enumerate(nodes):
                sign = "not " if part(other, "negate", bool, where) else ""
                if number != index:
                    beside += [f"{sign}{one['criteria']}" for _, one in weak] + [f"{sign}{name}" for name in rest]
        for place, match in vulnerable:
            yield match, place, tuple(dict.fromkeys(beside))


def _matches(node: Fields, where: str) -> tuple[list[tuple[str, Fields]], list[str]]:
    """The criteria of a node: those that are vulnerable, and the names of the others."""
    vulnerable, others = [], []
    for place, match in objects(node, "cpeMatch", where):
        name = required(match, "criteria", place)
        if part(match, "vulnerable", bool, place):
            vulnerable.append((place, match))
        else:
            others.append(name)
    return vulnerable, others


def _operator(holder: Mapping[str, Any], where: str) -> str:
    found = part(holder, "operator", str, where) or "OR"
    if found not in ("AND", "OR"):
        raise FeedError(f"{where}.operator is {shown(found)}, not AND or OR")
    return found


def _range(match: Fields, parts: list[str], where: str) -> Fields:
    start, after = part(match, "versionStartIncluding", str, where), part(match, "versionStartExcluding", str, where)
    less, last = part(match, "versionEndExcluding", str, where), part(match, "versionEndIncluding", str, where)
    if start or after or less or last:
        if (start and after) or (less and last):
            raise FeedError(f"{where} includes and excludes an end of the same range")
        return version_range(start or after, after=bool(after), less_than=less or ("" if last else "*"), less_than_or_equal=last)
    version, update = _unescaped(parts[5]), _unescaped(parts[6])
    if version == "*":
        return version_range(less_than="*")
    if update in ("*", "-"):
        return version_range(version)
    return version_range(f"{version}{update}" if PATCH.fullmatch(update) else f"{version}-{update}")


def _unescaped(component: str) -> str:
    return ESCAPED.sub(r"\1", component)
