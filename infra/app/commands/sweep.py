"""`driftline sweep`: the scanner alone, as one command without a broker. A signed grant in a file says what may leave.

It is over in seconds, so its start counts: what is not needed before the first packet is imported after it, or not at all.
"""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import typer

from infra.app.sweep_left import Rest, lines
from infra.app.sweep_output import Told
from infra.core.errors import BadInput, MissingPrerequisite, Refused
from infra.core.settings import ScannerSettings, Settings, load_settings
from infra.core.trust import load_signers
from processors.scan.local_sweep import Part, common, joined, parts, size, spans_of, sweep_parts, without
from processors.scan.scope.local import LocalGate
from processors.scan.scope.mask import compile_mask
from processors.scan.scope.remembered import Remembered, overtaken, teach
from processors.scan.sweep.hosts import HostList
from schemas.events.base import PortRange
from schemas.events.grants import Grant
from schemas.events.targets import Cause, WorkUnit
from schemas.ids import Network, subnet_of
from schemas.portset import expand, holds, parse_ports
from schemas.scope import GrantBook, KnownGrant, standing, translated
from schemas.targeting import HostName, Span, parse_target, too_many

app = typer.Typer()
MOST_ADDRESSES = 1 << 24
SHOW_SECONDS = 0.2
FORECAST_SECONDS = 60.0


@app.command()
def sweep(
    targets: list[str] = typer.Argument(None, help="Addresses, CIDRs, ranges a-b; IPv6 up to a /120."),  # noqa: B008
    file: str = typer.Option(None, "--targets", "-t", help="A file with further targets, one a line; - is standard input, # a comment."),
    ports: str = typer.Option(..., "--ports", "-p", help="TCP ports, e.g. 22,80,8000-8100."),
    grant: Path = typer.Option(..., "--grant", "-g", help="The signed grant, as 'driftline grant create --offline' prints it."),  # noqa: B008
    rate: int = typer.Option(None, "--rate", min=1, help="Most packets a second in all; default: what the grant allows."),
    left: Path = typer.Option(None, "--left", help="Write what was not probed to the end to this file, as targets for --targets."),  # noqa: B008
    as_json: bool = typer.Option(False, "--json", help="Print JSON lines: one a host with an open port, then one of the whole."),
) -> None:
    """Find open TCP ports within a signed grant, without a broker.

    Exit code 4 if the grant does not cover what is asked for, or if a halt left some of it unprobed: then what was found is printed.
    """
    settings = load_settings()
    book, entry, memory = read_grant(grant, settings)
    zone = zone_of(entry, settings)
    wanted, excluded = covered([*(targets or ()), *(listed(file) if file else ())], ports, book, entry, zone)
    if (by := frozen_by(memory, wanted)) is not None:
        raise Refused(f"Somebody froze a part of these networks, says {by}.", "See 'driftline freeze --show'.")
    most = entry.grant.intensity.packets_per_second
    if rate is not None and rate > most:
        raise Refused(f"The grant allows {most} packets a second, not {rate}.", f"Ask for at most --rate {most}.")
    lock = memory.alone(entry.grant.grant_id)
    gate = LocalGate(book, entry.grant.grant_id, zone, rate or most, per_host=host_limit(settings.scanner))
    gate.news = partial(news, memory, book, entry.grant, wanted)
    # The scanner's own ceiling is for a scanner that nobody watches; here the grant and the person say how fast.
    scanner = settings.scanner.model_copy(update={"packets_per_second": rate or most})
    unit = unit_of(entry, zone, wanted)
    numbers = expand(parse_ports(ports))
    told = Told(as_json, excluded, size(wanted) * len(numbers))
    _forecast(told.asked, len(numbers), rate or most, gate.per_host(unit))
    if left is not None:
        Rest(wanted).write(left)  # what can't be written is said before anything is sent, and a kill leaves a list that holds
    gc.freeze()
    gc.enable()
    with lock:
        rest = asyncio.run(_run(parts(wanted, numbers), gate, unit, scanner, told))
    if left is not None:
        rest.write(left)
    told.end(gate)


