"""Issuing, amending and revoking grants: everything is checked before it is signed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from infra.core.errors import BadInput, Refused
from producers.auditing import Actor, Publish, audit, publish_audited
from producers.grants.keys import SigningKey
from schemas.events.base import PortRange
from schemas.events.grants import Grant, Intensity, Window
from schemas.ids import Network, content_id
from schemas.portset import parse_ports
from schemas.scope import GrantBook, barred, granted_networks, networks_of, standing, translated
from schemas.signing import TrustedSigner, cosign, distrust, flaw, sign, signed_bytes
from schemas.wording import what_is_wrong


@dataclass(frozen=True, slots=True)
class GrantForm:
    """What a person fills in. Ports as text (`22,80-90`), times in UTC; without an id one is made up from the content."""

    networks: tuple[str, ...]
    expires_at: datetime
    exclusions: tuple[str, ...] = ()
    zones: tuple[str, ...] = ("default",)
    tcp_ports: str = "1-65535"
    udp_ports: str = ""
    icmp: bool = False
    path: bool = False
    packets_per_second: int = 200
    per_host_per_second: int = 20
    intrusive: bool = False
    windows: tuple[Window, ...] = ()
    valid_from: datetime | None = None
    reason: str = ""
    grant_id: str = ""


@dataclass(frozen=True, slots=True)
class Desk:
    """Where grants are issued: who is there, whom this machine trusts, which zones there are, the grants so far, and the way out.

    Of the grants: the highest revision that one trusted signer signed, whether or not it waits for a second signature.
    """

    actor: Actor
    signers: tuple[TrustedSigner, ...]
    zones: tuple[str, ...]
    grants: Mapping[str, Grant]
    publish: Publish


@dataclass(frozen=True, slots=True)
class GrantStanding:
    """A grant and, unless it counts now, why it does not."""

    grant: Grant
    problem: str | None


def create_grant(form: GrantForm, key: SigningKey, desk: Desk, now: datetime, *, amend: bool = False) -> Grant:
    """Check, sign and publish a grant; `amend` replaces one of the same id by a higher revision.

    Raises BadInput for a form that is wrong, Refused if this machine does not trust the key for these networks.
    """
    _check(form, desk.zones, now)
    grant_id = form.grant_id or "grant-" + content_id("grant", *form.networks, now.isoformat())[:8]
    before = desk.grants.get(grant_id)
    if before is not None and not amend:
        raise BadInput(f"There is a grant '{grant_id}' already.", f"Choose another id, or replace it: --id {grant_id} --amend.")
    try:
        grant = Grant(
            grant_id=grant_id,
            revision=before.revision + 1 if before else 1,
            zones=form.zones,
            networks=form.networks,
            exclusions=form.exclusions,
            tcp_ports=_ports(form.tcp_ports),
            udp_ports=_ports(form.udp_ports),
            icmp=form.icmp,
            path=form.path,
            intensity=Intensity(
                packets_per_second=form.packets_per_second, per_host_per_second=form.per_host_per_second, intrusive=form.intrusive
            ),
            windows=form.windows,
            valid_from=form.valid_from or now,
            expires_at=form.expires_at,
            reason=form.reason,
            issued_by=desk.actor.name,
            signer=key.name,
        )
    except ValidationError as error:
        raise BadInput(f"{what_is_wrong(error)}.", "Mend the grant.") from None
    detail = f"{', '.join(form.networks)}; tcp {form.tcp_ports or 'none'}; until {grant.expires_at.isoformat()}"
    return _issue(grant, key, desk, "grant.amend" if before else "grant.create", detail, now)


def revoke_grant(grant_id: str, key: SigningKey, desk: Desk, reason: str, now: datetime) -> Grant:
    """Publish the signed word that a grant counts no more. Raises BadInput for an unknown or already revoked one."""
    before = desk.grants.get(grant_id)
    if before is None:
        raise BadInput(f"There is no grant '{grant_id}'.", "See 'driftline grant list'.")
    if before.revoked:
        raise BadInput(f"Grant '{grant_id}' was revoked already.", "Nothing is left to do.")
    update = {"revision": before.revision + 1, "revoked": True, "reason": reason, "issued_by": desk.actor.name, "signer": key.name}
    return _issue(before.model_copy(update=update), key, desk, "grant.revoke", reason, now)


def cosign_grant(grant: Grant, key: SigningKey, desk: Desk, now: datetime) -> Grant:
    """Add a second person's signature to a grant and publish the same revision again.

    Raises BadInput for a grant that needs none of his, Refused if this machine does not trust the key for its networks.
    """
    known = desk.grants.get(grant.grant_id)
    if known is not None and known.revision >= grant.revision and signed_bytes(known) != signed_bytes(grant):
        raise BadInput(
            f"Grant '{grant.grant_id}' has another revision {known.revision} by now.", "Sign that one: name the grant, not a file."
        )
    if grant.revoked:
        raise BadInput(f"Grant '{grant.grant_id}' was revoked.", "Nothing is left to sign.")
    if key.name == grant.signer:
        raise BadInput(f"'{key.name}' has signed grant '{grant.grant_id}' already.", "Another person has to: --as NAME.")
    if distrust(grant, desk.signers, 2) is None:
        raise BadInput(f"Two have signed grant '{grant.grant_id}' already.", "Nothing is left to sign.")
    # Anybody can write to the topic: a signature there that is none is left out.
    fit = tuple(one for one in grant.cosignatures if flaw(grant, one, desk.signers) is None)
    signed = cosign(grant.model_copy(update={"cosignatures": fit}), key.name, key.private)
    problem = distrust(signed, desk.signers) or flaw(signed, signed.cosignatures[-1], desk.signers)
    if problem:
        raise Refused(f"This machine would not believe the grant: {problem}.", "Sign with a key that may grant these networks.")
    detail = f"revision {signed.revision} of '{signed.signer}', signed by '{key.name}' too"
    publish_audited(desk.publish, "grants", signed.grant_id, signed, audit(desk.actor, "grant.sign", signed.grant_id, detail, now))
    return signed


def show_grant(grant: Grant, signers: tuple[TrustedSigner, ...], zones: tuple[str, ...], now: datetime, required: int = 1) -> GrantStanding:
    """One grant, and why it does not count now, if so. `required`: how many signers a grant needs."""
    book = GrantBook(signers, required=required)
    problem = book.learn(grant)
    if problem is None:
        zone = next((one for one in grant.zones if one in zones), zones[0])
        problem = standing(book.known[grant.grant_id], zone, now)
    return GrantStanding(grant, problem)


def _issue(grant: Grant, key: SigningKey, desk: Desk, action: str, detail: str, now: datetime) -> Grant:
    signed = sign(grant.model_copy(update={"signature": "", "cosignatures": ()}), key.private)
    problem = distrust(signed, desk.signers)
    if problem:
        raise Refused(f"This machine would not believe the grant: {problem}.", "Sign with a key that may grant these networks.")
    publish_audited(desk.publish, "grants", signed.grant_id, signed, audit(desk.actor, action, signed.grant_id, detail, now))
    return signed


def _check(form: GrantForm, zones: tuple[str, ...], now: datetime) -> None:
    """Everything that the types do not say. Raises BadInput with one sentence."""
    if not form.networks:
        raise BadInput("A grant without networks allows nothing.", "Name at least one, e.g. --network 198.18.0.0/24.")
    if not form.grant_id.isprintable() or " " in form.grant_id:
        raise BadInput(f"{form.grant_id!r} is no id for a grant.", "Use letters, digits and signs, without spaces.")
    try:
        networks, exclusions = granted_networks(form.networks), [one for each in networks_of(form.exclusions) for one in barred(each)]
    except ValueError as error:
        raise BadInput(str(error), "A network has no bits set behind its prefix.") from None
    for one in exclusions:
        if not any(_inside(way, network) for way in translated(one) for network in networks):
            raise BadInput(f"The exclusion {one} is in no network of the grant, so it would exclude nothing here.", "Correct or drop it.")
    unknown = [zone for zone in form.zones if zone not in zones]
    if unknown or not form.zones:
        raise BadInput(f"There is no zone '{', '.join(unknown)}'.", f"The zones are {', '.join(zones)} (setting 'zones').")
    if not (_ports(form.tcp_ports) or _ports(form.udp_ports) or form.icmp or form.path):
        raise BadInput("The grant allows no port, no ICMP and no path probe.", "Name ports, e.g. --ports 22,80,443.")
    _check_times(form, now)
    if form.per_host_per_second > form.packets_per_second:
        raise BadInput("A single host may not get more packets a second than the whole grant.", "Lower --per-host.")


def _check_times(form: GrantForm, now: datetime) -> None:
    for moment in (form.expires_at, form.valid_from or now):
        if moment.tzinfo is None:
            raise BadInput(f"The time {moment.isoformat()} has no zone.", "Write e.g. 2027-01-31T00:00Z.")
    if form.expires_at <= max(now, form.valid_from or now):
        raise BadInput(f"The grant would have expired at {form.expires_at.isoformat()}.", "Choose an expiry in the future.")
    for span in form.windows:
        if span.from_minute >= span.to_minute or not span.weekdays or not set(span.weekdays) <= set(range(7)):
            raise BadInput("A window needs weekdays and must end after it begins.", "Write it as 'mon-fri 22:00-24:00'.")


def _ports(text: str) -> tuple[PortRange, ...]:
    try:
        return parse_ports(text) if text else ()
    except ValueError as error:
        raise BadInput(str(error), "Write ports as 22,80-90.") from None


def _inside(one: Network, other: Network) -> bool:
    return one.version == other.version and one.subnet_of(other)  # type: ignore[arg-type]
