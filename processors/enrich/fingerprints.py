"""Fill in product, version and CPEs from banners and headers, by the table of rules (`rules/*.toml`).

What nmap said stands; a rule only fills what is empty. What a rule filled is marked in `evidence` as `fingerprints@VERSION:RULE=FIELDS`, so
that it can be taken out again: a new table is applied to the old observation too before the two are compared, and so changes nothing alone.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, cast

from processors.enrich.cpe import as_uri
from processors.enrich.identifying import Identifier, Identity, built_in_identifier
from schemas.events.observations import ServiceObservation
from schemas.plain import Observation, Service

MARK = "fingerprints@"
PACKAGE = "package."
"""Facts whose names begin so belong to the version: the distribution that built the package, and its own revision of it."""
_FACT = "facts."
_EMPTY: dict[str, str | list[str]] = {"service": "", "product": "", "version": "", "extra": "", "cpes": []}


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """A table of rules, applied to what scanners saw."""

    identifier: Identifier

    @property
    def version(self) -> str:
        """The version of the table."""
        return self.identifier.table.version

    def enrich(self, seen: Observation) -> Observation:
        """The observation with what its texts say, and the table's version."""
        return {**seen, "services": [self.fill(one) for one in seen["services"]], "fingerprints": self.version}

    def identify(self, seen: ServiceObservation) -> ServiceObservation:
        """As `fill`, of an event."""
        return ServiceObservation.model_validate(self.fill(cast("Service", seen.model_dump())))

    def fill(self, seen: Service) -> Service:
        """One service with what this table makes of it. What an earlier table made of it is taken out first.

        The first match of the product that is known already counts, unless the versions differ.
        """
        marks = [one for one in seen["evidence"] if one.startswith(MARK)]
        if marks and all(one.startswith(f"{MARK}{self.version}:") for one in marks):
            return seen  # this table's own work
        plain = without_marks(seen) if marks else seen
        found = _first(self.identifier, plain["service"], plain["port"], plain["product"], tuple(texts_of(plain).items()))
        if found is None or (plain["version"] and found.version and not same_version(plain["version"], found.version)):
            return plain
        return self._filled(plain, found)

    def _filled(self, seen: Service, found: Identity) -> Service:
        fill: dict[str, Any] = {}
        if found.service and not seen["service"]:
            fill["service"] = found.service
        if found.product and not seen["product"]:
            fill["product"] = found.product
        if found.version and not seen["version"]:
            fill["version"] = found.version
        if found.extra and not seen["extra"]:
            fill["extra"] = found.extra
        if found.cpe and not seen["cpes"]:
            fill["cpes"] = [_uri(found.cpe)]
        package = {"distribution": found.distribution, "revision": found.revision}
        facts = {f"{PACKAGE}{name}": value for name, value in package.items() if value and f"{PACKAGE}{name}" not in seen["facts"]}
        if not fill and not facts:
            return seen
        names = sorted((*fill, *(f"{_FACT}{name}" for name in facts)))
        if facts:
            fill["facts"] = dict(sorted((seen["facts"] | facts).items()))
        mark = f"{MARK}{self.version}:{found.rule}={'+'.join(names)}"
        return cast("Service", {**seen, **fill, "evidence": [*seen["evidence"], mark]})


_uri = functools.lru_cache(maxsize=2048)(as_uri)


@functools.lru_cache(maxsize=2048)  # texts of a few hundred bytes, which most hosts of a network share
def _first(identifier: Identifier, service: str, port: int, product: str, texts: tuple[tuple[str, bytes], ...]) -> Identity | None:
    """The first match that is of this product, if one is known."""
    matches = identifier.matches(dict(texts), identifier.groups(service, port, strict=True))
    return next((one for one in matches if same_product(product, one.product)), None)


def without_marks(seen: Service) -> Service:
    """The service as it was before any table touched it."""
    marks = [one for one in seen["evidence"] if one.startswith(MARK)]
    if not marks:
        return seen
    filled = {name for mark in marks for name in mark.partition("=")[2].split("+")}
    plain: dict[str, Any] = {name: _EMPTY[name] for name in filled if name in _EMPTY}
    plain["facts"] = {name: value for name, value in seen["facts"].items() if f"{_FACT}{name}" not in filled}
    return cast("Service", {**seen, **plain, "evidence": [one for one in seen["evidence"] if not one.startswith(MARK)]})


def texts_of(seen: Service) -> dict[str, bytes]:
    """The texts that rules look at, by field; those that it lacks left out."""
    texts = {"banner": seen["banner"]}
    for name, value in seen["facts"].items():
        texts[f"{_FACT}{name}"] = value
    http = seen["http"]
    if http is not None:
        headers = http["headers"]
        texts |= {"title": http["title"], "server": http["server"], "location": http["location"]}
        if headers:
            texts |= {"www_authenticate": headers.get("www-authenticate", ""), "generator": headers.get("x-generator", "")}
            texts["powered_by"] = headers.get("x-powered-by", "")
    return {field: text.encode() for field, text in texts.items() if text}


def same_product(known: str, found: str) -> bool:
    """Whether a rule's product is the known one, which may be said shorter (`Apache`, `Apache httpd`), or none is known."""
    short, long = (" ".join(name.casefold().replace("-", " ").split()) for name in (known, found))
    return not short or short == long or long.startswith(f"{short} ")


def same_version(one: str, other: str) -> bool:
    """Whether two versions only differ in how much they say: `9.2p1` and `9.2p1 Debian 2+deb12u3`."""
    short, long = sorted((one, other), key=len)
    return long == short or long.startswith(f"{short} ")


@functools.cache
def built_in() -> Fingerprints:
    """The table that comes with this package."""
    return Fingerprints(built_in_identifier())
