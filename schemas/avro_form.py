"""The Avro schema of an event, derived from its pydantic model, so that the two can't drift.

Avro 1.12: records, enums, arrays, maps, unions with null first, and the logical type timestamp-millis. `python -m schemas.release` writes
the `.avsc` files; a contract test fails when they are not what the models say.
"""

from __future__ import annotations

import json
import types
import typing
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

NAMESPACE = "driftline"
FOLDER = Path(__file__).parent / "avro"
Schema = Any
PRIMITIVES: dict[type, str] = {str: "string", bool: "boolean", int: "long", float: "double", bytes: "bytes"}


def avro_schema(model: type[BaseModel]) -> Schema:
    """The Avro record of a model, nested types spelled out where they first occur."""
    return _record(model, set())


def avro_union(models: tuple[type[BaseModel], ...]) -> Schema:
    """The schema of a topic: one record, or a top-level union of several that may share nested types."""
    seen: set[str] = set()
    records = [_record(model, seen) for model in models]
    return records[0] if len(records) == 1 else records


def _record(model: type[BaseModel], seen: set[str]) -> Schema:
    if model.__name__ in seen:
        return f"{NAMESPACE}.{model.__name__}"
    seen.add(model.__name__)
    doc = (model.__doc__ or "").strip().split("\n\n")[0]
    fields = [_field(name, field, seen) for name, field in model.model_fields.items()]
    return {"type": "record", "name": model.__name__, "namespace": NAMESPACE, "doc": " ".join(doc.split()), "fields": fields}


def _field(name: str, field: FieldInfo, seen: set[str]) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": name, "type": _type(field.annotation, seen)}
    if field.description:
        entry["doc"] = field.description
    default = field.get_default(call_default_factory=True, validated_data={})
    if default is not PydanticUndefined:
        entry["default"] = _plain(default)
    return entry


def _plain(default: Any) -> Any:
    if isinstance(default, BaseModel):
        return {name: _plain(getattr(default, name)) for name in type(default).model_fields}
    if isinstance(default, Enum):
        return default.value
    return list(default) if isinstance(default, tuple) else default


def _type(annotation: Any, seen: set[str]) -> Schema:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(arguments[0], seen)
    if origin in (typing.Union, types.UnionType):
        return ["null", *(_type(one, seen) for one in arguments if one is not type(None))]
    if origin is tuple:
        return {"type": "array", "items": _type(arguments[0], seen)}
    if origin is dict:
        return {"type": "map", "values": _type(arguments[1], seen)}
    return _leaf(annotation, seen)


def _leaf(annotation: Any, seen: set[str]) -> Schema:
    if issubclass(annotation, BaseModel):
        return _record(annotation, seen)
    if issubclass(annotation, Enum):
        if annotation.__name__ in seen:
            return f"{NAMESPACE}.{annotation.__name__}"
        seen.add(annotation.__name__)
        return {"type": "enum", "name": annotation.__name__, "namespace": NAMESPACE, "symbols": [one.value for one in annotation]}
    if issubclass(annotation, datetime):
        return {"type": "long", "logicalType": "timestamp-millis"}
    return PRIMITIVES[annotation]


def as_text(schema: Schema) -> str:
    """The form in which a schema is committed."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
