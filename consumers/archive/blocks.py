"""The fast way of the two topics with the most rows: Avro to Arrow columns without a Python object a row. Pure.

`schemas.rows` stays the one truth: these columns are tested to equal its rows, and whatever is unusual in a record (bytes left
over, a number out of range, an address that is none, another schema) sends it there, where it is taken or set aside with its
reason. So this module never says that a record is bad; it only says that it is not sure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fastavro.schema import expand_schema
from pyruhvro import deserialize_array

from consumers.archive.avrosize import encoded_size
from schemas.codec import HEADER, Codec
from schemas.events.base import FIRST, LAST
from schemas.release import current_schema, without_docs
from schemas.rows import address

FieldPath = tuple[str, ...]
MILLISECONDS = pa.timestamp("ms")
_COMPARED: dict[str, tuple[FieldPath, Any]] = {
    "service": (("service",), ""),
    "product": (("product",), ""),
    "version": (("version",), ""),
    "certificate_sha256": (("tls", "certificate", "sha256"), ""),
}
_SEEN: dict[str, tuple[FieldPath, Any]] = {
    "port": (("port",), None),
    "transport": (("transport",), None),
    **_COMPARED,
    "cpes": (("cpes",), None),
    "facts": (("facts",), None),
    "tls_version": (("tls", "version"), ""),
    "tls_outdated": (("tls", "outdated"), None),
    "certificate_subject": (("tls", "certificate", "subject"), ""),
    "certificate_not_after": (("tls", "certificate", "not_after"), None),
    "http_status": (("http", "status"), 0),
    "http_title": (("http", "title"), ""),
    "banner": (("banner",), None),
    "evidence": (("evidence",), None),
}
_HOST = ("observation_id", "unit_id", "run_id", "zone", "subnet", "address", "grant_id", "agent_id", "attempt", "names", "observed_at")
_CHANGE = ("change_id", "kind", "zone", "address", "subnet", "revision", "port", "transport", "summary", "evidence_ids", "observed_at")
# Narrower than Avro's long: a number that does not fit is refused here, as ClickHouse refuses it there.
_NARROW = {"port": pa.uint16(), "http_status": pa.uint16(), "attempt": pa.uint32(), "revision": pa.uint64()}
_IPV4 = r"^((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])$"
OUR_TIMES = (round(FIRST.timestamp() * 1000), round(LAST.timestamp() * 1000) - 1)
ANY_TIMES = (-62_135_596_800_000, 253_402_300_799_999)  # the years 1 to 9999, which is what a Python datetime holds


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of one table in columns, and the messages that they were made of."""

    table: str
    rows: pa.Table
    messages: list[Any]


class Unsure(ValueError):
    """Something is unusual in these records: take the slow way."""


@dataclass(frozen=True, slots=True)
class _Form:
    """One type of event: the bytes that its records begin with, its schema twice (as the decoder wants it, and without names)."""

    start: bytes
    text: str
    flat: Any
    branch: int | None


class Columns:
    """Turns the values of records into tables of rows. Knows `probes` (of it the host observations) and `changes`."""

    def __init__(self, codec: Codec) -> None:
        self._forms = {"probes": _form(codec, "probes", 1), "changes": _form(codec, "changes", None)}

    def takes(self, topic: str, value: bytes) -> bool:
        """Whether records that begin like this one may go the fast way."""
        return topic in self._forms and value.startswith(self._forms[topic].start)

    def table(self, topic: str, values: Sequence[bytes], recorded_ms: Sequence[int]) -> tuple[str, pa.Table]:
        """The name of the table, and the rows of these records, which Kafka appended at these times (milliseconds). Raises Unsure."""
        form = self._forms[topic]
        try:
            events = _decoded(form, values)
            times = pa.array(recorded_ms, pa.int64()).cast(MILLISECONDS)
            return ("observations", _observations(events, times)) if topic == "probes" else ("changes", _changes(events, times))
        except (pa.ArrowException, ValueError, OverflowError) as error:
            raise Unsure(str(error)) from None


