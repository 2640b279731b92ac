"""`freeze`, `thaw`, `drain`, `resume`: what all scanners are told. Needs no grant and no key: stopping is always allowed.

Who lifts a freeze has to say who he is, by name; that is in the order and in `audit`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import replace

import structlog
import typer
from confluent_kafka import Message

from infra.app.output import print_json, tell
from infra.app.people import now, publisher, require_kafka
from infra.core.errors import BadInput
from infra.core.settings import Settings, load_settings
from infra.kafka.client import read_whole, value_of
from infra.kafka.registry import codec_for
from processors.scan.scope.orders import EVERYTHING, Orders, key_of_order
from producers.auditing import Actor, audit, local_actor, publish_audited
from schemas.codec import UndecodableError
from schemas.events.grants import Command, CommandKind
from schemas.scope import barred

log = structlog.get_logger()
app = typer.Typer()
ALL = "*"
NETWORKS = typer.Argument(None, help="Only these networks; without them, everything.")
AGENT = typer.Argument(ALL, help="Only this agent; without it, all.")


@app.command()
def freeze(
    networks: list[str] = NETWORKS,
    show: bool = typer.Option(False, "--show", help="Freeze nothing; only print what is frozen."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON on standard output."),
) -> None:
    """Let no scanner send anything to these networks. Work in flight stops within two seconds; 'thaw' lifts it, nothing else does."""
    settings, wanted = load_settings(), _parsed(networks) or {str(one) for one in EVERYTHING}
    if not show:
        _order(settings, local_actor(), CommandKind.FREEZE, wanted)
    frozen = _frozen(settings)
    if as_json:
        print_json({"frozen": sorted(frozen)})
    else:
        tell(f"Frozen: {_listed(frozen)}.")


@app.command()
def thaw(
    networks: list[str] = NETWORKS,
    person: str = typer.Option(..., "--as", help="Your name, as the audit is to have it."),
) -> None:
    """Lift the freeze of these networks, or every freeze. What grants allow may be sent there again."""
    settings, wanted, name = load_settings(), _parsed(networks), person.strip()
    if not name or not name.isprintable():
        raise BadInput("Nobody lifts a freeze without a name.", "Say who you are, e.g. --as 'Ann Lee'.")
    frozen = _frozen(settings)
    if unknown := sorted(wanted - frozen):
        raise BadInput(f"{', '.join(unknown)} is not frozen as such.", f"Frozen: {_listed(frozen)}.")
    _order(settings, replace(local_actor(), name=name), CommandKind.THAW, wanted)
    tell(f"Thawed by {name}: {', '.join(sorted(wanted)) or 'everything'}. Still frozen: {_listed(_frozen(settings))}.")


@app.command()
def drain(agent: str = AGENT) -> None:
    """Let scanners finish what is in work and take nothing new, until they are told to resume."""
    _order(load_settings(), local_actor(), CommandKind.DRAIN, agent=agent)
    tell(f"{'All scanners' if agent == ALL else agent}: finish, and take nothing new.")


@app.command()
def resume(agent: str = AGENT) -> None:
    """Let drained scanners take work again. What is frozen stays frozen: see 'thaw'."""
    settings = load_settings()
    if _is_network(agent):
        raise BadInput(f"'{agent}' is a network, not an agent: a freeze is lifted by a thaw.", f"driftline thaw {agent} --as 'YOUR NAME'")
    _order(settings, local_actor(), CommandKind.RESUME, agent=agent)
    tell(f"{'All scanners' if agent == ALL else agent}: take work again. Still frozen: {_listed(_frozen(settings))}.")


def _is_network(text: str) -> bool:
    try:
        return bool(_parsed([text]))
    except BadInput:
        return False


def _order(settings: Settings, actor: Actor, kind: CommandKind, networks: Iterable[str] = (), agent: str = ALL) -> None:
    """Give the order; one for each network, so that each has a key of its own, or one that names none."""
    with publisher(settings) as outlet:
        for named in [[one] for one in sorted(networks)] or [[]]:
            order = Command(agent_id=agent, kind=kind, networks=tuple(named), issued_by=actor.name, issued_at=now())
            record = audit(actor, f"scanners.{kind.value}", agent, ", ".join(named), order.issued_at)
            publish_audited(outlet.publish, "commands", key_of_order(order), order, record)


def _frozen(settings: Settings) -> set[str]:
    """What some scanner holds for frozen: the same fold of the whole log as theirs. To them too a tombstone means nothing."""
    require_kafka(settings)
    codec, orders, bad = codec_for(settings), {ALL: Orders()}, list[str]()

    def take(message: Message) -> None:
        value = value_of(message)
        try:
            command = None if value is None else codec.decode("commands", value)
        except UndecodableError as error:
            bad.append(f"offset {message.offset()}: {error}")
            return
        if isinstance(command, Command):
            orders.setdefault(command.agent_id, orders[ALL])
            orders.update({agent: one.after(command, agent) for agent, one in orders.items()})

    read_whole(settings, "commands", take)
    if bad:
        log.warning("undecodable_records", topic="commands", count=len(bad), first=bad[0])
    return {str(network) for one in orders.values() for network in one.frozen}


def _listed(networks: set[str]) -> str:
    return ", ".join(sorted(networks)) or "nothing"


def _parsed(networks: list[str] | None) -> set[str]:
    try:
        return {str(each) for one in networks or () for each in barred(ipaddress.ip_network(one))}
    except ValueError as error:
        raise BadInput(f"{error}.", "Write networks as 198.18.0.0/24 or 2001:db8::/64.") from None
