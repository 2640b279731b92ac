"""What is between Avro's bytes and plain data, worked out from the events' models: times as numbers, bounds, named branches of unions."""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from schemas.events.base import FIRST, LAST, AnyTime, Timestamp
from schemas.plain import milliseconds


def without_times(schema: Any) -> Any:
    """The schema by which times are read as numbers: the same bytes."""
    if isinstance(schema, dict):
        return {key: without_times(value) for key, value in schema.items() if key != "logicalType"}
    return [without_times(one) for one in schema] if isinstance(schema, list) else schema


Test = Callable[[Any], bool]
_SPANS = {
    Timestamp: (milliseconds(FIRST), milliseconds(LAST) - 1),
    AnyTime: (milliseconds(datetime.min.replace(tzinfo=UTC)), milliseconds(datetime.max.replace(tzinfo=UTC))),
}


@functools.cache
def soundness(annotation: Any, bounds: tuple[Any, ...] = ()) -> Test | None:
    """What tells whether a value that Avro's schema has let through is within the model's bounds too; None: there are none.

    Worked out once a type. It says no more than that: what is wrong, and in which words, the model tells.
    """
    if annotation in _SPANS:
        return _within(*_SPANS[annotation])
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return soundness(arguments[0], tuple(arguments[1].metadata if hasattr(arguments[1], "metadata") else arguments[1:]))
    if origin in (typing.Union, types.UnionType):
        inner = soundness(next(one for one in arguments if one is not type(None)))
        return None if inner is None else lambda value: value is None or inner(value)
    if origin is tuple:
        each = soundness(arguments[0])
        return None if each is None else lambda value: not value or all(map(each, value))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _sound_record(annotation)
    low, high = (next((getattr(one, name) for one in bounds if hasattr(one, name)), None) for name in ("ge", "le"))
    return None if low is None or high is None else _within(low, high)


def _within(low: float, high: float) -> Test:
    return lambda value: low <= value <= high


def _sound_record(model: type[BaseModel]) -> Test | None:
    found = [(name, _of_field(field)) for name, field in model.model_fields.items()]
    tests = [(name, test) for name, test in found if test is not None]

    def sound(value: Any) -> bool:
        return all(test(value[name]) for name, test in tests)

    return sound if tests else None


def _of_field(field: Any) -> Test | None:
    """Pydantic takes the outermost `Annotated` apart: its bounds are in the metadata of the field."""
    for known in _SPANS:
        if typing.get_args(known)[1:] == tuple(field.metadata) and typing.get_args(known)[0] is field.annotation:
            return _within(*_SPANS[known])
    return soundness(field.annotation, tuple(field.metadata))


Convert = Callable[[Any], Any]


@functools.cache
def named(annotation: Any) -> Convert | None:
    """What names the branch of each record that may be null, which spares fastavro to try them all; None: there is no such record."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return named(arguments[0])
    if origin in (typing.Union, types.UnionType):
        inner = next(one for one in arguments if one is not type(None))
        convert = named(inner)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            name = f"driftline.{inner.__name__}"
            return lambda value: None if value is None else (name, convert(value) if convert else value)
        return None if convert is None else lambda value: None if value is None else convert(value)
    if origin is tuple:
        item = named(arguments[0])
        return None if item is None else lambda value: [item(one) for one in value]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _named_record(annotation)
    return None


def _named_record(model: type[BaseModel]) -> Convert | None:
    found = [(name, named(typing.cast("Any", field.annotation))) for name, field in model.model_fields.items()]
    fields = [(name, convert) for name, convert in found if convert is not None]
    return (lambda value: {**value, **{name: convert(value[name]) for name, convert in fields}}) if fields else None