def _form(codec: Codec, topic: str, branch: int | None) -> _Form:
    schema = without_docs(current_schema(topic))
    header = codec.header(topic)
    # The decoder wants a record: around the union one is put that takes no byte. Avro has the branch's number zigzag.
    around = {"type": "record", "name": "Around", "fields": [{"name": "event", "type": schema}]}
    flat: Any = expand_schema(schema)
    if branch is None:
        return _Form(header, json.dumps(around), flat, None)
    return _Form(header + bytes([2 * branch]), json.dumps(around), flat[branch], branch)


def _decoded(form: _Form, values: Sequence[bytes]) -> pa.StructArray:
    """The events of these values as one array. Raises ValueError, also where bytes are left over."""
    events = deserialize_array([value[HEADER.size :] for value in values], form.text).column(0)
    if form.branch is not None:
        events = events.field(form.branch)
    events.validate(full=True)  # the decoder lets bytes through that are no UTF-8
    size = encoded_size(form.flat, events, len(events))
    if len(events) != len(values) or size != sum(map(len, values)) - len(form.start) * len(values):
        raise Unsure("bytes are left over, or lengths are written in more bytes than they need")
    return events


def _observations(hosts: pa.StructArray, times: pa.Array) -> pa.Table:
    services = hosts.field("services")
    parents, seen = pc.list_parent_indices(services), services.flatten()
    _check_addresses(hosts.field("address"))
    _check_times(hosts.field("observed_at"), *OUR_TIMES)
    _check_ttl(hosts.field("path").flatten())
    _check_service(seen)
    found = {name: hosts.field(name).take(parents) for name in _HOST}
    found |= {name: _at(seen, path, default) for name, (path, default) in _SEEN.items()}
    return _narrowed({**found, "recorded_at": times.take(parents)})


def _changes(changes: pa.StructArray, times: pa.Array) -> pa.Table:
    _check_addresses(changes.field("address"))
    _check_times(changes.field("observed_at"), *OUR_TIMES)
    found = {name: changes.field(name) for name in _CHANGE}
    for side in ("before", "after"):
        seen = changes.field(side)
        _check_service(seen)
        found |= {f"{name}_{side}": _at(seen, path, default) for name, (path, default) in _COMPARED.items()}
    return _narrowed({**found, "recorded_at": times})


def _at(array: pa.StructArray, path: FieldPath, default: Any) -> pa.Array:
    """What stands at a path below each value; `default` where a part of the path is absent. An absent list is empty already."""
    for name in path:
        array = array.field(name)
    return array if default is None else array.fill_null(default)


def _narrowed(columns: Mapping[str, pa.Array]) -> pa.Table:
    return pa.table({name: column.cast(_NARROW[name]) if name in _NARROW else column for name, column in columns.items()})


def _check_addresses(array: pa.Array) -> None:
    """Raises ValueError for what is no address, as `schemas.rows` does."""
    for text in pc.unique(array.filter(pc.invert(pc.match_substring_regex(array, _IPV4)))).to_pylist():
        address(text)


def _check_times(array: pa.Array, first: int, last: int) -> None:
    _check_range(array.cast(pa.int64()), first, last)


def _check_ttl(hops: pa.StructArray) -> None:
    _check_range(hops.field("ttl"), 1, 255)


def _check_service(seen: pa.StructArray) -> None:
    """What the event's model refuses of a service, and a map that names a key twice, of which one value must win."""
    _check_range(seen.field("port"), 1, 65535)
    certificate = seen.field("tls").field("certificate")
    for name in ("not_before", "not_after"):
        _check_times(certificate.field(name), *ANY_TIMES)
    facts = seen.field("facts")
    lengths = np.diff(np.asarray(facts.offsets))
    if len(lengths) and lengths.max() > 1:
        keys = facts.keys.dictionary_encode()
        places = np.repeat(np.arange(len(lengths)), lengths) * len(keys.dictionary) + np.asarray(keys.indices)
        if len(np.unique(places)) != len(places):
            raise Unsure("a fact is told twice")


def _check_range(array: pa.Array, first: int, last: int) -> None:
    ends = pc.min_max(array).as_py()
    if ends["min"] is not None and not (first <= ends["min"] and ends["max"] <= last):
        raise Unsure(f"a number is not in {first}..{last}")
