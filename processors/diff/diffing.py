"""The fold of an asset: (state, record) → (state, changes). Pure: time comes from the records alone.

A SweepResult says which ports answered, the HostObservation of the same unit what is behind them. So a port that opens is noted
first (`seen` is None) and told with the observation, as one change with the details. If none comes, the next look tells it without.
"""

from __future__ import annotations

from dataclasses import dataclass

from infra.core.settings import DifferSettings
from processors.diff.draft import HOUR, Draft, Key, forgetting, new_asset
from processors.diff.services import certificate_of, describe, differences, evidence_of, merge, merge_path, path_moved, refine, show_path
from processors.diff.votes import Look, Verdict, as_of, cast_vote, outvoted
from processors.enrich.fingerprints import Fingerprints
from schemas.plain import Asset, Change, Observation, Service, ServiceState, moment, service_on

TICK_GRACE = HOUR


@dataclass(frozen=True, slots=True)
class Folded:
    """What a record did to an asset. `asset` is None where there still is none; `suspects` are ports to be looked at again."""

    asset: Asset | None
    changes: tuple[Change, ...] = ()
    suspects: tuple[int, ...] = ()


def fold_look(asset: Asset | None, look: Look, settings: DifferSettings) -> Folded:
    """Port states of one host as one unit found them."""
    if asset is None and not look.host["answered"]:
        return Folded(None)
    start = asset or new_asset(look.sweep["zone"], look.host["address"], look.sweep["subnet"], look.at)
    draft = Draft(start, look.at, (look.unit_id,))
    _pass_time(draft, look.at, settings)  # what was due before this look, whether or not a tick has told it
    for service in draft.pending():
        if service["unit_id"] != look.unit_id and service["last_seen"] < look.at:  # not by an old look that is read again
            _announce(draft, service, service_on(service["port"], service["transport"]), settings)
    for port in look.host["answered"]:
        _answered(draft, (look.transport, port), look.at, look.unit_id, settings, port in look.first)
    suspects, closed = [], False
    for service in draft.in_order():
        if service["transport"] == look.transport and service["status"] != "closed":
            voted = cast_vote(service, look, settings)
            if voted is not service and outvoted(voted, settings):
                _close(draft, voted, settings)
                closed = True
            elif voted is not service:
                draft.put({**voted, "status": "suspected"})
                suspects.append(service["port"])
    newest = look.at >= draft.last_looked  # an old look that is read again can't bring a host back
    _note_look(draft, look)
    if newest and look.alive and not draft.up and not draft.pending():
        draft.tell_up()
    elif closed and not look.alive:
        _down_if_empty(draft)
    _stale(draft, look.at, settings)
    _tell_impact(draft, asset, look)
    return Folded(draft.done(settings), tuple(draft.changes), tuple(suspects))


def _tell_impact(draft: Draft, asset: Asset | None, look: Look) -> None:
    """Tell what stopped answering while it was probed; an old look that is read again tells nothing."""
    if asset is not None and look.at <= asset["last_looked"]:
        return
    for port in look.impact:
        words = f"{look.transport}/{port} stopped answering while it was probed"
        draft.tell("suspected_impact", words, draft.services.get((look.transport, port)), evidence=(look.unit_id,))


def fold_observation(asset: Asset | None, seen: Observation, table: Fingerprints, settings: DifferSettings) -> Folded:
    """What one unit learnt about one host. `seen` is enriched with `table`; what was known is enriched anew before they are compared."""
    if asset is None and not seen["services"]:
        return Folded(None)
    at, unit_id = seen["observed_at"], seen["unit_id"]
    draft = Draft(asset or new_asset(seen["zone"], seen["address"], seen["subnet"], at), at, (seen["observation_id"], unit_id))
    if asset is not None and not _current(asset, seen):
        return Folded(asset)  # an old one, come late or twice
    draft.names = seen["names"] or draft.names
    found = {(one["transport"], one["port"]): one for one in seen["services"]}
    for key in sorted(found):
        _answered(draft, key, at, unit_id, settings)
    draft.note_seen(at)
    for service in draft.pending():
        key = (service["transport"], service["port"])
        _announce(draft, service, found.pop(key) if key in found else service_on(service["port"], service["transport"]), settings)
    for key in sorted(found):
        known = draft.services.get(key)
        if known and known["status"] == "open" and (known["unit_id"] == unit_id or as_of(known) <= at):
            _compare(draft, known, found[key], table)
    _fold_path(draft, seen)
    return Folded(draft.done(settings), tuple(draft.changes))


