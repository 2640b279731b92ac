"""The contracts themselves: committed schemas say what the models say, every example survives the codec, old readers and writers agree."""

from __future__ import annotations

import json
from pathlib import Path

import fastavro
import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.schema import parse

from schemas.avro_form import FOLDER, as_text
from schemas.codec import Codec, UndecodableError, plainly
from schemas.events.assets import SubnetLooks
from schemas.events.base import Event
from schemas.examples import EXAMPLES
from schemas.release import HISTORY, Catalog, avro_topics, current_schema, released, schema_id, without_docs
from schemas.rows import ROWS, rows_of
from schemas.topics import BY_NAME, TOPICS

RELEASED = sorted(HISTORY.glob("*/*.avsc"))


@pytest.mark.parametrize("topic", avro_topics())
def test_the_committed_schema_is_what_the_models_say(topic: str) -> None:
    assert (FOLDER / f"{topic}.avsc").read_text() == as_text(current_schema(topic)), "run: python -m schemas.release"
    number = schema_id(current_schema(topic))
    assert (HISTORY / topic / f"{number}.avsc").read_text() == as_text(without_docs(current_schema(topic)))
    assert json.loads((HISTORY / topic / "order.json").read_text())[-1] == number


@pytest.mark.parametrize("file", RELEASED, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_todays_readers_understand_every_released_schema(file: Path) -> None:
    reader = parse(json.dumps(current_schema(file.parent.name)))
    result = ReaderWriterCompatibilityChecker().get_compatibility(reader, parse(file.read_text()))
    assert result.compatibility is SchemaCompatibilityType.compatible, result.messages


def test_the_compatibility_check_sees_a_break() -> None:
    schema = json.loads(as_text(current_schema("ticks")))
    schema["fields"].append({"name": "new", "type": "string"})
    result = ReaderWriterCompatibilityChecker().get_compatibility(parse(json.dumps(schema)), parse(json.dumps(current_schema("ticks"))))
    assert result.compatibility is SchemaCompatibilityType.incompatible


@pytest.mark.parametrize("file", RELEASED, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_released_schemas_never_change(file: Path) -> None:
    assert schema_id(json.loads(file.read_text())) == int(file.stem)


def test_no_two_released_schemas_share_an_id() -> None:
    numbers = [int(file.stem) for file in RELEASED]
    assert len(numbers) == len(set(numbers)) == len(released())


def test_every_event_of_every_topic_has_an_example() -> None:
    shown = {(topic, type(event)) for topic, event in EXAMPLES}
    assert shown == {(topic.name, event) for topic in TOPICS for event in topic.events}


@pytest.mark.parametrize(("topic", "event"), EXAMPLES, ids=lambda value: value if isinstance(value, str) else type(value).__name__)
def test_examples_survive_the_codec(topic: str, event: Event) -> None:
    codec = Codec()
    value = codec.encode(topic, event)
    assert value[0] == 0
    assert int.from_bytes(value[1:5], "big") == schema_id(current_schema(topic))
    assert codec.decode(topic, value) == event


@pytest.mark.parametrize(("topic", "event"), EXAMPLES, ids=lambda value: value if isinstance(value, str) else type(value).__name__)
def test_cut_and_lengthened_records_are_refused(topic: str, event: Event) -> None:
    value = Codec().encode(topic, event)
    for broken in (value[:-1], value + b"\0", value[:3], b"", b"\1" + value[1:], b"\0\0\0\0\1" + value[5:]):
        with pytest.raises(UndecodableError):
            Codec().decode(topic, broken)


def test_a_record_of_another_topic_is_refused() -> None:
    tick = next(event for topic, event in EXAMPLES if topic == "ticks")
    with pytest.raises(UndecodableError):
        Codec().decode("grants", Codec().encode("ticks", tick))
    with pytest.raises(TypeError):
        Codec().encode("grants", tick)


def test_targets_may_be_json_and_say_what_is_wrong() -> None:
    request = next(event for topic, event in EXAMPLES if topic == "targets")
    assert Codec().decode("targets", request.model_dump_json().encode()) == request
    with pytest.raises(UndecodableError, match="colour"):
        Codec().decode("targets", b'{"request_id": "1", "targets": ["198.18.0.1"], "colour": "red"}')
    with pytest.raises(UndecodableError):
        Codec().decode("targets", b"\xff\xfe")


def test_fastavro_accepts_the_schemas_and_examples_as_written() -> None:
    for topic, event in EXAMPLES:
        schema = fastavro.parse_schema(json.loads((FOLDER / f"{topic}.avsc").read_text()))
        plain = plainly(type(event))(event)
        named = (f"driftline.{type(event).__name__}", plain) if len(BY_NAME[topic].events) > 1 else plain
        assert fastavro.validate(named, schema, raise_errors=True)


@pytest.mark.parametrize(
    ("topic", "event"),
    [one for one in EXAMPLES if type(one[1]) in ROWS],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_rows_of_one_table_have_the_same_columns_whatever_is_filled(topic: str, event: Event) -> None:
    rows = rows_of(event, EXAMPLES[0][1].valid_from)  # type: ignore[attr-defined]
    assert rows or isinstance(event, SubnetLooks), topic
    shapes: dict[str, set[tuple[str, ...]]] = {}
    for table, row in rows:
        shapes.setdefault(table, set()).add(tuple(row))
    assert all(len(one) == 1 for one in shapes.values())


def test_the_catalog_shows_subjects_as_a_registry_does() -> None:
    catalog = Catalog(("default", "dmz"), "blue.")
    subjects = catalog.subjects()
    assert subjects["blue.findings-value"] == schema_id(current_schema("findings"))
    assert {"blue.work.default-value", "blue.work.dmz-value"} <= set(subjects)
    number = catalog.versions("blue.findings-value")[-1]
    assert json.loads(catalog.by_id(number) or "") == without_docs(current_schema("findings"))
    assert catalog.versions("nothing") == []
    assert catalog.by_id(1) is None
