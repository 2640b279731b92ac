"""How many bytes Avro takes for what an Arrow array holds: proves that a column decoder consumed just what it was given.

A decoder of records in columns says nothing of bytes that are left over, or of a length written in more bytes than needed. The
sum of these sizes equals the bytes that came in only if there is neither. Source: Avro 1.12 specification, "Binary encoding".
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MOST_SYMBOLS = 64  # of an enum: the place of each fits into one byte


def encoded_size(schema: Any, array: pa.Array, count: int) -> int:
    """Bytes of the values in `array` in their shortest Avro form; `count` of them are there, the others have no parent.

    Raises ValueError for a type that is not among those of the events.
    """
    kind = schema["type"] if isinstance(schema, dict) and isinstance(schema["type"], str) else schema
    if isinstance(kind, list):
        there = len(array) - array.null_count
        return count + encoded_size(kind[1], array, there)
    if kind == "record":
        return sum(encoded_size(field["type"], array.field(number), count) for number, field in enumerate(schema["fields"]))
    if kind in ("array", "map"):
        lengths = _numbers(pc.list_value_length(array) if kind == "array" else _map_lengths(array))
        held = int(lengths.sum())
        inner = encoded_size(schema["items"], array.values, held) if kind == "array" else _entries(schema, array, held)
        return inner + count + _varints(lengths[lengths > 0])
    if kind == "string":
        lengths = _numbers(pc.binary_length(array))
        return int(lengths.sum()) + _varints(lengths)
    if kind == "enum" and len(schema["symbols"]) <= MOST_SYMBOLS:
        return count
    if kind == "long":
        return _varints(_numbers(array.cast(pa.int64())))
    if kind in ("double", "boolean"):
        return count * (8 if kind == "double" else 1)
    raise ValueError(f"no size is known of {kind}")


def _entries(schema: Any, array: pa.Array, held: int) -> int:
    return encoded_size("string", array.keys, held) + encoded_size(schema["values"], array.items, held)


def _map_lengths(array: pa.Array) -> pa.Array:
    return pa.array(np.diff(np.asarray(array.offsets)))


def _numbers(array: pa.Array) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.asarray(array.drop_null().to_numpy(zero_copy_only=False), dtype=np.int64)


def _varints(values: np.ndarray[Any, np.dtype[np.int64]]) -> int:
    """Bytes of these numbers as zigzag varints."""
    if not len(values):
        return 0
    zigzag = ((values << 1) ^ (values >> 63)).view(np.uint64)
    most, size = int(zigzag.max()), len(values)
    for bits in range(7, 64, 7):
        if most >> bits == 0:
            break
        size += int(np.count_nonzero(zigzag >= np.uint64(1 << bits)))
    return size
