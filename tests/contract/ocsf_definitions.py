"""Checks an event against OCSF's published definitions: known attributes, types, enums, requirements, constraints."""

from __future__ import annotations

import ipaddress
import json
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

ARCHIVE = Path(__file__).parents[3] / "shared" / "data" / "ocsf-1.6.0.tar.gz"
SIMPLE: dict[str, type | tuple[type, ...]] = {
    "string_t": str,
    "integer_t": int,
    "long_t": int,
    "timestamp_t": int,
    "float_t": (int, float),
    "boolean_t": bool,
}
# Their values come from the class and from `observable` marks when the schema is compiled, not from an enum in the files.
COMPILED = {"category_uid", "class_uid", "type_uid"}
TEXTS = {"uuid_t", "hostname_t", "username_t", "email_t", "url_t", "resource_uid_t", "ip_t", "datetime_t", "subnet_t", "file_name_t"}


class Definitions:
    """The definitions of one OCSF version, read from the published archive."""

    def __init__(self, archive: Path) -> None:
        with tarfile.open(archive) as tar:
            files = {m.name.removeprefix("./"): m for m in tar.getmembers() if m.name.endswith(".json")}
            texts = {name: tar.extractfile(member) for name, member in files.items()}
            self._files = {name: json.load(text) for name, text in texts.items() if text is not None}
        self._attributes = self._files["dictionary.json"]["attributes"]
        self._types = self._files["dictionary.json"]["types"]["attributes"]
        self._by_name = {(name.split("/")[0], data["name"]): data for name, data in self._files.items() if "name" in data and "/" in name}

    def problems(self, event: dict[str, Any], kind: str) -> list[str]:
        """What is wrong with an event of this class; empty for a valid one."""
        found = self._check("events", kind, event, kind, set(event["metadata"].get("profiles", [])))
        uid = self._by_name["events", kind]["uid"] + 2000
        if event["class_uid"] != uid or event["type_uid"] != uid * 100 + event["activity_id"] or event["category_uid"] != 2:
            found.append("class_uid, type_uid and category_uid do not fit")
        return found

    def _observables(self) -> set[int]:
        """The observable types: every `observable` number in types, attributes, objects, and attributes of objects."""
        inside = [one for data in self._by_name.values() for one in data.get("attributes", {}).values() if isinstance(one, dict)]
        marked = [*self._types.values(), *self._attributes.values(), *self._by_name.values(), *inside]
        return {one["observable"] for one in marked if isinstance(one.get("observable"), int)}

    def _merged(self, folder: str, name: str, profiles: set[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        data = self._by_name[folder, name]
        attributes: dict[str, Any] = {}
        constraints = dict(data.get("constraints", {}))
        parent = data.get("extends")
        if parent:
            attributes, above = self._merged(folder, parent, profiles)
            constraints = {**above, **constraints}
        for include in data.get("attributes", {}).get("$include", []):
            profile = self._files[include]
            if profile["name"] in profiles:
                attributes |= profile["attributes"]
        for key, value in data.get("attributes", {}).items():
            if key != "$include" and (value.get("profile") is None or value["profile"] in profiles):
                before = attributes.get(key, {})
                enum = {**before.get("enum", {}), **value.get("enum", {})}
                attributes[key] = {**before, **value, **({"enum": enum} if enum else {})}
        return attributes, constraints

    def _check(self, folder: str, name: str, value: dict[str, Any], path: str, profiles: set[str]) -> list[str]:
        attributes, constraints = self._merged(folder, name, profiles)
        if name == "object":
            return []
        found = [f"{path}.{key} is not an attribute" for key in value if key not in attributes]
        found += [
            f"{path}.{key} is missing" for key, one in attributes.items() if one.get("requirement") == "required" and key not in value
        ]
        if "at_least_one" in constraints and not any(key in value for key in constraints["at_least_one"]):
            found.append(f"{path} needs one of {constraints['at_least_one']}")
        if "just_one" in constraints and sum(key in value for key in constraints["just_one"]) != 1:
            found.append(f"{path} needs just one of {constraints['just_one']}")
        for key, one in value.items():
            if key in attributes:
                found += self._attribute(key, attributes[key], one, f"{path}.{key}", profiles)
        return found

    def _attribute(self, key: str, local: dict[str, Any], value: Any, path: str, profiles: set[str]) -> list[str]:
        entry = self._attributes[key]
        if "@deprecated" in local:
            return [f"{path} is deprecated"]
        if entry.get("is_array"):
            if not isinstance(value, list):
                return [f"{path} is not a list"]
            return [problem for n, one in enumerate(value) for problem in self._value(entry, local, one, f"{path}[{n}]", profiles)]
        return self._value(entry, local, value, path, profiles)

    def _value(self, entry: dict[str, Any], local: dict[str, Any], value: Any, path: str, profiles: set[str]) -> list[str]:
        kind = local.get("type", entry["type"])
        if ("objects", kind) in self._by_name:
            return self._check("objects", kind, value, path, profiles) if isinstance(value, dict) else [f"{path} is not an object"]
        expected = SIMPLE.get(kind, str if kind in TEXTS else object)
        if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
            return [f"{path} is not a {kind}"]
        if kind == "ip_t":
            ipaddress.ip_address(str(value))
        enum = {**entry.get("enum", {}), **local.get("enum", {})}
        if path.endswith("].type_id") and ".observables[" in path:
            enum |= {str(mark): {} for mark in self._observables()}
        if path.rpartition(".")[2] in COMPILED:
            return []
        return [f"{path} {value} is not in {sorted(enum)}"] if enum and str(value) not in enum else []


@cache
def definitions() -> Definitions:
    """The published definitions of OCSF 1.6.0."""
    return Definitions(ARCHIVE)
