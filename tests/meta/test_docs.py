"""The documentation is true: commands, settings, links and paths exist, reference pages are fresh, SQL and programs run."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import threading
import tomllib
import types
import uuid
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from clickhouse_connect.driver.exceptions import ClickHouseError
from pydantic import BaseModel

from infra.app import reference
from infra.app.cli import build
from infra.clickhouse.client import insert_columns
from infra.core.settings import KafkaSettings, Settings
from infra.kafka.client import Publisher, read_table
from infra.kafka.topics import TopicAdmin
from infra.local.store.endpoint import Limits, StoreServer
from processors.correlate.contract import Rule, ServiceFacts
from processors.scan.probe import ServiceProbe
from schemas.codec import Codec
from schemas.events.findings import Decision, Finding, FindingStatus
from schemas.events.observations import ServiceObservation, SweepResult
from schemas.examples import AT, EXAMPLES
from schemas.release import Catalog
from schemas.rows import ROWS, Row, rows_of
from schemas.topics import TOPICS
from tests.ports import free_ports
from tests.stores import RunningStore, running_store

ROOT = Path(__file__).parents[2]
PAGES = {str(path.relative_to(ROOT)): path.read_text() for path in [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STOPS = {"|", "||", "&", "&&", ";", ">", ">>", "<", "(", ")"}
FOLDERS = ("schemas/", "producers/", "processors/", "consumers/", "infra/", "tests/", "docs/", "bench/")


def blocks(page: str, *languages: str) -> list[str]:
    return [text for language, text in FENCE.findall(PAGES[page]) if language in languages]


def inline(page: str) -> list[str]:
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", FENCE.sub("", PAGES[page]))


def segments(line: str) -> Iterator[list[str]]:
    """The simple commands of a shell line, as words."""
    words: list[str] = []
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>()")
    lexer.whitespace_split, lexer.commenters = True, "#"
    for word in lexer:
        if word in STOPS:
            yield words
            words = []
        else:
            words.append(word)
    yield words


def calls() -> Iterator[tuple[str, list[str]]]:
    """Every call of `driftline` in fenced shell lines and inline code: page and the words after it."""
    for page in PAGES:
        fenced = [line for text in blocks(page, "bash", "cron") for line in text.replace("\\\n", " ").splitlines()]
        spans = [text for text in inline(page) if re.match(r"(DRIFTLINE_\S+ )*driftline( |$)", text)]
        for line in fenced + spans:
            for words in segments(line):
                places = [number for number, word in enumerate(words) if word.rsplit("/", 1)[-1] == "driftline"]
                if places:
                    yield page, words[places[-1] + 1 :]


@functools.cache
def tree() -> Any:
    """The real commands."""
    return typer.main.get_command(build())


def problem(words: list[str]) -> str | None:
    """What is wrong with a call, by the real command tree."""
    node = tree()
    rest = list(words)
    while rest and hasattr(node, "commands") and not rest[0].startswith("-"):
        if rest[0] not in node.commands:
            return f"no command {rest[0]}"
        node = node.commands[rest.pop(0)]
    options = {name: one for one in node.params if one.param_type_name == "option" for name in (*one.opts, *one.secondary_opts)}
    room = sum(99 if one.nargs == -1 else 1 for one in node.params if one.param_type_name == "argument")
    while rest:
        word = rest.pop(0)
        name, _, value = word.partition("=")
        if not word.startswith("-") or word == "-":
            room -= 1
        elif name not in options and name != "--help":
            return f"no option {name}"
        elif name in options and not options[name].is_flag and not value:
            if not rest:
                return f"{name} without a value"
            rest.pop(0)
    return "too many arguments" if room < 0 else None


def test_every_command_exists_with_these_options() -> None:
    found = list(calls())
    assert len(found) > 100
    assert not [(page, " ".join(words), wrong) for page, words in found if (wrong := problem(words))]


def test_the_check_of_commands_can_fail() -> None:
    assert problem(["targets", "push", "--no-such"]) == "no option --no-such"
    assert problem(["target", "push"]) == "no command target"
    assert problem(["query", "SELECT 1", "SELECT 2"]) == "too many arguments"
    assert problem(["grant", "create", "-n"]) == "-n without a value"


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Name and description of every setting."""
    for name, field in model.model_fields.items():
        inner = next((one for one in (field.annotation, *optional(field.annotation)) if isinstance(one, type)), None)
        if inner is not None and issubclass(inner, BaseModel):
            yield from leaves(inner, f"{prefix}{name}.")
        else:
            yield prefix + name, field.description or ""


