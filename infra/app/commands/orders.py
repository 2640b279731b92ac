"""`freeze`, `resume`: the emergency brake of all scanners. Needs no grant and no key: stopping is always allowed."""

from __future__ import annotations

import ipaddress

import typer

from infra.app.output import print_json, tell
from infra.app.people import now, publisher, read_table, write
from infra.core.errors import BadInput
from infra.core.settings import Settings, load_settings
from producers.auditing import local_actor
from schemas.events.grants import Command, CommandKind

app = typer.Typer()
ALL = "*"
EVERYTHING = ("0.0.0.0/0", "::/0")
NETWORKS = typer.Argument(None, help="Only these networks; without them, everything.")


@app.command()
def freeze(
    networks: list[str] = NETWORKS,
    show: bool = typer.Option(False, "--show", help="Freeze nothing; only print what is frozen."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON on standard output."),
) -> None:
    """Let no scanner send anything to these networks. Work in flight stops within two seconds."""
    settings, wanted = load_settings(), _parsed(networks) or set(EVERYTHING)
    frozen = _frozen(settings)
    if not show:
        # Only the latest command counts: it has to name what was frozen before, too.
        frozen = _tell_scanners(settings, frozen | wanted)
    if as_json:
        print_json({"frozen": sorted(frozen)})
    else:
        tell(f"Frozen: {', '.join(sorted(frozen)) or 'nothing'}.")


@app.command()
def resume(networks: list[str] = NETWORKS) -> None:
    """Let scanners go on with these networks, as far as grants allow."""
    settings, wanted = load_settings(), _parsed(networks)
    frozen = _frozen(settings)
    if unknown := sorted(wanted - frozen):
        raise BadInput(f"{', '.join(unknown)} is not frozen as such.", f"Frozen: {', '.join(sorted(frozen)) or 'nothing'}.")
    left = _tell_scanners(settings, frozen - wanted if wanted else set(), f"resumed {', '.join(sorted(wanted)) or 'all'}; ")
    tell(f"Scanners go on. Still frozen: {', '.join(sorted(left)) or 'nothing'}.")


def _tell_scanners(settings: Settings, networks: set[str], detail: str = "") -> set[str]:
    kind = CommandKind.FREEZE if networks else CommandKind.RESUME
    command = Command(agent_id=ALL, kind=kind, networks=tuple(sorted(networks)), issued_by=local_actor().name, issued_at=now())
    with publisher(settings) as outlet:
        write(outlet, "commands", ALL, command, f"scanners.{kind.value}", f"{detail}frozen: {', '.join(command.networks) or 'nothing'}")
    return networks


def _frozen(settings: Settings) -> set[str]:
    """What the latest word to all scanners froze; an earlier freeze of one agent only counts as one of all, to be safe."""
    commands = [one for one in read_table(settings, "commands").values() if isinstance(one, Command)]
    to_all = next((one for one in commands if one.agent_id == ALL), None)
    frozen: set[str] = set()
    for one in commands:
        later = to_all is None or one.issued_at >= to_all.issued_at
        if one.kind is CommandKind.FREEZE and later:
            frozen |= set(one.networks) or set(EVERYTHING)
    return frozen


def _parsed(networks: list[str] | None) -> set[str]:
    try:
        return {str(ipaddress.ip_network(one)) for one in networks or ()}
    except ValueError as error:
        raise BadInput(f"{error}.", "Write networks as 198.18.0.0/24 or 2001:db8::/64.") from None
