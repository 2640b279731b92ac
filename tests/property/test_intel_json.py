"""JSON read piece by piece gives what it gives as a whole, however it is cut into chunks; what is cut short is refused."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from producers.intel.epss import read_epss
from producers.intel.json_stream import JsonStream
from producers.intel.opening import lines
from producers.intel.statements import FeedError

NUMBERS = st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.lists(st.dictionaries(st.text(), VALUES, max_size=4), max_size=5)


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    return (content[start : start + size] for start in range(0, len(content), size))


@given(OBJECTS, st.integers(1, 50), st.booleans(), st.booleans())
def test_values_one_after_another(objects: list[dict[str, object]], size: int, escaped: bool, wide: bool) -> None:
    text = "\n".join(json.dumps(one, ensure_ascii=escaped, indent=2 if wide else None) for one in objects)
    try:
        content = text.encode()
    except UnicodeEncodeError:  # a lone surrogate is no UTF-8
        return
    assert [one for _, one in JsonStream(pieces(content, size)).values()] == objects


@given(OBJECTS, st.dictionaries(st.text("abc"), VALUES | NUMBERS, max_size=3), st.integers(1, 50))
@example([], {"": 0.0}, 1)
@example([], {"": 1e300, "a": -1.5e-7}, 1)
def test_an_object_with_a_long_list(objects: list[dict[str, object]], beside: dict[str, object], size: int) -> None:
    content = json.dumps({**beside, "entries": objects, "last": 1}).encode()
    head, entries = JsonStream(pieces(content, size)).members("entries")
    assert list(entries) == objects
    assert head == {**beside, "last": 1}


@given(OBJECTS, st.integers(1, 50), st.integers(1, 200))
def test_an_object_that_was_cut_is_refused(objects: list[dict[str, object]], size: int, missing: int) -> None:
    content = json.dumps({"entries": objects}).encode()
    _, entries = JsonStream(pieces(content[: max(0, len(content) - missing)], size)).members("entries")
    with pytest.raises(FeedError):
        list(entries)


@given(st.binary(max_size=200), st.integers(1, 50))
def test_any_bytes_are_objects_or_refused(content: bytes, size: int) -> None:
    for reading in (lambda: list(JsonStream(pieces(content, size)).values()), lambda: list(read_epss(lines(pieces(content, size))))):
        try:
            reading()
        except FeedError:
            continue


@given(st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line), max_size=6), st.integers(1, 30))
def test_lines_come_whole(found: list[bytes], size: int) -> None:
    content = b"".join(line + b"\n" for line in found)
    assert list(lines(pieces(content, size))) == [line + b"\n" for line in found]


def test_a_member_that_stands_twice_is_found_in_time_among_many() -> None:
    members = b",".join(b'"%06d":1' % number for number in range(300_000))
    started = time.process_time()
    with pytest.raises(FeedError, match="'299999' stands twice"):
        list(JsonStream(pieces(b'{"entry":{' + members + b',"299999":2}}', 1 << 20)).values())
    assert time.process_time() - started < 30
