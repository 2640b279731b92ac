"""The names of the probes that are installed on this machine, to catch a mistyped one before it looks at nothing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from infra.core.errors import BadInput


@cache
def known_probes() -> frozenset[str]:
    """All names. To load the probes takes a second, so that only who names one waits for it."""
    from processors.scan.probe import load_probes

    return frozenset(load_probes())


def check_probes(names: Sequence[str]) -> None:
    """Raise BadInput if one of these is not installed here. Who uses probes of his own installs them where he pushes from, too."""
    unknown = set(names) - known_probes() if names else set()
    if unknown:
        raise BadInput(f"There is no probe '{min(unknown)}' on this machine.", f"There are {', '.join(sorted(known_probes()))}.")
