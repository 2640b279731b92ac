"""`driftline dlq`: what was set aside, and putting it back."""

from __future__ import annotations

import base64
from dataclasses import asdict

import typer

from infra.app.output import count, print_fields, print_rows, tell
from infra.app.people import require_kafka
from infra.core.errors import BadInput
from infra.core.settings import Settings, load_settings
from infra.kafka.deadreading import Policy, dead_letters, replay

app = typer.Typer(help="Records that could not be handled: list, show, replay.", no_args_is_help=True)
MOST = 1_000_000
POLICY = typer.Option(Policy.ALL, "--policy", help="Which go back: all, only what this release can read, or none (discard).")
JSON = typer.Option(False, "--json", help="Print JSON on standard output.")


@app.command("list")
def list_letters(
    topic: str = typer.Argument(None, help="Only this topic's, e.g. targets."),
    limit: int = typer.Option(1000, "--limit", min=1, help="The newest so many."),
    as_json: bool = JSON,
) -> None:
    """Show dead letters, the newest first. Each says where it came from and why it was set aside."""
    rows = []
    for letter in dead_letters(_settings(), topic and _plain(topic), limit):
        row = asdict(letter)
        row["value"] = base64.b64encode(letter.value).decode()
        rows.append(row)
    print_rows("dead letters", ("reference", "when", "error", "reason", "key"), rows, as_json, "No record was set aside.")


@app.command("show")
def show(reference: str = typer.Argument(help="topic:partition:offset, as 'list' prints it."), as_json: bool = JSON) -> None:
    """Show one dead letter whole. Its value is shown as text if it is one, else its bytes in hexadecimal."""
    reference = _plain(reference)
    topic = reference.split(":")[0]
    letter = next((one for one in dead_letters(_settings(), topic, MOST) if one.reference == reference), None)
    if letter is None:
        raise BadInput(f"There is no dead letter {reference}.", "See 'driftline dlq list'.")
    print_fields(reference, {**asdict(letter), "value": _legible(letter.value)}, as_json)


@app.command("replay")
def replay_letters(
    topic: str = typer.Argument(help="The topic whose dead letters go back to it."),
    limit: int = typer.Option(1000, "--limit", min=1, help="At most so many."),
    policy: Policy = POLICY,
) -> None:
    """Put dead letters back on their topic, each once. Those that are still bad come back to the DLQ.

    What a policy passes over counts as dealt with: no later replay puts it back. It can be read until the queue's 30 days are over.
    """
    done = replay(_settings(), _plain(topic), limit, policy)
    passed = f" {count(done.passed, 'record')} passed over for good." if done.passed else ""
    tell(f"{count(done.back, 'record')} went back to {_plain(topic)}.{passed}")


def _plain(name: str) -> str:
    """`dlq.targets` is the queue of `targets`; people say either."""
    return name.removeprefix("dlq.")


def _legible(value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = ""
    return text if text.isprintable() and text else value.hex(" ")


def _settings() -> Settings:
    settings = load_settings()
    require_kafka(settings)
    return settings
