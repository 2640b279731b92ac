"""The reference pages, written from the code: `python -m infra.app.reference` writes docs/reference/*.md; a test compares them.

Rules have a page of their own, which `processors.correlate.catalogue` writes.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args, get_origin

import typer
from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined

from infra.app.cli import build
from infra.app.roles import MODULES
from infra.core.settings import Settings
from infra.core.telemetry import Stage, Telemetry
from processors.scan.probe import BUILT_IN, AddressProbe, HostProbe, load_probes
from schemas.topics import DAY_MS, DLQ_RETENTION_MS, TOPICS, Topic

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "reference"
NOTE = "Written by `python -m infra.app.reference` from the code; a test compares the two."

# What a row of each table is. A table without a sentence here is an error, so that none goes undocumented.
TABLE_NOTES = {
    "sweeps": "One unit of work: what was probed, how much of it answered, and how good the look was.",
    "observations": "One service as one look saw it. History; the current state is in `services`.",
    "touches": "So many packets to each address from `first_ip` to `last_ip`, within about a second. `driftline touched` asks it.",
    "assets": "One address in one zone, as it is now.",
    "services": "One port of an asset, as it is now.",
    "changes": "One thing that changed on one asset.",
    "exposures": "The latest word of one rule on one place.",
    "findings": "One finding, as it is now: what a SOC works on.",
    "runs": "What became of one request: units planned, targets refused and why.",
    "agents": "One scanner, as last heard.",
    "rollups": "A figure over one minute, by zone and kind.",
    "audit": "One write by a person.",
    "watermark_parts": "Up to when the rows of one partition of one topic are complete. Ask the view `watermarks`.",
    "freshness": "When each subnet was last looked at, and how well. Aggregate states: ask the view `not_looked_at_lately`.",
    "freshness_feed": "Feeds `freshness` from `sweeps`. Not to be asked.",
    "open_now": "Every service that is open or suspected to have closed.",
    "changed_today": "Changes of the last 24 hours, latest first.",
    "worst_first": "Open findings, highest risk first.",
    "stopped": "Units of the last day that ended before all of them was looked at, and why; an absent finding there means nothing.",
    "not_looked_at_lately": "Subnets, longest not looked at first; addresses, recall and loss of that look (null: nothing answered).",
    "quarantined": "Hosts of the last week whose answers were not believed, and why; nothing is said of their ports.",
    "refused": "Targets that were not planned, with the reason, latest first.",
    "watermarks": "Up to when the rows of each topic are complete.",
    "in_work": "What was ordered in the last day and has not ended yet: until it is empty, an absent finding means nothing.",
}


def settings_page() -> str:
    """Every setting: its name in TOML, its environment variable, type, default and meaning."""
    lines = [
        "Sources, the later ones winning: the defaults, a TOML file (`driftline.toml` in the working directory, or the file",
        "that `DRIFTLINE_CONFIG` names), the environment. In the environment, lists are JSON:",
        '`DRIFTLINE_ZONES=\'["default", "dmz"]\'`.',
        "`driftline config` shows what is in force, secrets masked.",
    ]
    for section, rows in _settings_by_section(Settings).items():
        model = Settings if not section else Settings.model_fields[section].annotation
        doc = inspect.cleandoc(model.__doc__ or "").splitlines()[0] if section else "At the top."
        lines += [
            "",
            f"## {section or 'General'}",
            "",
            doc,
            "",
            "| setting | environment | type | default | meaning |",
            "|---|---|---|---|---|",
        ]
        lines += rows
    return _page("Settings", lines)


def _settings_by_section(model: type[BaseModel]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"": []}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found[name] = [row for inner, one in field.annotation.model_fields.items() for row in _branch(f"{name}.{inner}", one)]
        else:
            found[""].append(_setting(name, field))
    return found


def _branch(name: str, field: Any) -> list[str]:
    """A setting's rows: one, or, where it is a branch that may be left out, those of all that is in it."""
    inner = next((one for one in get_args(field.annotation) if isinstance(one, type) and issubclass(one, BaseModel)), None)
    if inner is None or get_origin(field.annotation) is tuple:
        return [_setting(name, field)]
    return [_setting(f"{name}.{part}", one) for part, one in inner.model_fields.items()]


def _setting(name: str, field: Any) -> str:
    default = "the user's data folder" if name == "data_dir" else field.get_default(call_default_factory=True)
    shown = "" if default in (None, PydanticUndefined, (), {}) else ", ".join(default) if isinstance(default, tuple) else str(default)
    environment = "DRIFTLINE_" + name.upper().replace(".", "__")
    return _row(f"`{name}`", f"`{environment}`", _type(field.annotation), f"`{shown}`" if shown else "", field.description or "")


