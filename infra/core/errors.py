"""What can go wrong, said so that a user knows what to do next.

Two control exceptions steer the loop: `Backpressure` (slow down, the record is fine) and `Poison` (this record is bad, it
goes to its DLQ). Everything that a user sees derives from `DriftlineError` and carries the exit code of the command line.
"""

from __future__ import annotations


class DriftlineError(Exception):
    """An error for a person: one clear sentence, and what to do about it."""

    exit_code = 1

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(f"{message} {fix}".strip())
        self.message = message
        self.fix = fix


class BadInput(DriftlineError):
    """The user's input is wrong (exit code 2)."""

    exit_code = 2


class MissingPrerequisite(DriftlineError):
    """Something this machine needs is not there (exit code 3)."""

    exit_code = 3


class Refused(DriftlineError):
    """The pipeline refused: out of scope, over budget (exit code 4)."""

    exit_code = 4


class UnreadableState(DriftlineError):
    """A role's state holds what this version can't read. The role stops (exit code 5: it is not restarted), for the records are good."""

    exit_code = 5

    def __init__(self, key: str, reason: Exception) -> None:
        super().__init__(
            f"The state under the key {key!r} can't be read by this version ({type(reason).__name__}: {str(reason)[:300]}).",
            "Run the version that wrote it, or put a tombstone under this key on the role's state topic: then what was known is forgotten.",
        )


class DamagedState(DriftlineError):
    """The local state can't be read. It is only a cache: it is thrown away and made anew from its topic at the next start."""


class Backpressure(Exception):
    """The next stage can't take more now: keep the record, keep polling, try again after `retry_after` seconds."""

    def __init__(self, retry_after: float, reason: str = "") -> None:
        super().__init__(f"retry after {retry_after:.1f} s" + (f": {reason}" if reason else ""))
        self.retry_after, self.reason = retry_after, reason


class Poison(Exception):
    """This record can't be handled, now or ever: it goes to its DLQ with this reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
