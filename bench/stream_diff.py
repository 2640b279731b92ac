"""."""

from typing import Any


def diff(*a: Any) -> Any: ...