def _type(annotation: Any) -> str:
    arguments = [one for one in get_args(annotation) if one is not type(None)]
    if annotation is SecretStr:
        return "secret"
    if get_origin(annotation) is dict:
        return "table"
    if get_origin(annotation) is tuple:
        return f"list of {_type(arguments[0])}"
    if arguments and all(isinstance(one, str) for one in arguments):
        return " or ".join(f"`{one}`" for one in arguments)
    if arguments:
        return _type(arguments[0])
    return {"str": "text", "int": "integer", "float": "number", "Path": "path"}.get(annotation.__name__, str(annotation.__name__).lower())


def topics_page() -> str:
    """The topic table."""
    lines = [
        "`DRIFTLINE_KAFKA__PREFIX` goes before every name. Values are Avro in the Confluent wire format unless said otherwise;",
        "the schemas are in `schemas/avro`. `driftline topics apply` makes them all. Each topic but `state.*` has a dead letter",
        f"queue `dlq.<topic>`, kept {DLQ_RETENTION_MS // DAY_MS} days. `work` is one topic a zone: `work.default`.",
        "",
        "| topic | key | value | partitions | cleanup | kept | written by | read by |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return _page("Topics", lines + [_topic(one) for one in TOPICS])


def _topic(topic: Topic) -> str:
    events = " or ".join(event.__name__ for event in topic.events) or ("OCSF 1.6 JSON" if topic.json else "the role's own")
    kept = f"{topic.retention_ms // DAY_MS} d" if topic.retention_ms else "for good"
    name = f"`{topic.name}.<zone>`" if topic.per_zone else f"`{topic.name}`"
    also = " (or JSON)" if topic.name == "targets" else ""
    partitions = "1" if topic.single else "`kafka.partitions`"
    return _row(name, topic.key, events + also, partitions, topic.cleanup, kept, topic.written_by, topic.read_by)


def commands_page() -> str:
    """Every command with its arguments and options."""
    lines = [
        "Exit codes: 0 done, 2 bad input, 3 a prerequisite is missing, 4 the pipeline refused, 5 a role stopped since most of its",
        "records were bad, 1 anything else. Results go to standard output, progress and logs to standard error.",
    ]
    for path, command in commands(typer.main.get_command(build())):
        usage = " ".join(["driftline", *path, *(_argument(one) for one in command.params if one.param_type_name == "argument")])
        lines += ["", f"## {' '.join(path)}", "", f"`{usage}`", "", inspect.cleandoc(command.help or "").replace("\n", " ")]
        options = [_option(one) for one in command.params if one.param_type_name == "option" and one.name != "help"]
        arguments = [_row(f"`{_argument(one)}`", "", one.help) for one in command.params if one.param_type_name == "argument" and one.help]
        if options or arguments:
            lines += ["", "| option | default | meaning |", "|---|---|---|", *arguments, *options]
    return _page("Commands", lines)


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command below a group, with the words that call it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            if command.invoke_without_command:
                yield (*path, name), command
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def _argument(one: Any) -> str:
    name = one.name.upper() + ("…" if one.nargs == -1 else "")
    return name if one.required else f"[{name}]"


def _option(one: Any) -> str:
    default = "" if one.default in (None, False, "", [], ()) or callable(one.default) else one.default
    shown = " ".join(map(str, default)) if isinstance(default, list | tuple) else str(default)
    needed = "needed" if one.required else f"`{shown}`" if shown else ""
    return _row(", ".join(f"`{name}`" for name in one.opts), needed, one.help or "")


def metrics_page() -> str:
    """The metrics, the stages of `discarded`, and where to read them."""
    telemetry = Telemetry()
    lines = [
        "Each process answers on loopback at `telemetry.port_base` + `slot` × " + f"{len(MODULES)} + the number of its first role below:",
        "`/metrics` (Prometheus' text form), `/healthz` (200 while every loop turns), `/readyz` (200 once it can work), `/status` (JSON).",
        "",
        "| role | number |",
        "|---|---|",
        *(_row(f"`{role}`", str(number)) for number, role in enumerate(MODULES)),
        "",
        "| metric | kind | labels | meaning |",
        "|---|---|---|---|",
        *(_metric(one) for one in vars(telemetry).values() if isinstance(one, MetricWrapperBase)),
        "",
        f"Stages: {', '.join(f'`{stage}`' for stage in get_args(Stage))}.",
    ]
    return _page("Metrics", lines)


def _metric(one: MetricWrapperBase) -> str:
    metric = next(iter(one.collect()))
    name = metric.name + ("_total" if metric.type == "counter" else "")
    return _row(f"`{name}`", metric.type, ", ".join(f"`{label}`" for label in one._labelnames), metric.documentation)  # noqa: SLF001


def tables_page() -> str:
    """Every table and view of ClickHouse, from the migrations."""
    tables, views = [], []
    for kind, name, statement in _statements():
        if kind == "TABLE":
            tables += [
                "",
                f"### {name}",
                "",
                TABLE_NOTES[name],
                "",
                "| column | type |",
                "|---|---|",
                *_columns(statement),
                "",
                _engine(statement),
            ]
        else:
            query = re.sub(r"\s+", " ", statement[re.search(r"\bAS\s+(?=SELECT)", statement).end() :])  # type: ignore[union-attr]
            views += ["", f"### {name}", "", TABLE_NOTES[name], "", "```sql", query.replace(" FROM ", "\nFROM "), "```"]
    lines = [
        "From the numbered SQL in `infra/clickhouse/sql`, where the reasons for codecs and lifetimes stand too. Columns of times are UTC.",
        "A table with `ReplacingMergeTree` may hold a row twice until ClickHouse merges: read it with `FINAL`, or through a view.",
        "",
        "## Tables",
        *tables,
        "",
        "## Views",
        *views,
    ]
    return _page("Tables and views", lines)


def _statements() -> Iterator[tuple[str, str, str]]:
    """TABLE or VIEW, name and text of each CREATE statement, comments removed."""
    for file in sorted(files("infra.clickhouse").joinpath("sql").iterdir(), key=lambda one: one.name):
        text = re.sub(r"--[^\n]*", "", file.read_text(encoding="utf-8"))
        for match in re.finditer(r"CREATE (?:MATERIALIZED )?(TABLE|VIEW) IF NOT EXISTS (\w+)([^;]*);", text):
            yield match[1], match[2], match[3]


def _columns(statement: str) -> Iterator[str]:
    body = statement[statement.index("(") + 1 : statement.index(") ENGINE")]
    depth, start = 0, 0
    for position, sign in enumerate(body + ","):
        depth += (sign == "(") - (sign == ")")
        if sign == "," and depth == 0:
            name, _, rest = " ".join(body[start:position].split()).partition(" ")
            yield _row(f"`{name}`", f"`{re.sub(r' CODEC.*', '', rest)}`")
            start = position + 1


def _engine(statement: str) -> str:
    text = " ".join(statement[statement.index(") ENGINE") + 2 :].split())
    return f"`{text}`"


def probes_page() -> str:
    """The built-in probes and what each declares."""
    lines = [
        "A probe looks at a port that answered, at a host that has such ports, or at addresses before the sweep.",
        "`cost` is the most packets that one look may take; they are asked for at the gate, which counts them against the grant.",
        "`needs`: programs, or `raw` for raw sockets.",
        "Another package adds a probe with an entry point of the group `driftline.probes`: [how](../how-to/extend.md).",
        "",
        "| probe | looks at | cost | by default | intrusive | needs | yields | what it does |",
        "|---|---|---|---|---|---|---|---|",
    ]
    probes = load_probes()
    for name in list(probes)[: len(BUILT_IN)]:
        probe, traits = probes[name], probes[name].traits
        doc = inspect.cleandoc(inspect.getmodule(type(probe)).__doc__ or "").split("\n\n")[0].replace("\n", " ")
        looks = "addresses" if isinstance(probe, AddressProbe) else "a host" if isinstance(probe, HostProbe) else "a port"
        yes = ("no", "yes")
        lines.append(
            _row(
                f"`{name}`",
                looks,
                str(traits.cost),
                yes[traits.by_default],
                yes[traits.intrusive],
                *map(", ".join, (traits.needs, traits.yields)),
                doc,
            )
        )
    return _page("Probes", lines)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _page(title: str, lines: list[str]) -> str:
    return "\n".join([f"# {title}", "", NOTE, "", *lines]) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "settings": settings_page,
    "topics": topics_page,
    "commands": commands_page,
    "metrics": metrics_page,
    "tables": tables_page,
    "probes": probes_page,
}


def write_all(folder: Path = FOLDER) -> None:
    """Write every page."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (folder / f"{name}.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write_all()
    sys.stderr.write(f"{len(PAGES)} pages are in {FOLDER}\n")