def optional(annotation: Any) -> tuple[Any, ...]:
    """What `X | None` may be; nothing for anything else."""
    return get_args(annotation) if type(None) in get_args(annotation) else ()


SETTINGS = dict(leaves(Settings))
ENVIRONMENT = {"DRIFTLINE_" + name.upper().replace(".", "__") for name in SETTINGS} | {"DRIFTLINE_CONFIG"}


def test_every_setting_that_is_named_exists() -> None:
    for page, text in PAGES.items():
        assert set(re.findall(r"DRIFTLINE_[A-Z_]*[A-Z]", text)) <= ENVIRONMENT, page
        sections = {name.split(".")[0] for name in SETTINGS if "." in name}
        for span in inline(page):
            if re.fullmatch(r"[a-z]+\.[a-z_]+", span) and span.split(".")[0] in sections:
                assert span in SETTINGS, f"{page}: {span}"


def test_every_setting_says_what_it_is_for() -> None:
    assert [name for name, description in SETTINGS.items() if not description] == []


@pytest.mark.parametrize("name", reference.PAGES)
def test_reference_pages_are_fresh(name: str) -> None:
    assert PAGES[f"docs/reference/{name}.md"] == reference.PAGES[name](), "run: python -m infra.app.reference"


def test_everything_is_in_the_reference() -> None:
    assert all(f"| `{name}` |" in PAGES["docs/reference/settings.md"] for name in SETTINGS)
    assert all(f"| `{one.name}" in PAGES["docs/reference/topics.md"] for one in TOPICS)
    paths = [" ".join(path) for path, _ in reference.commands(typer.main.get_command(build()))]
    assert all(f"## {path}\n" in PAGES["docs/reference/commands.md"] for path in paths)
    sql = "".join(path.read_text() for path in (ROOT / "infra/clickhouse/sql").glob("*.sql"))
    made = re.findall(r"^CREATE (?:MATERIALIZED )?(?:TABLE|VIEW) (?:IF NOT EXISTS )?(\w+)", sql, re.MULTILINE)
    assert made
    assert all(f"### {name}\n" in PAGES["docs/reference/tables.md"] for name in made)


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def test_links_resolve() -> None:
    for page, text in PAGES.items():
        for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text)):
            if "://" in target:
                continue
            path, _, anchor = target.partition("#")
            file = (ROOT / page).parent / path if path else ROOT / page
            assert file.exists(), f"{page}: {target}"
            if anchor:
                assert anchor in {slug(one) for one in re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)}, f"{page}: {target}"


def test_files_and_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        for span in inline(page):
            if span.startswith(FOLDERS) and not re.search(r"[*<… ]", span):
                assert (ROOT / span).exists(), f"{page}: {span}"
        for line in [*inline(page), *"".join(blocks(page, "bash")).splitlines()]:
            if match := re.match(r"make ([a-z-]+)", line):
                assert match[1] in targets, f"{page}: {line}"


def test_the_readme_holds_a_real_output() -> None:
    begin, end = (PAGES["README.md"].index(f"<!-- demo output: {word}") for word in ("begin", "end"))
    assert "Findings, worst first" in PAGES["README.md"][begin:end]


def test_json_toml_and_python_blocks_are_sound() -> None:
    events = {type(one).__name__: type(one) for _, one in EXAMPLES}
    for page in PAGES:
        for text in blocks(page, "json"):
            json.loads(text)
        for text in blocks(page, "toml"):
            tomllib.loads(text)
        for number, text in enumerate(blocks(page, "python")):
            compile(text, f"{page}#{number}", "exec")
        for name, text in re.findall(r"<!-- event: (\w+) -->\n```json\n(.*?)^```", PAGES[page], re.MULTILINE | re.DOTALL):
            events[name].model_validate_json(text)


def module(text: str) -> types.ModuleType:
    spec = importlib.util.spec_from_loader("from_the_docs", None)
    assert spec
    made = importlib.util.module_from_spec(spec)
    exec(compile(text, "docs", "exec"), made.__dict__)  # noqa: S102
    return made


