"""When a look that finds the same again is known to change nothing, so that it need not be folded at all. Pure, but for the memory.

The memory changes no outcome: what it lets pass by is what the fold would have left as it is. So it may be forgotten at any time, and a
property test runs every log with it and without it.
"""

from __future__ import annotations

from infra.core.settings import DifferSettings
from processors.diff.diffing import fold_look, fold_observation
from processors.diff.draft import HOUR, MINUTE, steady
from processors.diff.votes import Look, Verdict, as_of
from processors.enrich.fingerprints import Fingerprints
from schemas.plain import Asset, Observation, ServiceState

MOST = 200_000
"""So many looks are remembered, in some 60 MB; then all are forgotten."""


class Settled:
    """Which looks change nothing, as long as the asset's state is the one that they were folded into, and until when."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, int, int, int]] = {}

    def note(self, place: str, at: int, until: int, said: object, state: bytes | None) -> None:
        """A look at `at` (ms since 1970) that says this leaves this state as it is; so does each later one before `until`."""
        if len(self._known) >= MOST:
            self._known.clear()
        self._known[place] = hash(said), hash(state), at, until

    def holds(self, place: str, at: int, said: object, state: bytes | None) -> bool:
        """Whether such a look was noted."""
        known = self._known.get(place)
        return known is not None and known[2] <= at < known[3] and known[1] == hash(state) and known[0] == hash(said)

    def carry(self, place: str, before: bytes | None, after: bytes | None, since: int) -> None:
        """What left the state alone leaves its new version alone too, from `since` on: they differ in nothing that such a look asks."""
        known = self._known.get(place)
        if known is not None and known[1] == hash(before):
            self._known[place] = known[0], hash(after), max(known[2], since), known[3]


def looks_alike(before: Asset, after: Asset) -> bool:
    """Whether a look at ports finds the same here and there: all but details, paths, names and times."""
    return before["up"] == after["up"] and [*map(_ports_alone, before["services"])] == [*map(_ports_alone, after["services"])]


def _ports_alone(service: ServiceState) -> tuple[object, ...]:
    return steady({**service, "seen": None}), service["seen"] is None


def observation_settles(asset: Asset | None, seen: Observation, table: Fingerprints, settings: DifferSettings) -> int | None:
    """Until when (ms since 1970) an observation that says the same changes nothing on the asset that it was folded into.

    None: it may at once.
    """
    if asset is None or not _steady(asset, seen["observed_at"]):
        return None
    status = {(one["transport"], one["port"]): one["status"] for one in asset["services"]}
    if any(status.get((one["transport"], one["port"])) != "open" for one in seen["services"]):
        return None
    again = fold_observation(asset, seen, table, settings)
    return _until(asset, settings) if again.asset is asset and not again.changes else None


def look_settles(asset: Asset | None, look: Look, settings: DifferSettings) -> int | None:
    """The same of a look at ports."""
    if asset is None or look.impact or not look.alive or not asset["up"] or not _steady(asset, look.at):
        return None
    mine = {one["port"]: one["status"] for one in asset["services"] if one["transport"] == look.transport}
    if any(mine.get(port) != "open" for port in look.host["answered"]):
        return None
    if any(status == "open" and not _has_no_vote(look, port, settings) for port, status in mine.items()):
        return None
    again = fold_look(asset, look, settings)
    return _until(asset, settings) if again.asset is asset and not again.changes and not again.suspects else None


def _has_no_vote(look: Look, port: int, settings: DifferSettings) -> bool:
    verdict = look.verdict(port)
    return verdict in (Verdict.ANSWERED, Verdict.UNKNOWN) or (verdict is Verdict.SILENT and look.recall < settings.min_recall)


def _steady(asset: Asset, at: int) -> bool:
    """Nothing is known from after this moment, nothing is in doubt, nothing waits to be told."""
    if at < asset["last_seen"] or at < asset["last_looked"]:
        return False
    return all(
        not one["votes"]
        and not one["flapping"]
        and as_of(one) <= at
        and (one["status"] == "closed" or (one["status"] == "open" and one["seen"] is not None))
        for one in asset["services"]
    )


def _until(asset: Asset, settings: DifferSettings) -> int:
    """From then on its times are to be written, or time alone changes it."""
    return min(asset["last_seen"], asset["last_looked"]) + min(settings.seen_minutes * MINUTE, settings.stale_hours * HOUR)
