"""The read calls of a Confluent schema registry, so that an unmodified deserialiser finds Driftline's schemas. Pure.

Source: https://docs.confluent.io/platform/current/schema-registry/develop/api.html. Ids are hashes of the schemas; a subject's
versions are counted from 1, oldest first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import unquote

CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"

Reply = tuple[int, object]


class SchemaCatalog(Protocol):
    """What the endpoint knows of schemas."""

    def by_id(self, id: int) -> str | None:  # noqa: A002
        """The Avro schema's JSON text, or None."""

    def subjects(self) -> Mapping[str, int]:
        """Subject → id of its latest version."""

    def versions(self, subject: str) -> list[int]:
        """Ids of a subject's versions, oldest first; empty for an unknown subject."""


class NoSchemas:
    """The catalog of a store that was given none."""

    def by_id(self, id: int) -> str | None:  # noqa: A002
        """None."""
        del id
        return None

    def subjects(self) -> Mapping[str, int]:
        """Nothing."""
        return {}

    def versions(self, subject: str) -> list[int]:
        """Nothing."""
        del subject
        return []


def is_registry_path(path: str) -> bool:
    """Whether a request's path is the registry's."""
    return path.split("/")[1] in {"schemas", "subjects", "config", "mode"}


def answer(catalog: SchemaCatalog, method: str, path: str, body: bytes) -> Reply:
    """Answer one registry request: HTTP status and the document to send as JSON."""
    parts = [unquote(part) for part in path.strip("/").split("/")]
    if method == "POST" and len(parts) == 2 and parts[0] == "subjects":
        return _lookup(catalog, parts[1], body)
    if method != "GET":
        return 405, _error(405, "This registry only reads: Driftline's schemas are part of its release.")
    match parts:
        case ["schemas", "types"]:
            return 200, ["AVRO"]
        case ["schemas", "ids", number, *rest]:
            return _by_id(catalog, number, rest)
        case ["subjects"]:
            return 200, sorted(catalog.subjects())
        case ["subjects", subject, "versions"]:
            found = catalog.versions(subject)
            return (200, list(range(1, len(found) + 1))) if found else _no_subject(subject)
        case ["subjects", subject, "versions", version, *rest]:
            return _version(catalog, subject, version, rest)
        case ["config"]:
            return 200, {"compatibilityLevel": "BACKWARD"}
        case ["mode"]:
            return 200, {"mode": "READONLY"}
    return 404, _error(404, "HTTP 404 Not Found")


def _error(code: int, message: str) -> dict[str, object]:
    return {"error_code": code, "message": message}


def _no_subject(subject: str) -> Reply:
    return 404, _error(40401, f"Subject '{subject}' not found.")


def _by_id(catalog: SchemaCatalog, number: str, rest: list[str]) -> Reply:
    schema = catalog.by_id(int(number)) if number.isascii() and number.isdigit() and len(number) <= 10 else None
    if schema is None:
        return 404, _error(40403, f"Schema {number} not found")
    places = [
        {"subject": subject, "version": version}
        for subject in sorted(catalog.subjects())
        for version, id_ in enumerate(catalog.versions(subject), start=1)
        if id_ == int(number)
    ]
    match rest:
        case []:
            return 200, {"schema": schema}
        case ["schema"]:
            return 200, json.loads(schema)
        case ["subjects"]:
            return 200, [place["subject"] for place in places]
        case ["versions"]:
            return 200, places
    return 404, _error(404, "HTTP 404 Not Found")


def _version(catalog: SchemaCatalog, subject: str, version: str, rest: list[str]) -> Reply:
    ids = catalog.versions(subject)
    if not ids:
        return _no_subject(subject)
    number = len(ids) if version in {"latest", "-1"} else int(version) if version.isascii() and version.isdigit() else 0
    if number < 1:
        return 422, _error(42202, f"The specified version '{version}' is not a valid version id: it is a number from 1 on, or latest.")
    schema = catalog.by_id(ids[number - 1]) if number <= len(ids) else None
    if schema is None:
        return 404, _error(40402, f"Version {version} not found.")
    if rest == ["schema"]:
        return 200, json.loads(schema)
    return (200, _registered(subject, ids[number - 1], number, schema)) if not rest else (404, _error(404, "HTTP 404 Not Found"))


def _registered(subject: str, id_: int, version: int, schema: str) -> dict[str, object]:
    return {"subject": subject, "id": id_, "version": version, "schema": schema}


def _lookup(catalog: SchemaCatalog, subject: str, body: bytes) -> Reply:
    """POST /subjects/{s}: under which id and version is this schema there? Compared as JSON, so spaces do not matter."""
    ids = catalog.versions(subject)
    if not ids:
        return _no_subject(subject)
    try:
        wanted = json.loads(json.loads(body)["schema"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return 422, _error(42201, "Either the input schema or one of its references is invalid")
    for version, id_ in enumerate(ids, start=1):
        schema = catalog.by_id(id_)
        if schema is not None and json.loads(schema) == wanted:
            return 200, _registered(subject, id_, version, schema)
    return 404, _error(40403, "Schema not found")
