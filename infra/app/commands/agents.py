"""`driftline agents`: the scanners, and how one on another machine comes and goes."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from infra.app.enrolment_token import Token, check_name
from infra.app.output import print_json, print_rows, tell
from infra.app.querying import rows_of
from infra.core.errors import BadInput, Refused
from infra.core.settings import Settings, load_settings

app = typer.Typer(help="The scanners: show them, take one of another machine in, end one.")
JSON = typer.Option(False, "--json", help="Print JSON on standard output.")


@app.callback(invoke_without_command=True)
def agents(context: typer.Context, as_json: bool = JSON) -> None:
    """Show the scanners and when they were last heard."""
    if context.invoked_subcommand is not None:
        return
    columns, rows = rows_of(
        "SELECT agent_id, zone, state, engine, units_running, units_done, packets_sent, packets_refused, at AS last_heard "
        "FROM agents FINAL ORDER BY agent_id"
    )
    print_rows("agents", columns, rows, as_json, "No scanner has told of itself yet. Start one with 'driftline up'.")


@app.command()
def enrol(
    agent: str = typer.Argument(help="The new agent's name: small letters, digits, dots, dashes."),
    zone: str = typer.Option("default", "--zone", help="The zone whose work it takes."),
    bootstrap: str = typer.Option(
        None, "--bootstrap", help="host:port by which it reaches Kafka; default: kafka.bootstrap or broker.listen."
    ),
    ca: Path = typer.Option(None, "--ca", help="PEM file of the authority of Kafka's certificate; default: kafka.ca_file."),  # noqa: B008
    minutes: float = typer.Option(10.0, "--minutes", min=0.05, max=1440, help="How long the token is good, and this command waits."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON lines: the token, then what became of it."),
) -> None:
    """Print a token for 'driftline agents join' on a new machine, and wait until it has joined. The token works once, while this runs."""
    from infra.app.enrolling import admit, await_answer, offered
    from infra.app.people import require_kafka

    check_name(agent)
    settings = load_settings()
    require_kafka(settings)
    with offered(settings, agent, zone, bootstrap, ca) as offer:
        if as_json:
            print_json({"agent": agent, "zone": zone, "token": offer.token.text()})
        else:
            tell(f"On the new machine, within {minutes:g} minutes, while this waits:  driftline agents join TOKEN")
            sys.stdout.write(offer.token.text() + "\n")
            sys.stdout.flush()
        password = await_answer(settings, offer, minutes * 60)
        if password is not None:
            admit(settings, offer.token, password)
    if password is None:
        raise Refused(f"{agent} did not join within {minutes:g} minutes; the token is void.", "Run this again for a new one.")
    _note(settings, "agents.enrol", agent, f"zone {zone}")
    if as_json:
        print_json({"agent": agent, "joined": True})
    tell(f"{agent} has joined zone {zone}. Its password is known to it alone; the token is void.")


@app.command()
def join(
    token: str = typer.Argument(help="What 'driftline agents enrol' printed; '-': from standard input, so that no history keeps it."),
    folder: Path = typer.Option(Path(), "--folder", help="Where driftline.toml and the password go."),  # noqa: B008
) -> None:
    """Make this machine the agent of a token. Writes driftline.toml, for 'driftline run scanner' in the same folder."""
    from infra.app.enrolling import join as become

    read = Token.read(sys.stdin.readline() if token == "-" else token)  # noqa: S105  a dash is no password
    file = become(read, folder)
    tell(f"This machine is {read.agent}, a scanner of zone {read.zone}; it trusts the grants of {_names(read)}.")
    tell(f"Start it with:  DRIFTLINE_CONFIG={file} driftline run scanner")


@app.command()
def revoke(agent: str = typer.Argument(help="The agent's name.")) -> None:
    """End an agent. Its rights are gone at once, also for connections that stand; it can't log in again."""
    from infra.app.enrolling import expel
    from infra.app.people import require_kafka

    check_name(agent)
    settings = load_settings()
    require_kafka(settings)
    if not expel(settings, agent):
        raise BadInput(f"There is no enrolled agent '{agent}'.", "'driftline agents' shows the agents that were heard.")
    _note(settings, "agents.revoke", agent, "")
    tell(f"{agent} is out: it may read and write nothing any more, and what it was working on goes to others of its zone.")


def _names(read: Token) -> str:
    return ", ".join(one.name for one in read.signers) or "nobody yet (see 'driftline grant keygen')"


def _note(settings: Settings, action: str, agent: str, detail: str) -> None:
    """Leave the audit record."""
    from infra.app.people import now, publisher
    from producers.auditing import audit, local_actor

    record = audit(local_actor(), action, agent, detail, now())
    with publisher(settings) as outlet:
        outlet.publish("audit", record.actor, record)