def _forecast(probes: int, ports: int, rate: int, per_host: float) -> None:
    """Say how long it will take at least, where that is more than a minute: the whole at the rate, a host's ports at the host's."""
    seconds = max(probes / rate, ports / per_host)
    if seconds > FORECAST_SECONDS:
        from infra.app.output import tell

        told = f"{seconds / 3600:.1f} hours" if seconds > 2 * 3600 else f"{seconds / 60:.0f} minutes"
        tell(f"{probes:,} probes at {rate:,} packets a second, {per_host:g} to one host: this takes {told} or more.")


def listed(file: str) -> list[str]:
    """The targets in a file, or of standard input. Raises BadInput for what can't be read."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
    except OSError as error:
        raise BadInput(f"The targets {file} can't be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise BadInput(f"The targets {file} are no text.", "Write one target a line.") from None
    return [target for line in text.splitlines() if (target := line.partition("#")[0].strip())]


def read_grant(path: Path, settings: Settings) -> tuple[GrantBook, KnownGrant, Remembered]:
    """The grant in a file, the book that believes it, and what else this machine knows.

    What its scanners ever heard counts as well, and what its sweeps were shown: a grant that was revoked since is no grant, other grants'
    exclusions hold, and what is frozen is. Raises BadInput for a file that holds no grant, Refused for one that is not believed here,
    MissingPrerequisite for a damaged memory and OSError if it can't be kept.
    """
    try:
        document = json.loads(path.read_bytes())
        document.pop("standing", None)  # `grant show` adds what it thinks of it
        grant = Grant.model_validate(document)
    except OSError as error:
        raise BadInput(f"The grant {path} can't be read: {error.strerror}.") from None
    except (ValueError, TypeError, AttributeError, RecursionError):
        how = "'driftline grant create --offline … > FILE', or where a broker is 'driftline grant show ID --json > FILE'"
        raise BadInput(f"{path} holds no grant.", f"Write one with {how}.") from None
    memory = Remembered(settings.data_dir)
    floors = memory.read()
    book = GrantBook(load_signers(settings), required=settings.scope.signers_required)
    teach(book, floors)
    problem = book.learn(grant)
    if problem is not None:
        raise Refused(f"The grant in {path} is not believed here: {problem}.", "See the signers that this machine trusts.")
    entry = book.known[grant.grant_id]
    if floors.grants.get(grant.grant_id) != entry.grant:
        memory.keep(entry.grant, datetime.now(UTC))
    return book, entry, memory


def frozen_by(memory: Remembered, wanted: list[Span]) -> Path | None:
    """The file by which a part of these addresses is frozen, or None."""
    return next(
        (path for path, frozen in memory.frozen.items() if common(wanted, (_whole(each) for one in frozen for each in translated(one)))),
        None,
    )


def news(memory: Remembered, book: GrantBook, grant: Grant, wanted: list[Span]) -> str | None:
    """Why a sweep must stop by what this machine has heard since it was asked last, or None. The book learns what is new."""
    try:
        if not memory.changed():
            return None
        teach(book, memory.read())
    except MissingPrerequisite as error:
        return error.message
    if (by := frozen_by(memory, wanted)) is not None:
        return f"somebody froze a part of these networks, says {by}"
    return overtaken(book, grant)


def host_limit(settings: ScannerSettings) -> int | None:
    """Most packets a second to one host by the settings, below what the grant allows: only if somebody set it."""
    chosen = "per_host_per_second" in settings.model_fields_set or settings.profile == "fragile"
    return settings.host_limit if chosen else None


def zone_of(entry: KnownGrant, settings: Settings) -> str:
    """The scanner's own zone. Raises Refused if the grant does not count there now."""
    problem = standing(entry, settings.scanner.zone, datetime.now(UTC))
    if problem is not None:
        raise Refused(f"Nothing may be probed: {problem}.", "See 'driftline grant list'.")
    return settings.scanner.zone


