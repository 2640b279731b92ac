"""What one machine knows of grants and freezes without a broker: the files of its scanners, and one of the sweeps by hand.

A sweep keeps there what it was shown, so that a revocation that came as a file is not forgotten. What no scanner of this data folder
heard, and no sweep was shown, nobody can know here.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import IO

from infra.core.errors import Refused
from processors.scan.scope.floors import Floors, load_floors, save_floors
from schemas.events.grants import Grant
from schemas.ids import Network, content_id
from schemas.scope import GrantBook


def sweeps_floors(data_dir: Path) -> Path:
    """The file of the sweeps by hand."""
    return data_dir / "sweep" / "floors.json"


class Remembered:
    """The files of one data folder. `frozen`: what each of them holds for frozen."""

    def __init__(self, data_dir: Path) -> None:
        self._folder, self._own = data_dir, sweeps_floors(data_dir)
        self._stamps: dict[Path, tuple[int, int, int]] = {}
        self.frozen: dict[Path, tuple[Network, ...]] = {}

    def changed(self) -> bool:
        """Whether any file is another than when they were read last."""
        return self._stamps != self._look()

    def read(self) -> Floors:
        """What they say together. Raises MissingPrerequisite for a damaged one."""
        self._stamps = self._look()  # before they are read: a change meanwhile is seen the next time
        read = {path: load_floors(path) for path in self._stamps}
        self.frozen = {path: one.frozen for path, one in read.items() if one.frozen}
        return together(read.values())

    def keep(self, grant: Grant, now: datetime) -> None:
        """Remember a grant that is believed, also over a restart. Raises OSError."""
        self._own.parent.mkdir(parents=True, exist_ok=True)
        with self._own.with_name("floors.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            saved = load_floors(self._own)
            known = together((saved, Floors({grant.grant_id: grant.revision}, {grant.grant_id: grant})))
            if known != saved:
                lasting = {name: one for name, one in known.grants.items() if one.expires_at > now}
                save_floors(self._own, Floors(known.revisions, lasting))

    def alone(self, grant_id: str) -> IO[str]:
        """A lock that one sweep under this grant has, until it is closed or the process ends. Raises Refused if another has it."""
        self._own.parent.mkdir(parents=True, exist_ok=True)
        lock = (self._own.parent / f"{content_id('grant', grant_id)}.lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise Refused(
                f"Another sweep under grant {grant_id} runs on this machine, and a grant's budgets are for all of them together.",
                "Wait until it has ended.",
            ) from None
        return lock

    def _look(self) -> dict[Path, tuple[int, int, int]]:
        found = {}
        for path in (*sorted(self._folder.glob("scanner-*/floors.json")), self._own):
            try:
                seen = path.stat()
            except OSError:
                continue
            found[path] = seen.st_ino, seen.st_mtime_ns, seen.st_size
        return found


def together(many: Iterable[Floors]) -> Floors:
    """What they say together: of each grant the highest revision, and all that is frozen. Pure."""
    revisions: dict[str, int] = {}
    grants: dict[str, Grant] = {}
    frozen: dict[Network, None] = {}
    for one in many:
        revisions |= {name: max(number, revisions.get(name, 0)) for name, number in one.revisions.items()}
        grants |= {name: grant for name, grant in one.grants.items() if name not in grants or _rank(grant) > _rank(grants[name])}
        frozen |= dict.fromkeys(one.frozen)
    return Floors(revisions, grants, tuple(frozen))


def teach(book: GrantBook, floors: Floors) -> None:
    """Let a book know what is remembered; signatures are checked. No revision below the highest is believed any more."""
    for name, number in floors.revisions.items():
        book.floors[name] = max(number, book.floors.get(name, 0))
    for grant in floors.grants.values():
        book.learn(grant)


def overtaken(book: GrantBook, grant: Grant) -> str | None:
    """Why a grant that was believed counts no more: a later revision of it is known. Pure."""
    known = book.known.get(grant.grant_id)
    if known is not None and known.grant.revoked:
        return f"grant {grant.grant_id} was revoked"
    highest = book.floors.get(grant.grant_id, 0)
    return f"grant {grant.grant_id} was replaced by revision {highest}" if highest > grant.revision else None


def _rank(grant: Grant) -> tuple[int, int]:
    return grant.revision, len(grant.cosignatures)