def _current(asset: Asset, seen: Observation) -> bool:
    """Whether an observation is of the last unit that saw the host, or newer."""
    if seen["observed_at"] >= asset["last_seen"]:
        return True
    return any(one["unit_id"] == seen["unit_id"] and one["last_seen"] >= asset["last_seen"] for one in asset["services"])


def fold_time(asset: Asset, minute: int, settings: DifferSettings) -> Folded:
    """What happens when nothing happens: flapping ends, a host that was not seen for long is down.

    A tick may run ahead of `probes` by a backlog; an hour's grace keeps the order of the two from mattering.
    """
    draft = Draft(asset, minute - TICK_GRACE, ())
    _pass_time(draft, minute - TICK_GRACE, settings)
    return Folded(draft.done(settings), tuple(draft.changes))


def _answered(draft: Draft, key: Key, at: int, unit_id: str, settings: DifferSettings, first: bool = False) -> None:
    """The port answered: a new service or a closed one opens, a suspected one is cleared. `first`: no look at it was taken before."""
    service = draft.services.get(key)
    if service is None:
        if draft.room():
            draft.put(_fresh(key, at, unit_id, first))
        return
    if at <= as_of(service):
        return
    answered: ServiceState = {**service, "status": "open", "votes": [], "last_seen": at, "unit_id": unit_id}
    if service["status"] == "closed":
        answered = {**answered, "seen": None, "baseline": False, "transitions": forgetting(service["transitions"], at, settings)}
    draft.put(answered)


def _fresh(key: Key, at: int, unit_id: str, first: bool) -> ServiceState:
    """A service that is seen for the first time, and not told yet."""
    return {
        "port": key[1],
        "transport": key[0],
        "status": "open",
        "seen": None,
        "first_seen": at,
        "last_seen": at,
        "votes": [],
        "transitions": [at],
        "flapping": False,
        "unit_id": unit_id,
        "baseline": first,
    }


def _announce(draft: Draft, service: ServiceState, seen: Service, settings: DifferSettings) -> None:
    """Tell that a service opened, with what is known of it; or that it flaps; or, while it flaps, nothing."""
    if not draft.up:
        draft.tell_up()
    flaps = service["flapping"] or len(service["transitions"]) >= settings.flap_transitions
    seen = draft.fitting(service, seen)
    draft.put({**service, "seen": seen, "flapping": flaps})
    if not flaps:
        draft.tell("service_opened", f"{_where(service)} opened: {describe(seen)}", service, after=seen)
    elif not service["flapping"]:
        draft.tell("service_flapping", f"{_where(service)} keeps opening and closing", service, after=seen)


def _close(draft: Draft, service: ServiceState, settings: DifferSettings) -> None:
    transitions = forgetting(service["transitions"], service["votes"][-1]["at"], settings)
    flaps = service["flapping"] or len(transitions) >= settings.flap_transitions
    units, seen = [vote["unit_id"] for vote in service["votes"]], service["seen"]
    draft.put({**service, "status": "closed", "votes": [], "transitions": transitions, "flapping": flaps})
    if not flaps:
        draft.tell("service_closed", f"{_where(service)} closed: {describe(seen)}", service, before=seen, evidence=units)
    elif not service["flapping"]:
        draft.tell("service_flapping", f"{_where(service)} keeps opening and closing", service, after=seen, evidence=units)


def _where(service: ServiceState) -> str:
    return f"{service['transport']}/{service['port']}"