def covered(targets: Iterable[str], ports: str, book: GrantBook, entry: KnownGrant, zone: str) -> tuple[list[Span], int]:
    """The addresses to probe, and how many an exclusion takes away. Raises BadInput, and Refused for what is outside the grant."""
    asked = joined(_span(text) for text in targets)
    if not asked:
        raise BadInput("There is nothing to look at.", "Name targets, or a file with --targets FILE.")
    if (outside := next(lines(without(asked, map(_whole, entry.networks))), None)) is not None:
        raise Refused(f"Grant {entry.grant.grant_id} does not cover {outside}.", f"It allows {', '.join(entry.grant.networks)}.")
    _check_ports(_ports(ports), entry)
    wanted = common(asked, spans_of(compile_mask(book, zone, entry.grant.grant_id, datetime.now(UTC))))
    if not wanted:
        raise Refused("Every one of these addresses is excluded by a grant of the zone.", "See 'driftline grant list'.")
    return wanted, size(asked) - size(wanted)


def _whole(network: Network) -> Span:
    return Span(network.version, int(network.network_address), int(network.broadcast_address))


def _span(text: str) -> Span:
    try:
        span = parse_target(text)
    except ValueError as error:
        raise BadInput(str(error)) from None
    if isinstance(span, HostName):
        raise BadInput(f"'{span.text}' is a name.", "Give its address: a sweep does not resolve names.")
    problem = too_many(span, MOST_ADDRESSES)
    if problem is not None:
        raise BadInput(f"'{text}' {problem}.")
    return span


def _ports(text: str) -> tuple[PortRange, ...]:
    try:
        return parse_ports(text)
    except ValueError as error:
        raise BadInput(str(error), "Write ports as 22,80-90.") from None


def _check_ports(asked: tuple[PortRange, ...], entry: KnownGrant) -> None:
    out = next((port for port in expand(asked) if not holds(entry.grant.tcp_ports, port)), None)
    if out is not None:
        raise Refused(f"TCP port {out} is not among the ports of grant {entry.grant.grant_id}.", "Leave it out, or have it granted.")


def unit_of(entry: KnownGrant, zone: str, wanted: list[Span]) -> WorkUnit:
    """The unit that the engine's packets are counted for. It names no addresses: the gate's mask says what may leave."""
    intensity = entry.grant.intensity
    now = datetime.now(UTC)
    subnet = subnet_of(HostList.of_spans((wanted[0]._replace(last=wanted[0].first),))[0])
    return WorkUnit(
        unit_id="sweep",
        run_id="sweep",
        zone=zone,
        subnet=subnet,
        addresses=(),
        probes=(),
        grant_id=entry.grant.grant_id,
        grant_revision=entry.grant.revision,
        packets_per_second=intensity.packets_per_second,
        per_host_per_second=intensity.per_host_per_second,
        cause=Cause.PUSHED,
        planned_at=now,
        expires_at=entry.grant.expires_at,
    )


async def _run(wanted: Iterator[Part], gate: LocalGate, unit: WorkUnit, settings: ScannerSettings, told: Told) -> Rest:
    """Sweep, tell what is found, and give what is left."""
    rest = Rest()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, _stop, gate, told, number)
    shown = asyncio.create_task(_show(gate, told.asked)) if sys.stderr.isatty() else None
    try:
        async for ledger in sweep_parts(wanted, gate, unit, settings):
            told.add(ledger)
            rest.add(ledger)
    except PermissionError:
        raise MissingPrerequisite("A SYN sweep needs raw sockets, and this process may open none.", "Run it as root.") from None
    finally:
        if shown is not None:
            shown.cancel()
            await asyncio.gather(shown, return_exceptions=True)
    rest.never_begun(wanted)
    return rest


async def _show(gate: LocalGate, probes: int) -> None:
    """How far it is, for who watches; probes that are sent again count too."""
    from infra.app.output import progress

    with progress() as display:
        task = display.add_task("packets", total=probes)
        while True:
            display.update(task, completed=gate.packets, total=max(probes, gate.packets))
            await asyncio.sleep(SHOW_SECONDS)


def _stop(gate: LocalGate, told: Told, number: int) -> None:
    gate.stopping, told.signal = True, number
