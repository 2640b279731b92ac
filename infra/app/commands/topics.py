"""`driftline topics`: the topic table, and making it so."""

from __future__ import annotations

import typer

from infra.app.output import print_rows
from infra.app.people import require_kafka
from infra.core.settings import Settings, load_settings
from infra.kafka.topics import TopicAdmin
from schemas.topics import TOPICS, concrete_names

app = typer.Typer(help="The topics: list the table, make it on the cluster.", no_args_is_help=True)
JSON = typer.Option(False, "--json", help="Print JSON on standard output.")


@app.command("list")
def list_topics(as_json: bool = JSON) -> None:
    """Show the table of topics. What each holds, who writes and reads it, how it is kept."""
    settings = load_settings()
    rows = [
        {
            "topic": f"{settings.kafka.prefix}{name}",
            "key": topic.key,
            "value": ", ".join(event.__name__ for event in topic.events) or ("OCSF JSON" if topic.json else "the role's own"),
            "partitions": topic.partitions(settings.kafka.partitions),
            "cleanup": topic.cleanup,
            "written by": topic.written_by,
            "read by": topic.read_by,
        }
        for topic in TOPICS
        for name in concrete_names(topic, settings.zones)
    ]
    print_rows("topics", tuple(rows[0]), rows, as_json, "")


@app.command("apply")
def apply(
    dry_run: bool = typer.Option(False, "--dry-run", help="Only show what would change."),
    prune: bool = typer.Option(False, "--prune", help="Also take from the users of kafka.principals what their roles do not need."),
    as_json: bool = JSON,
) -> None:
    """Create and configure what is missing, and give the users of kafka.principals their rights. Running it again changes nothing."""
    settings = load_settings()
    require_kafka(settings)
    admin = TopicAdmin(settings)
    changes = admin.plan() if dry_run else admin.apply()
    rows = [{"what": change.name, "change": change.action} for change in changes]
    rows += _rights(settings, dry_run, prune)
    print_rows("would change" if dry_run else "changed", ("what", "change"), rows, as_json, "All topics and rights are as they should be.")


def _rights(settings: Settings, dry_run: bool, prune: bool) -> list[dict[str, str]]:
    """Give the users of the settings what they lack; tell of what they have beside it, or take it."""
    if not settings.kafka.principals:
        return []
    from infra.kafka.access import AccessAdmin

    access = AccessAdmin(settings)
    lacking, beside = access.plan()
    if not dry_run:
        access.give(lacking)
        access.take(beside if prune else ())
    over = "take away" if prune else "not needed, left (see --prune)"
    return [
        {"what": f"user {one.user}", "change": f"{word}: {one.said}"} for some, word in ((lacking, "allow"), (beside, over)) for one in some
    ]