def test_the_extensions_are_what_their_contracts_ask(tmp_path: Path) -> None:
    probe, rule, sink = (module(text) for text in blocks("docs/how-to/extend.md", "python"))
    assert all(len(text.splitlines()) <= 40 for text in blocks("docs/how-to/extend.md", "python"))
    assert isinstance(probe.Finger(), ServiceProbe)
    assert isinstance(rule.FINGER_OPEN, Rule)
    facts = ServiceFacts("default", "198.18.0.1", ServiceObservation(port=79, service="finger"), AT)
    judgement = rule.FINGER_OPEN.detect(facts)
    assert judgement
    assert judgement.floor < judgement.base < judgement.ceiling
    lines = sink.Lines(Settings(data_dir=tmp_path))
    lines.write(())
    lines.idle()
    assert (tmp_path / "changes.jsonl").exists()
    assert lines.topics == ("changes",)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStore]:
    """A store that holds an example of every event that has rows."""
    with running_store(tmp_path_factory.mktemp("docs")) as running:
        fill(running)
        yield running


def fill(running: RunningStore) -> None:
    """Write an example of every event that has rows; the finding among them is open, the sweep complete."""
    tables: dict[str, list[Row]] = defaultdict(list)
    tables["watermark_parts"].append({"topic": "probes", "partition": 0, "next_offset": 1, "complete_to": AT})
    for _, event in EXAMPLES:
        if isinstance(event, Finding):
            event = event.model_copy(update={"status": FindingStatus.OPEN})
        elif isinstance(event, SweepResult):
            event = event.model_copy(update={"complete": True})
        if type(event) in ROWS:
            for table, row in rows_of(event, AT):
                tables[table].append(row)
    client = running.client(writer=True)
    for table, rows in tables.items():
        insert_columns(client, table, {name: [row[name] for row in rows] for name in rows[0]})


@pytest.mark.store
def test_all_sql_runs_against_the_real_tables(store: RunningStore) -> None:
    found = [(page, text) for page in PAGES for text in blocks(page, "sql")]
    found += [(page, words[1]) for page, words in calls() if len(words) > 1 and words[0] == "query" and words[1] != "SQL"]
    assert len(found) > 15
    client = store.client()
    for page, sql in found:
        try:
            client.query(sql)
        except ClickHouseError as error:
            pytest.fail(f"{page}: {sql}\n{error}")
    assert client.query("SELECT title FROM worst_first").result_rows, "the queries must have something to find"


@pytest.mark.store
def test_the_programs_for_data_engineers_run(store: RunningStore) -> None:
    (program,) = blocks("docs/data-engineer.md", "python")
    done = run(sys.executable, "-c", program.replace("18123", str(store.port)))
    assert "expired" in done.stdout
    assert re.search(r"^[1-9]\d* open services$", done.stdout, re.MULTILINE)
    (line,) = [line for text in blocks("docs/data-engineer.md", "bash") for line in text.splitlines() if line.startswith("curl")]
    assert '"address"' in run("bash", "-euc", line.replace("18123", str(store.port)).replace("curl -s", "curl -sf")).stdout


@pytest.mark.kafka
def test_the_programs_for_a_soc_run(kafka: str, tmp_path: Path) -> None:
    prefix = f"d{uuid.uuid4().hex[:8]}."
    settings = Settings(data_dir=tmp_path, kafka=KafkaSettings(bootstrap=kafka, prefix=prefix, partitions=2))
    TopicAdmin(settings).apply()
    finding = next(one for _, one in EXAMPLES if isinstance(one, Finding))
    publisher = Publisher(settings, Codec())
    publisher.publish("findings", finding.finding_id, finding)
    publisher.publish("findings", "gone", None)
    publisher.publish("findings.ocsf", "gone", None)
    publisher.flush()
    server = StoreServer(free_ports(1)[0], None, "token", Limits(1, 1, 1 << 20), Catalog(prefix=prefix))
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    try:
        env = {
            "DRIFTLINE_KAFKA__BOOTSTRAP": kafka,
            "DRIFTLINE_KAFKA__PREFIX": prefix,
            "REGISTRY": f"http://127.0.0.1:{server.server_port}",
        }
        reader, decider = blocks("docs/soc.md", "python")
        told = run(sys.executable, "-c", reader.replace("poll(15)", "poll(6)"), **env).stdout
        assert f"{finding.rank.value} {finding.risk}" in told
        assert "forgotten: gone" in told
        run(sys.executable, "-c", decider, finding.finding_id, **env)
        decision = read_table(settings, "decisions")[f"{finding.finding_id}|standing"]
        assert isinstance(decision, Decision)
        assert (decision.kind.value, decision.decided_by) == ("accept", "soar")
        (kcat,) = [text for text in blocks("docs/soc.md", "bash") if text.startswith("kcat")]
        run("bash", "-euc", kcat, **env)
    finally:
        server.shutdown()
        server.server_close()


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(arguments, env={**os.environ, **env}, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done
