"""Schema ids and the history of released schemas.

Without a registry the id of a schema is the first 4 bytes, big-endian, & 0x7fffffff, of SHA-256 over its RFC 8785 JSON without
docs. Every schema that was ever released stays under `schemas/avro/history/<topic>/<id>.avsc`: readers decode old records with it,
the compatibility test reads it.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import rfc8785

from schemas.avro_form import FOLDER, Schema, as_text, avro_union
from schemas.topics import TOPICS, topic_named

HISTORY = FOLDER / "history"


def without_docs(schema: Schema) -> Schema:
    """The schema with every `doc` left out: documentation may change, the id may not."""
    if isinstance(schema, dict):
        return {key: without_docs(value) for key, value in schema.items() if key != "doc"}
    return [without_docs(one) for one in schema] if isinstance(schema, list) else schema


def schema_id(schema: Schema) -> int:
    """The id of a schema where no registry gives one."""
    return int.from_bytes(hashlib.sha256(rfc8785.dumps(without_docs(schema))).digest()[:4], "big") & 0x7FFFFFFF


@functools.cache
def current_schema(topic: str) -> Schema:
    """What is written to a topic now. Raises KeyError for a topic without a schema."""
    row = topic_named(topic)
    if not row.events:
        raise KeyError(topic)
    return avro_union(row.events)


def avro_topics() -> tuple[str, ...]:
    """The topics that carry Avro, as the table names them."""
    return tuple(topic.name for topic in TOPICS if topic.events)


@functools.cache
def released() -> Mapping[int, tuple[str, str]]:
    """Every schema that was ever released, the committed ones and today's: id → (topic, JSON text without docs)."""
    found: dict[int, tuple[str, str]] = {}
    for file in sorted(HISTORY.glob("*/*.avsc")):
        found[int(file.stem)] = (file.parent.name, file.read_text())
    for topic in avro_topics():
        schema = without_docs(current_schema(topic))
        found.setdefault(schema_id(schema), (topic, json.dumps(schema)))
    return found


class Catalog:
    """The released schemas as a schema registry shows them: subjects are `<topic>-value` (TopicNameStrategy)."""

    def __init__(self, zones: tuple[str, ...] = ("default",), prefix: str = "") -> None:
        self._subjects = {
            f"{prefix}{name}-value": topic
            for topic in avro_topics()
            for name in ([f"work.{zone}" for zone in zones] if topic == "work" else [topic])
        }

    def by_id(self, schema: int) -> str | None:
        """The JSON text of the schema with this id."""
        entry = released().get(schema)
        return entry[1] if entry else None

    def subjects(self) -> Mapping[str, int]:
        """Each subject with the id of its latest schema."""
        return {subject: schema_id(current_schema(topic)) for subject, topic in self._subjects.items()}

    def versions(self, subject: str) -> list[int]:
        """The ids of a subject's schemas, oldest first; empty for a subject that is not there."""
        topic = self._subjects.get(subject)
        if topic is None:
            return []
        latest = schema_id(current_schema(topic))
        order = HISTORY / topic / "order.json"
        known: list[int] = json.loads(order.read_text()) if order.exists() else []
        return [one for one in known if one != latest] + [latest]


def write_all(folder: Path = FOLDER) -> list[Path]:
    """Write the `.avsc` of every topic and keep each new version in the history. Returns what was written."""
    written = []
    for topic in avro_topics():
        schema = current_schema(topic)
        past = folder / "history" / topic
        past.mkdir(parents=True, exist_ok=True)
        number = schema_id(schema)
        order = past / "order.json"
        known: list[int] = json.loads(order.read_text()) if order.exists() else []
        if number not in known:
            order.write_text(json.dumps([*known, number]) + "\n")
        for file, form in ((folder / f"{topic}.avsc", schema), (past / f"{number}.avsc", without_docs(schema))):
            file.write_text(as_text(form))
            written.append(file)
    return written


if __name__ == "__main__":
    write_all()