def _compare(draft: Draft, service: ServiceState, new: Service, table: Fingerprints) -> None:
    """Tell what differs between what was known of a service and what was seen now."""
    seen = service["seen"]
    if seen is None or (new == seen and evidence_of(new, new, new) == new["evidence"]):
        return  # nothing is known of it, or nothing else than before
    old = table.fill(seen)
    # What the texts that are left say counts: a look without them (an import) takes back no package's revision.
    merged = draft.fitting(service, table.fill(merge(old, new)))
    differs, swapped = differences(old, merged), certificate_of(old) != certificate_of(merged) and bool(certificate_of(old))
    draft.put({**service, "seen": merged if differs or swapped else refine(old, merged)})
    if differs:
        words = f"{_where(service)} changed ({', '.join(differs)}): {describe(old)} → {describe(merged)}"
        draft.tell("service_changed", words, service, before=old, after=merged)
    if swapped:
        words = f"{_where(service)} presents another certificate{_presented(merged)}"
        draft.tell("certificate_changed", words, service, before=old, after=merged)


def _fold_path(draft: Draft, seen: Observation) -> None:
    if not seen["path"]:
        return
    old, path = draft.path, merge_path(draft.path, seen["path"])
    draft.path = path
    if old is not None and path_moved(old, seen["path"]):
        draft.tell("path_changed", "the path to the host changed", paths=(show_path(old), show_path(path)))


def _pass_time(draft: Draft, now: int, settings: DifferSettings) -> None:
    """Do what was due up to now in the order in which it was due, so that it does not matter how often time is told."""
    _settle_flapping(draft, min(now, draft.last_seen + settings.stale_hours * HOUR), settings)
    _stale(draft, now, settings)
    _settle_flapping(draft, now, settings)


def steady_at(service: ServiceState, now: int, settings: DifferSettings) -> int:
    """When a service that flaps counts as steady, if it stays as it is."""
    return service["transitions"][-1] + settings.flap_hours * HOUR if service["transitions"] else now


def _settle_flapping(draft: Draft, now: int, settings: DifferSettings) -> None:
    """A service that was steady for `flap_hours` flaps no more: tell what it settled on."""
    due = [(steady_at(service, now, settings), service) for service in draft.in_order() if service["flapping"]]
    for steady, service in sorted(due, key=lambda one: one[0]):
        if steady > now:
            break
        draft.put({**service, "flapping": False, "transitions": service["transitions"][-1:]})
        words = f"{_where(service)} is steady again:"
        if service["status"] == "closed":
            draft.tell("service_closed", f"{words} closed", service, before=service["seen"], at=steady)
            if draft.last_looked > draft.last_seen:
                _down_if_empty(draft, steady)
        elif service["seen"] is not None:
            draft.tell("service_opened", f"{words} open", service, after=service["seen"], at=steady)


def _note_look(draft: Draft, look: Look) -> None:
    """When the host was last looked at and seen. Only a look at ports known on it counts: silence elsewhere means nothing."""
    known = [one for one in draft.services.values() if one["transport"] == look.transport]
    left = [one for one in known if one["status"] != "closed"]
    if look.alive:
        draft.note_seen(look.at)
    if any(look.verdict(service["port"]) is not Verdict.UNKNOWN for service in left or known):
        draft.note_looked(look.at, look.recall)


def _down_if_empty(draft: Draft, at: int | None = None) -> None:
    """The host is down when no service is left on it; not while one flaps, else the host would flap with it."""
    if draft.up and all(one["status"] == "closed" and not one["flapping"] for one in draft.services.values()):
        draft.tell_down("its last service fell silent", at=at)


def _stale(draft: Draft, now: int, settings: DifferSettings) -> None:
    """A host that was looked at, yet not seen for `stale_hours`, is down, and its services with it."""
    due = draft.last_seen + settings.stale_hours * HOUR
    if not draft.up or draft.last_looked <= draft.last_seen or due > now:
        return
    for service in draft.in_order():
        if service["status"] != "closed":
            draft.put({**service, "status": "closed", "votes": [], "flapping": False, "transitions": [due]})
            words = f"{_where(service)} was not seen for {settings.stale_hours} hours"
            draft.tell("service_closed", words, service, before=service["seen"], at=due)
    draft.tell_down(f"it was not seen for {settings.stale_hours} hours", at=due)


def _presented(service: Service) -> str:
    """Which certificate a service presents, in words."""
    certificate = service["tls"]["certificate"] if service["tls"] else None
    return f": {certificate['subject']}, valid until {moment(certificate['not_after']):%Y-%m-%d}" if certificate else ""
