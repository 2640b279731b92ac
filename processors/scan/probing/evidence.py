"""What probes find out about a service, and how the word of several probes becomes one. Pure; everything read is hostile input."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from schemas.events.base import Transport
from schemas.events.observations import HttpFacts, ServiceObservation, TlsFacts

TEXT_LIMIT = 512


@dataclass(frozen=True, slots=True)
class Evidence:
    """One probe's word, or the merged word of several. Empty fields say nothing. Fields as in ServiceObservation."""

    service: str = ""
    product: str = ""
    version: str = ""
    extra: str = ""
    cpes: tuple[str, ...] = ()
    banner: str = ""
    tls: TlsFacts | None = None
    http: HttpFacts | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    sources: tuple[str, ...] = ()


def clean(text: bytes | str, limit: int = TEXT_LIMIT) -> str:
    """Hostile text made safe to keep: UTF-8, no control or direction characters, blanks joined, capped."""
    decoded = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    if decoded.isprintable() and "  " not in decoded:  # nothing to be done, as with nearly all texts
        return decoded.strip()[:limit]
    spaced = re.sub(r"\s+", " ", decoded)
    return "".join(char for char in spaced if unicodedata.category(char)[0] != "C").strip()[:limit]


def merge(known: Evidence, found: Evidence, source: str) -> Evidence:
    """`known` with what `found` adds. What is known stays; version and CPE are only believed for the product they belong to."""
    if found.tls and known.service == "http":
        known = Evidence()  # what a TLS port says in clear text is its complaint about that
    same_product = not known.product or not found.product or same(known.product, found.product)
    merged = replace(
        known,
        service=known.service or clean(found.service, 64),
        product=known.product or clean(found.product, 128),
        version=known.version or (clean(found.version, 128) if same_product else ""),
        extra=known.extra or (clean(found.extra, 256) if same_product else ""),
        cpes=tuple(sorted({*known.cpes, *(clean(one, 256) for one in found.cpes)})) if same_product else known.cpes,
        banner=known.banner or clean(found.banner),
        tls=known.tls or found.tls,
        http=known.http or found.http,
        facts={**{name: clean(value) for name, value in found.facts.items()}, **known.facts},
    )
    return known if merged == known else replace(merged, sources=(*known.sources, source))


def same(one: str, other: str) -> bool:
    """Whether two names stand for one product: equal first words, whatever the case (`Apache`, `Apache httpd`)."""
    return one.casefold().split()[:1] == other.casefold().split()[:1]


def observation(port: int, known: Evidence, transport: Transport = Transport.TCP) -> ServiceObservation:
    """The event's form of what is known of a port."""
    return ServiceObservation(
        port=port,
        transport=transport,
        service=known.service,
        product=known.product,
        version=known.version,
        extra=known.extra,
        cpes=known.cpes,
        banner=known.banner,
        tls=known.tls,
        http=known.http,
        facts=dict(sorted(known.facts.items())),
        evidence=known.sources,
    )
