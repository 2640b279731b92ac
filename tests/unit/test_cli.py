"""The command line without a pipeline: exit codes, one clear sentence for each mistake, and what is imported."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.app.cli import COMMANDS, NOUNS, PACKAGE, build
from infra.app.commands import grants, orders
from infra.app.runfolder import take_lock, write_notes
from infra.core.errors import BadInput
from infra.core.settings import Settings
from tests.ports import free_ports
from tests.shell import Shell, running_shell

READING = (
    ("status",), ("doctor",), ("config",), ("query", "SELECT 1"), ("agents",), ("findings", "list"), ("findings", "show", "abcd"),
    ("grant", "list"), ("grant", "show", "x"), ("campaign", "list"), ("campaign", "show", "x"), ("inventory", "list"),
    ("topics", "list"), ("dlq", "list"), ("dlq", "show", "targets:0:0"), ("freeze", "--show"), ("runs",),
    ("intel", "show", "CVE-2021-41773"),
)  # fmt: skip
NEEDS_KAFKA = [one for one in READING if one[0] in ("grant", "campaign", "inventory", "dlq", "freeze", "intel")]
WRITING = (
    ("resume",),
    ("drain",),
    ("freeze",),
    ("thaw", "--as", "Ann"),
    ("targets", "push", "198.18.0.1"),
    ("topics", "apply"),
    ("dlq", "replay", "targets"),
    ("intel", "sync", "--kev", "kev.json"),
)
NEEDS_STORE = [one for one in READING if one[0] in ("query", "agents", "findings", "runs")]


def settings(folder: Path) -> dict[str, str]:
    """No pipeline runs there: every port is free."""
    broker, store = free_ports(2)
    return {"DRIFTLINE_DATA_DIR": str(folder), "DRIFTLINE_BROKER__PORT": str(broker), "DRIFTLINE_STORE__PORT": str(store)}


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    with running_shell(tmp_path_factory.mktemp("shell")) as made:
        yield made


def test_every_command_is_found_under_the_word_that_starts_it() -> None:
    whole = build(None)
    names = {command.name or command.callback.__name__ for command in whole.registered_commands if command.callback}
    assert names == set(COMMANDS)
    assert {group.name for group in whole.registered_groups} == set(NOUNS)
    for word in (*COMMANDS, *NOUNS):
        part = build(word)
        held = {command.name or command.callback.__name__ for command in part.registered_commands if command.callback}
        assert word in held | {group.name for group in part.registered_groups}
    for module in {*COMMANDS.values(), *NOUNS.values()}:
        assert importlib.import_module(f"{PACKAGE}.{module}").__doc__


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_reading_commands_take_json(shell: Shell, tmp_path: Path, words: tuple[str, ...]) -> None:
    word = words[:2] if words[0] in NOUNS else words[:1]
    assert "--json" in shell.run(*word, "--help", folder=tmp_path).out


def test_a_role_process_imports_only_what_it_needs() -> None:
    code = "import sys; from infra.app.cli import build; build('run'); print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout.split()
    heavy = {"clickhouse_connect", "pyarrow", "numpy", "confluent_kafka", "psutil", "faust", "langchain", "scapy", "chdb", "cryptography"}
    assert heavy & set(loaded) == set()


def test_a_sweep_imports_little_before_its_first_packet() -> None:
    """It is over in seconds, of which a third goes by until the first packet: nearly all of that is imports."""
    code = (
        "import sys; from infra.app.cli import build; build('sweep'); import processors.scan.local_sweep; "
        "print(*sys.modules); from processors.scan.sweep.recall import estimate; estimate([9, 1]); print('numpy.ma' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    first, after = done.stdout.splitlines()
    loaded = set(first.split())
    heavy = {"rich", "structlog", "confluent_kafka", "clickhouse_connect", "scapy", "schemas.topics", "schemas.codec", "numpy.random"}
    assert heavy & loaded == set()
    events = {name for name in loaded if name.startswith("schemas.events.")}
    assert events == {"schemas.events.base", "schemas.events.grants", "schemas.events.targets"}
    assert len(loaded) < 560, "it was 512"
    assert after == "False", "numpy.ma takes 12 ms"


@pytest.mark.parametrize("words", [*NEEDS_KAFKA, *WRITING], ids=" ".join)
def test_without_kafka_it_says_so_at_once(shell: Shell, tmp_path: Path, words: tuple[str, ...]) -> None:
    begun = time.monotonic()
    done = shell.run(*words, folder=tmp_path, **settings(tmp_path))
    assert time.monotonic() - begun < 15, "at once"
    assert done.code == 3
    assert done.out == ""
    assert "does not answer" in done.err
    assert "driftline up" in done.err


@pytest.mark.parametrize("words", NEEDS_STORE, ids=" ".join)
def test_without_a_store_it_says_so(shell: Shell, tmp_path: Path, words: tuple[str, ...]) -> None:
    done = shell.run(*words, folder=tmp_path, **settings(tmp_path))
    assert (done.code, done.out) == (3, "")
    assert done.err.startswith("error: No store answers on 127.0.0.1:")


@pytest.mark.parametrize(
    ("arguments", "over", "said"),
    [
        (("nonsense",), {}, "nonsense"),
        (("grant", "create"), {}, "--network"),
        (("targets", "push", "--nonsense"), {}, "--nonsense"),
        (("targets", "push", "--file", "/nonexistent/x"), {}, "can't be read"),
        (("targets", "push", "--ports", "70000", "198.18.0.1"), {}, "70000"),
        (("targets", "push", "--zone", "moon", "198.18.0.1"), {}, "moon"),
        (("inventory", "push", "/nonexistent"), {}, "can't be read"),
        (("run", "nonsense"), {}, "The roles are"),
        (("intel", "sync"), {}, "none is switched on"),
        (("intel", "sync"), {"DRIFTLINE_INTEL__FEEDS": '["all"]'}, "intel.feeds"),
        (("intel", "show", "CVE-1"), {}, "no CVE's name"),
        (("findings", "show", "'; DROP"), {}, "not a finding's id"),
        (("freeze", "198.18.0.1/8"), {}, "198.18.0.1/8"),
        (("thaw",), {}, "--as"),
        (("thaw", "--as", "  "), {}, "without a name"),
        (("grant", "sign", "lab"), {}, "--as"),
        (("config",), {"DRIFTLINE_ZONES": "foo"}, "zones"),
        (("config",), {"DRIFTLINE_STORE__PORT": "99999999", "DRIFTLINE_BROKER__PORT": "x"}, "broker.port"),
        (("config",), {"DRIFTLINE_CONFIG": "bad.toml"}, "can't be read"),
    ],
)
def test_bad_input_is_exit_code_2_with_a_sentence(
    shell: Shell, tmp_path: Path, arguments: tuple[str, ...], over: dict[str, str], said: str
) -> None:
    (tmp_path / "bad.toml").write_text("x = [")
    done = shell.run(*arguments, folder=tmp_path, **settings(tmp_path) | over)
    assert done.code == 2, done.err
    assert done.out == ""
    assert said in done.err


def test_a_pipe_that_closes_is_no_error_message(tmp_path: Path) -> None:
    command = f"{sys.executable} -m infra.app.cli topics list --json | true"
    done = subprocess.run(
        ["bash", "-c", command], env=os.environ | settings(tmp_path), cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""


def _measures(pid: int) -> bool:
    """Whether everything is imported and the command waits: it has psutil, and sleeps in the kernel's timer."""
    place = Path(f"/proc/{pid}")
    return "psutil" in (place / "maps").read_text() and "nanosleep" in (place / "wchan").read_text()


def test_ctrl_c_is_exit_code_130_without_a_traceback(tmp_path: Path) -> None:
    here = Settings(data_dir=tmp_path)
    with take_lock(here):
        write_notes(here, {"supervisor": os.getpid(), "broker": None, "members": []})
        command = [sys.executable, "-m", "infra.app.cli", "status", "--seconds", "60"]
        with subprocess.Popen(
            command, env=os.environ | settings(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            deadline = time.monotonic() + 30
            while not _measures(process.pid) and time.monotonic() < deadline:
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            out, said = process.communicate(timeout=30)
    assert (process.returncode, out, said) == (130, "", "")


def test_a_file_of_nothing_but_brackets_is_no_grant(tmp_path: Path) -> None:
    path = tmp_path / "deep.json"
    path.write_text("[" * 200_000)
    with pytest.raises(BadInput, match="no file of that name holds one"):
        grants._from_file(str(path))


def test_a_freeze_of_ipv4_written_as_ipv6_is_ordered_as_ipv4() -> None:
    assert orders._parsed(["::ffff:198.18.1.5/128", "2001:db8::/64"]) == {"198.18.1.5/32", "2001:db8::/64"}
