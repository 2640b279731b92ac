"""`driftline grant`: who may probe what. Nothing leaves without a grant."""

from __future__ import annotations

from typing import Any

import structlog
import typer
from confluent_kafka import Message

from infra.app.output import print_fields, print_json, print_rows, tell
from infra.app.people import now, publisher, require_kafka
from infra.core.errors import BadInput
from infra.core.settings import Settings, load_settings
from infra.core.trust import load_signers
from infra.kafka.client import Publisher, read_whole, value_of
from infra.kafka.registry import codec_for
from producers.auditing import local_actor
from producers.grants.issuing import Desk, GrantForm, GrantStanding, create_grant, list_grants, revoke_grant, show_grant
from producers.grants.keys import create_key, load_key
from producers.grants.wording import parse_expiry, parse_window
from schemas.codec import UndecodableError
from schemas.events.grants import Grant
from schemas.portset import show_ports
from schemas.scope import GrantBook
from schemas.signing import TrustedSigner

log = structlog.get_logger()
app = typer.Typer(help="Signed authorisations to probe: create, list, show, revoke.", no_args_is_help=True)
JSON = typer.Option(False, "--json", help="Print JSON on standard output.")
KEY = typer.Option("operator", "--key", help="Name of the signing key.")


@app.command("keygen")
def keygen(
    name: str = typer.Argument("operator", help="Name of the key."),
    networks: list[str] = typer.Option(..., "--network", "-n", help="A network that this key may grant; may be repeated."),  # noqa: B008
) -> None:
    """Make a signing key and trust it on this machine. What it signs counts for these networks only."""
    key = create_key(load_settings(), name, tuple(networks))
    tell(f"Key '{name}' is made and trusted here for {', '.join(networks)}. Public key: {key.public}")
    tell("On another planner's or scanner's machine, add it to the signers file there.")


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
    icmp: bool = typer.Option(False, "--icmp", help="Allow ICMP echo."),
    path: bool = typer.Option(False, "--path", help="Allow traceroute."),
    intrusive: bool = typer.Option(False, "--intrusive", help="Allow probes that are marked intrusive."),
    reason: str = typer.Option("", "--reason", "-r", help="Why; kept with the grant."),
    grant_id: str = typer.Option("", "--id", help="Its name; default: made up."),
    amend: bool = typer.Option(False, "--amend", help="Replace the grant of this id."),
    key: str = KEY,
    as_json: bool = JSON,
) -> None:
    """Sign a grant and publish it."""
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
        per_host_per_second=per_host,
        intrusive=intrusive,
        windows=tuple(parse_window(one) for one in window),
        reason=reason,
        grant_id=grant_id,
    )
    signing = load_key(settings, key)
    with publisher(settings) as outlet:
        grant = create_grant(form, signing, _desk(settings, outlet), at, amend=amend)
    if as_json:
        print_json(grant)
    tell(
        f"Grant {grant.grant_id} revision {grant.revision} allows {', '.join(grant.networks)} until {grant.expires_at:%Y-%m-%d %H:%M} UTC."
    )


@app.command("list")
def list_all(as_json: bool = JSON) -> None:
    """Show every grant, and why one that does not count does not."""
    settings = load_settings()
    signers = load_signers(settings)
    found = list_grants(all_grants(settings, signers), signers, settings.zones, now())
    columns = ("grant_id", "revision", "networks", "exclusions", "tcp_ports", "expires_at", "issued_by", "standing")
    print_rows(
        "grants", columns, [_row(one) for one in found], as_json, "No grant: nothing may be probed. See 'driftline grant create --help'."
    )


@app.command("show")
def show(grant_id: str, as_json: bool = JSON) -> None:
    """Show one grant whole."""
    settings = load_settings()
    signers = load_signers(settings)
    grant = all_grants(settings, signers).get(grant_id)
    if grant is None:
        raise BadInput(f"There is no grant '{grant_id}'.", "See 'driftline grant list'.")
    standing = show_grant(grant, signers, settings.zones, now())
    print_fields(grant_id, {**grant.model_dump(mode="json"), "standing": standing.problem or "counts"}, as_json)


@app.command("revoke")
def revoke(grant_id: str, reason: str = typer.Option(..., "--reason", "-r", help="Why."), key: str = KEY) -> None:
    """Take a grant back; work in flight stops within two seconds."""
    settings = load_settings()
    signing = load_key(settings, key)
    with publisher(settings) as outlet:
        grant = revoke_grant(grant_id, signing, _desk(settings, outlet), reason, now())
    tell(f"Grant {grant.grant_id} is revoked (revision {grant.revision}).")


def all_grants(settings: Settings, signers: tuple[TrustedSigner, ...]) -> dict[str, Grant]:
    """The grants as planner and scanner see them: the highest revision that is believed, whatever was replayed after it.

    Of a grant that is not believed here: the latest record.
    """
    require_kafka(settings)
    codec, book, latest = codec_for(settings), GrantBook(signers), dict[str, Grant]()
    bad: list[str] = []

    def take(message: Message) -> None:
        value = value_of(message)
        try:
            event = None if value is None else codec.decode("grants", value)
        except UndecodableError as error:
            bad.append(f"offset {message.offset()}: {error}")
            return
        if isinstance(event, Grant):
            latest[event.grant_id] = event
            book.learn(event)

    read_whole(settings, "grants", take)
    if bad:
        log.warning("undecodable_records", topic="grants", count=len(bad), first=bad[0])
    return latest | {name: known.grant for name, known in book.known.items()}


def _desk(settings: Settings, outlet: Publisher) -> Desk:
    signers = load_signers(settings)
    return Desk(local_actor(), signers, settings.zones, all_grants(settings, signers), outlet.publish)


def _row(one: GrantStanding) -> dict[str, Any]:
    grant = one.grant
    return {
        **grant.model_dump(mode="json"),
        "tcp_ports": show_ports(grant.tcp_ports),
        "expires_at": grant.expires_at,
        "standing": one.problem or "counts",
    }
