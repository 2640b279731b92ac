"""`driftline grant`: who may probe what. Nothing leaves without a grant."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import typer
from confluent_kafka import Message
from pydantic import ValidationError

from infra.app.output import print_fields, print_json, print_rows, tell
from infra.app.people import now, publisher, require_kafka
from infra.core.errors import BadInput
from infra.core.settings import FRAGILE_PER_HOST, Settings, load_settings
from infra.core.trust import load_signers, signers_path
from infra.kafka.client import Publisher, read_whole, value_of
from infra.kafka.registry import codec_for
from producers.auditing import local_actor
from producers.grants.issuing import Desk, GrantForm, cosign_grant, create_grant, revoke_grant, show_grant
from producers.grants.keys import create_key, load_key
from producers.grants.wording import parse_expiry, parse_window
from schemas.codec import UndecodableError
from schemas.events.base import Event
from schemas.events.grants import Grant
from schemas.portset import show_ports
from schemas.scope import GrantBook
from schemas.wording import what_is_wrong

log = structlog.get_logger()
app = typer.Typer(help="Signed authorisations to probe: create, sign, list, show, revoke.", no_args_is_help=True)
JSON = typer.Option(False, "--json", help="Print JSON on standard output.")
KEY = typer.Option("operator", "--key", help="Name of the signing key.")


@app.command("keygen")
def keygen(
    name: str = typer.Argument("operator", help="Name of the key."),
    networks: list[str] = typer.Option(..., "--network", "-n", help="A network that this key may grant; may be repeated."),  # noqa: B008
) -> None:
    """Make a signing key and trust it on this machine. What it signs counts for these networks only."""
    settings = load_settings()
    key = create_key(settings, name, tuple(networks))
    tell(f"Key '{name}' is made and trusted here for {', '.join(networks)}. Public key: {key.public}")
    tell(f"On another planner's or scanner's machine, add it to the signers file there (here: {signers_path(settings)}).")


@app.command("create")
def create(
    networks: list[str] = typer.Option(..., "--network", "-n", help="A network to allow; may be repeated."),  # noqa: B008
    ports: str = typer.Option("1-65535", "--ports", "-p", help="TCP ports, e.g. 22,80,8000-8100."),
    udp_ports: str = typer.Option("", "--udp-ports", help="UDP ports."),
    exclude: list[str] = typer.Option([], "--exclude", help="A network never to touch; wins over every grant of the zone."),  # noqa: B008
    expires: str = typer.Option("30d", "--expires", help="30d, 12h, or a date."),
    window: list[str] = typer.Option([], "--window", help="Only then, UTC: 'mon-fri 22:00-24:00'; may be repeated."),  # noqa: B008
    zone: list[str] = typer.Option(["default"], "--zone", help="For which zones."),  # noqa: B008
    rate: int = typer.Option(200, "--rate", min=1, help="Most packets a second in all."),
    per_host: int = typer.Option(20, "--per-host", min=1, help="Most packets a second to one host."),
    fragile: bool = typer.Option(False, "--fragile", help="Easily broken hosts: at most 5 packets a second to one."),
    icmp: bool = typer.Option(False, "--icmp", help="Allow ICMP echo."),
    path: bool = typer.Option(False, "--path", help="Allow traceroute."),
    intrusive: bool = typer.Option(False, "--intrusive", help="Allow probes that are marked intrusive."),
    reason: str = typer.Option("", "--reason", "-r", help="Why; kept with the grant."),
    grant_id: str = typer.Option("", "--id", help="Its name; default: made up."),
    amend: bool = typer.Option(False, "--amend", help="Replace the grant of this id."),
    offline: bool = typer.Option(False, "--offline", help="Sign it and print it as JSON; publish nothing, ask no broker."),
    key: str = KEY,
    as_json: bool = JSON,
) -> None:
    """Sign a grant and publish it; or, offline, print it, for 'driftline sweep --grant FILE' on machines without a broker.

    Nobody but who is given the file knows of an offline grant, and nobody can revoke it: let it expire soon.
    """
    settings, at = load_settings(), now()
    form = GrantForm(
        networks=tuple(networks),
        expires_at=parse_expiry(expires, at),
        exclusions=tuple(exclude),
        zones=tuple(zone),
        tcp_ports=ports,
        udp_ports=udp_ports,
        icmp=icmp,
        path=path,
        packets_per_second=rate,
        per_host_per_second=min(per_host, FRAGILE_PER_HOST) if fragile else per_host,
        intrusive=intrusive,
        windows=tuple(parse_window(one) for one in window),
        reason=reason,
        grant_id=grant_id,
    )
    signing = load_key(settings, key)
    if offline:
        print_json(create_grant(form, signing, Desk(local_actor(), load_signers(settings), settings.zones, {}, publish_nothing), at))
        return
    standing = read_grants(settings)
    with publisher(settings) as outlet:
        grant = create_grant(form, signing, _desk(settings, standing, outlet), at, amend=amend)
    if as_json:
        print_json(grant)
    tell(
        f"Grant {grant.grant_id} revision {grant.revision} allows {', '.join(grant.networks)} until {grant.expires_at:%Y-%m-%d %H:%M} UTC."
    )
    if settings.scope.signers_required > 1:
        tell(f"It counts once a second person has signed it: driftline grant sign {grant.grant_id} --as NAME")


def publish_nothing(topic: str, key: str, event: Event) -> None:
    """A grant in a file is not published."""


@app.command("sign")
def sign_too(
    grant: str = typer.Argument(metavar="GRANT_ID|FILE", help="A grant's name, or a file as 'grant show --json' prints it."),
    name: str = typer.Option(..., "--as", help="Name of your signing key; another than the first signer's."),
    as_json: bool = JSON,
) -> None:
    """Sign a grant as its second signer, where 'scope.signers_required' is 2. Its revision stays."""
    settings = load_settings()
    signing, standing = load_key(settings, name), read_grants(settings)
    wanted = standing.newest.get(grant) or _from_file(grant)
    with publisher(settings) as outlet:
        signed = cosign_grant(wanted, signing, _desk(settings, standing, outlet), now())
    if as_json:
        print_json(signed)
    tell(
        f"Grant {signed.grant_id} revision {signed.revision} for {', '.join(signed.networks)} is signed by '{signed.signer}' and '{name}'."
    )


@app.command("list")
def list_all(as_json: bool = JSON) -> None:
    """Show every grant, and why one that does not count does not."""
    settings = load_settings()
    standing = read_grants(settings)
    columns = ("grant_id", "revision", "networks", "exclusions", "tcp_ports", "expires_at", "issued_by", "standing")
    rows = [_row(one, standing, settings) for one in standing.all()]
    print_rows("grants", columns, rows, as_json, "No grant: nothing may be probed. See 'driftline grant create --help'.")


@app.command("show")
def show(grant_id: str, as_json: bool = JSON) -> None:
    """Show one grant whole."""
    settings = load_settings()
    standing = read_grants(settings)
    grant = standing.newest.get(grant_id)
    if grant is None:
        raise BadInput(f"There is no grant '{grant_id}'.", "See 'driftline grant list'.")
    said = standing.of(grant, settings)
    until = standing.believed.known.get(grant_id)
    if until is not None and until.grant.revision < grant.revision:
        said += f"; until then revision {until.grant.revision} stands"
    print_fields(grant_id, {**grant.model_dump(mode="json"), "standing": said}, as_json)


@app.command("revoke")
def revoke(grant_id: str, reason: str = typer.Option(..., "--reason", "-r", help="Why."), key: str = KEY) -> None:
    """Take a grant back; work in flight stops within two seconds."""
    settings = load_settings()
    signing, standing = load_key(settings, key), read_grants(settings)
    with publisher(settings) as outlet:
        grant = revoke_grant(grant_id, signing, _desk(settings, standing, outlet), reason, now())
    tell(f"Grant {grant.grant_id} is revoked (revision {grant.revision}).")


@dataclass(frozen=True, slots=True)
class Standing:
    """The grants of the topic: as planner and scanner believe them, as one trusted signer signed them, and the latest records of all."""

    believed: GrantBook
    signed: GrantBook
    latest: dict[str, Grant]

    @property
    def newest(self) -> dict[str, Grant]:
        """Of each the highest revision that a trusted signer signed; where there is none, the latest record."""
        return self.latest | {name: known.grant for name, known in self.signed.known.items()}

    def all(self) -> list[Grant]:
        """The newest of each, and before it the revision that stands while a newer one waits for a second signature."""
        standing = {name: known.grant for name, known in self.believed.known.items()}
        pairs = ((standing.get(name, grant), grant) for name, grant in sorted(self.newest.items()))
        return [one for before, grant in pairs for one in ([before, grant] if before.revision < grant.revision else [grant])]

    def of(self, grant: Grant, settings: Settings) -> str:
        """Why a grant does not count now, or that it does."""
        found = show_grant(grant, self.believed.signers, settings.zones, now(), self.believed.required)
        return found.problem or "counts"


def read_grants(settings: Settings) -> Standing:
    """What is in the topic `grants`, whatever was replayed there."""
    require_kafka(settings)
    codec, signers = codec_for(settings), load_signers(settings)
    found = Standing(GrantBook(signers, required=settings.scope.signers_required), GrantBook(signers), {})
    bad: list[str] = []

    def take(message: Message) -> None:
        value = value_of(message)
        try:
            event = None if value is None else codec.decode("grants", value)
        except UndecodableError as error:
            bad.append(f"offset {message.offset()}: {error}")
            return
        if isinstance(event, Grant):
            found.latest[event.grant_id] = event
            found.believed.learn(event)
            found.signed.learn(event)

    read_whole(settings, "grants", take)
    if bad:
        log.warning("undecodable_records", topic="grants", count=len(bad), first=bad[0])
    return found


def _desk(settings: Settings, standing: Standing, outlet: Publisher) -> Desk:
    return Desk(local_actor(), standing.signed.signers, settings.zones, standing.newest, outlet.publish)


def _from_file(name: str) -> Grant:
    """A grant in a file of JSON. Raises BadInput for anything else."""
    try:
        document = json.loads(Path(name).read_text())
        return Grant.model_validate({key: value for key, value in document.items() if key != "standing"})
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        reason = what_is_wrong(error) if isinstance(error, ValidationError) else str(error)
        raise BadInput(
            f"There is no grant '{name}', and no file of that name holds one: {reason}.", "See 'driftline grant list'."
        ) from None


def _row(grant: Grant, standing: Standing, settings: Settings) -> dict[str, Any]:
    return {
        **grant.model_dump(mode="json"),
        "tcp_ports": show_ports(grant.tcp_ports),
        "expires_at": grant.expires_at,
        "standing": standing.of(grant, settings),
    }
