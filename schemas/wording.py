"""What pydantic found wrong, in sentences for people. Values are not repeated: they may be secrets, or a stranger's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

MOST = 3
FIRST = ("extra_forbidden", "missing")


def what_is_wrong(error: ValidationError, whole: str = "the record") -> str:
    """The first faults in one line, unknown and missing fields before others: a typo is both, and the reason for the rest."""
    found = sorted(error.errors(), key=lambda one: FIRST.index(one["type"]) if one["type"] in FIRST else len(FIRST))
    said = [fault(one, ".".join(str(part) for part in one["loc"]) or whole) for one in found[:MOST]]
    return "; ".join([*said, f"and {len(found) - MOST} more"] if len(found) > MOST else said)


def fault(one: ErrorDetails, name: str) -> str:
    """One fault of the field of this name."""
    if one["type"] == "extra_forbidden":
        return f"there is no field {name!r}"
    if one["type"] == "missing":
        return f"{name!r} is missing"
    words = one["msg"].removeprefix("Value error, ").removeprefix("Input ").replace("a valid tuple", "a list")
    return f"{name}: {words[:1].lower()}{words[1:]}"
