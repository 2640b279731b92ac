"""Which services of a partition a record of `intel` concerns: those that it matches now, or did before, and no others.

seen|<name>|<digest>                    what services of a product show (`Terms`), once however many show it
product|<name>|<digest>|<place key>     nothing: the services that show it
matched|<CVE>                           the `<name>|<digest>` that the CVE is told of, as a JSON list

So a record of a product that a million services have costs a verdict for each version of it in use, and then only those services are
judged again whose verdict is, or was, worth a finding.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Iterator

from infra.core.ports import Record, State, read_state
from processors.match.evidence import Seen, Terms, seen, terms_of
from processors.match.matcher import Matcher, telling
from processors.match.matching import Match, keys_of
from processors.match.products import names_of
from schemas.events.intel import IntelRecord
from schemas.events.observations import ServiceObservation

SEEN, MATCHED = "seen|", "matched|"
DIGITS = 16
"""Of a hexadecimal digest: 64 bits, for the few hundred versions of a product."""


def entries_of(service: ServiceObservation) -> tuple[str, ...]:
    """The `<name>|<digest>` of what a service shows, one a product."""
    return _entries(terms_of(service))


@functools.lru_cache(maxsize=1 << 13)
def _entries(terms: Terms) -> tuple[str, ...]:
    digest = hashlib.sha256(json.dumps(terms).encode()).hexdigest()[:DIGITS]
    return tuple(sorted({f"{key.partition(':')[2]}|{digest}" for key, _ in seen(*terms).products}))


def index_place(state: State, place: str, before: Iterable[str], service: ServiceObservation | None) -> tuple[str, ...]:
    """Keep the index of what a place shows; returns its entries, which are `before` the next time."""
    after = entries_of(service) if service is not None else ()
    for entry in set(before) - set(after):
        state.delete(f"product|{entry}|{place}")
    for entry in set(after) - set(before):
        state.put(f"product|{entry}|{place}", b"1")
        if service is not None and state.get(f"{SEEN}{entry}") is None:
            state.put(f"{SEEN}{entry}", json.dumps(terms_of(service)).encode())
    return after


def concerned(state: State, record: Record, matcher: Matcher) -> list[str]:
    """Keys of the places that a record of `intel` matches, or did before. What it is told of from now on is noted."""
    event = record.event if isinstance(record.event, IntelRecord) else None
    before = set(_listed(state, f"{MATCHED}{record.key}"))
    names = {name for key in (keys_of(event) if event else ()) for name in names_of(key)}
    after = {entry for name in sorted(names) for entry, what in _seen(state, name) if event and _tells(matcher, what, event)}
    _keep(state, f"{MATCHED}{record.key}", before, after)
    return sorted({key.split("|", 3)[3] for entry in before | after for key, _ in state.scan(f"product|{entry}|")})


def note(state: State, matches: Iterable[Match], entries: Iterable[str]) -> None:
    """Remember of what a CVE is told, for the day when its record says otherwise."""
    for one in matches:
        name = one.product.partition(":")[2]
        before = set(_listed(state, f"{MATCHED}{one.cve}"))
        _keep(state, f"{MATCHED}{one.cve}", before, before | {entry for entry in entries if entry.partition("|")[0] == name})


def _tells(matcher: Matcher, what: Seen, event: IntelRecord) -> bool:
    found = matcher.match(what, event)
    return found is not None and bool(telling([found]))


def _seen(state: State, name: str) -> Iterator[tuple[str, Seen]]:
    for key, value in state.scan(f"{SEEN}{name}|"):
        cpes, version, builder, revision, systems = read_state(key, value, _terms)
        yield key.removeprefix(SEEN), seen(cpes, version, builder, revision, systems)


def _terms(value: bytes) -> Terms:
    cpes, version, builder, revision, systems = json.loads(value)
    return tuple(cpes), version, builder, revision, systems


def _listed(state: State, key: str) -> list[str]:
    return list(read_state(key, state.get(key) or b"[]", json.loads))


def _keep(state: State, key: str, before: set[str], after: set[str]) -> None:
    if after == before:
        return
    if after:
        state.put(key, json.dumps(sorted(after)).encode())
    else:
        state.delete(key)
