"""The first fields of an encoded IntelRecord, read and written without the rest, which is a hundred times as large.

A record in Avro is its fields one after another (Avro 1.12, "Records"), so that a schema of the first ones reads just these, and new ones
may be put before the same rest. Of a value that another version wrote nothing is known here: it is to be read whole.
"""

from __future__ import annotations

import functools
import io
from typing import Any, NamedTuple

import fastavro

from schemas.plain_form import without_times
from schemas.release import current_schema

START = 5
"""Bytes before the record: the magic byte and the schema's id."""
EXPLOITED, LISTED, FOUND, CHANGING = "kev", "epss", "products", "sources"
"""Last fields of heads: whether it is exploited; what snapshots list it, and as of when at the latest; its products; what changes daily."""


class Head(NamedTuple):
    """The first fields, and where the rest begins."""

    fields: dict[str, Any]
    end: int


@functools.cache
def _schema(last: str) -> Any:
    whole = without_times(current_schema("intel"))
    names = [one["name"] for one in whole["fields"]]
    return fastavro.parse_schema({**whole, "fields": whole["fields"][: names.index(last) + 1]})


def read_head(value: bytes, header: bytes, last: str) -> Head | None:
    """The fields up to `last`; None if the value does not begin with `header` (`Codec.header`) or is not sound that far."""
    if not value.startswith(header):
        return None
    body = io.BytesIO(value)
    body.seek(START)
    try:
        found: Any = fastavro.schemaless_reader(body, _schema(last), None)
    except Exception:  # noqa: BLE001  whatever hostile bytes do to the decoder: whoever reads the value whole will say
        return None
    return Head(found, body.tell())


def with_head(value: bytes, head: Head, fields: dict[str, Any], last: str = CHANGING) -> bytes:
    """The value with other first fields: those that `read_head` gave, up to the same one."""
    out = io.BytesIO()
    out.write(value[:START])
    fastavro.schemaless_writer(out, _schema(last), fields)
    out.write(memoryview(value)[head.end :])
    return out.getvalue()
