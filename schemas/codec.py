"""Events to bytes and back: Avro in the Confluent wire format (magic byte 0, schema id in 4 bytes big-endian, Avro binary).

`targets` may also be JSON: whatever does not begin with byte 0 is taken for JSON text of one TargetRequest.
"""

from __future__ import annotations

import functools
import io
import json
import struct
import types
import typing
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import fastavro
from pydantic import BaseModel, ValidationError

from schemas.events.base import Event
from schemas.events.targets import TargetRequest
from schemas.plain import Plain
from schemas.plain_form import named, soundness, without_times
from schemas.release import current_schema, released, schema_id
from schemas.topics import topic_named
from schemas.wording import what_is_wrong

MAGIC = 0
MOST_JSON = 1 << 19
HEADER = struct.Struct(">bI")
Form = Callable[[Any], Any]
"""What is made of a schema before values are read by it: `_as_it_is` for models, `without_times` for plain data."""


def _as_it_is(value: Any) -> Any:
    return value


class UndecodableError(ValueError):
    """The bytes are not what the topic holds; the message says why."""


class Codec:
    """Encodes and decodes the events of all topics.

    `ids` gives the schema id of a topic (a registry's, or the hash by default), `fetch` the JSON text of a schema by id
    where the released ones don't hold it (a registry's, or nothing).
    """

    def __init__(
        self,
        ids: Mapping[str, int] | None = None,
        fetch: Callable[[int], str | None] = lambda _: None,
        known: Mapping[int, str] | None = None,
    ) -> None:
        self._ids = dict(ids or {})
        self._fetch = fetch
        self._known = dict(known or {})
        self._writers: dict[str, tuple[bytes, Any]] = {}
        self._readers: dict[tuple[int, Form], Any] = {}
        self._current: dict[tuple[str, Form], Any] = {}
        self._numbers: dict[str, int] = {}

    def encode(self, topic: str, event: Event | Plain) -> bytes:
        """The record's value. Raises TypeError for an event that the topic does not hold."""
        name = event.name if isinstance(event, Plain) else type(event).__name__
        models = _models(topic)
        if name not in models:
            raise TypeError(f"{topic} does not hold {name}")
        header, schema = self._writing(topic)
        if isinstance(event, Plain):
            convert = named(models[name])
            plain = convert(event.fields) if convert else event.fields
        else:
            plain = plainly(models[name])(event)
        out = io.BytesIO()
        out.write(header)
        fastavro.schemaless_writer(out, schema, (f"driftline.{name}", plain) if len(models) > 1 else plain)
        return out.getvalue()

    def header(self, topic: str) -> bytes:
        """How a value begins that is written to this topic now: magic byte and schema id."""
        return self._writing(topic)[0]

    def _writing(self, topic: str) -> tuple[bytes, Any]:
        name = topic_named(topic).name
        if name not in self._writers:
            number = self._ids.get(topic, self._number(name))
            self._writers[name] = (HEADER.pack(MAGIC, number), fastavro.parse_schema(current_schema(name)))
        return self._writers[name]

    def decode(self, topic: str, value: bytes) -> Event:
        """The event in a record's value. Raises UndecodableError with the reason."""
        row = topic_named(topic)
        try:
            if row.name == "targets" and value[:1] != b"\0":
                if len(value) > MOST_JSON:
                    raise UndecodableError(f"JSON of {len(value)} bytes is more than a target may have ({MOST_JSON})")
                return TargetRequest.model_validate_json(value)
            name, plain = self._read(row.name, value, _as_it_is)
            return _models(row.name)[name].model_validate(plain)
        except UndecodableError:
            raise
        except ValidationError as error:
            raise UndecodableError(what_is_wrong(error)) from None
        except Exception as error:  # noqa: BLE001  whatever hostile bytes do to the decoder, the record is bad and the role goes on
            raise UndecodableError(f"{type(error).__name__}: {error}") from None

    def read(self, topic: str, value: bytes) -> Plain:
        """The record as plain data, of a topic that holds Avro alone: what `decode` takes is taken here, and nothing else.

        Raises UndecodableError with the reason.
        """
        try:
            name, plain = self._read(topic, value, without_times)
        except UndecodableError:
            raise
        except Exception as error:  # noqa: BLE001  as above
            raise UndecodableError(f"{type(error).__name__}: {error}") from None
        sound = soundness(_models(topic)[name])
        if sound is not None and not sound(plain):
            self.decode(topic, value)
            raise UndecodableError("a value is out of its bounds")  # the model says it better, and got here first
        return Plain(name, plain)

    def _read(self, topic: str, value: bytes, form: Form) -> tuple[str, Any]:
        if len(value) < HEADER.size or value[0] != MAGIC:
            raise UndecodableError("the value is not in the Confluent wire format (magic byte 0, then a 4-byte schema id)")
        _, number = HEADER.unpack_from(value)
        current = self._current.get((topic, form))
        if current is None:
            current = self._current[topic, form] = fastavro.parse_schema(form(current_schema(topic)))
        body = io.BytesIO(value)
        body.seek(HEADER.size)
        # What was written with the current schema is read without resolving one by another: that takes more than half the time.
        ours = number == self._number(topic)
        writer, reader = (current, None) if ours else (self._writer(number, form), current)
        read = fastavro.schemaless_reader(body, writer, reader, return_record_name=True, return_record_name_override=True)
        if body.tell() != len(value):
            raise UndecodableError("bytes are left over after the record")
        models = _models(topic)
        if len(models) == 1:
            return next(iter(models)), read
        if not isinstance(read, tuple):
            raise UndecodableError("the schema is not one of this topic")
        return read[0].rpartition(".")[2], read[1]

    def _number(self, topic: str) -> int:
        """The hash that stands for a topic's current schema; a registry's own number for it is resolved as any other."""
        if topic not in self._numbers:
            self._numbers[topic] = schema_id(current_schema(topic))
        return self._numbers[topic]

    def _writer(self, number: int, form: Form) -> Any:
        if (number, form) not in self._readers:
            entry = released().get(number)
            text = self._known.get(number) or (entry[1] if entry else None) or self._fetch(number)
            if text is None:
                raise UndecodableError(f"no schema has the id {number}")
            self._readers[number, form] = fastavro.parse_schema(form(json.loads(text)))
        return self._readers[number, form]


