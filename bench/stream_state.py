"""."""

from typing import Any


def state(*a: Any) -> Any: ...