@functools.cache
def _models(topic: str) -> Mapping[str, type[Event]]:
    """The models of what a topic holds, by name."""
    return {one.__name__: one for one in topic_named(topic).events}


Convert = Callable[[Any], Any]


@functools.cache
def plainly(annotation: Any) -> Convert:
    """What turns a value of this type into what fastavro writes: dicts, lists, numbers, text, aware datetimes.

    Worked out once a type. A record that may be null names its branch of the union, which spares fastavro to try them all.
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return plainly(arguments[0])
    if origin in (typing.Union, types.UnionType):
        (inner,) = (one for one in arguments if one is not type(None))
        return _nullable(inner)
    if origin is tuple:
        item = plainly(arguments[0])
        return list if item is _as_it_is else lambda value: [item(one) for one in value]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _record(annotation)
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return str
    return _as_it_is


def _nullable(inner: Any) -> Convert:
    convert = plainly(inner)
    if isinstance(inner, type) and issubclass(inner, BaseModel):
        name = f"driftline.{inner.__name__}"
        return lambda value: None if value is None else (name, convert(value))
    return convert if convert is _as_it_is else lambda value: None if value is None else convert(value)


def _record(model: type[BaseModel]) -> Convert:
    fields: list[tuple[str, Convert]] = [
        (name, plainly(typing.cast("Any", field.annotation))) for name, field in model.model_fields.items()
    ]
    as_they_are = [name for name, convert in fields if convert is _as_it_is]
    others = [(name, convert) for name, convert in fields if convert is not _as_it_is]

    def convert_all(value: Any) -> dict[str, Any]:
        held = value.__dict__
        found = {name: held[name] for name in as_they_are}
        for name, convert in others:
            found[name] = convert(held[name])
        return found

    return convert_all
