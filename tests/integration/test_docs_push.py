"""Every program of docs/how-to/push-targets.md is run as it stands there, against the real broker and the real planner."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.core.settings import KafkaSettings, Settings
from infra.kafka.client import read_whole, value_of
from infra.kafka.topics import TopicAdmin
from processors.plan import role
from producers.targets.reading import LineReader, Manner
from schemas.codec import Codec
from schemas.events.targets import Run, TargetRequest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "push-targets.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def settings(kafka: str, tmp_path: Path) -> Iterator[Settings]:
    made = Settings(data_dir=tmp_path, kafka=KafkaSettings(bootstrap=kafka, prefix=f"t{uuid.uuid4().hex[:8]}.", partitions=3))
    TopicAdmin(made).apply()
    stop, ready = threading.Event(), threading.Event()
    thread = threading.Thread(target=role.run, args=(made, stop, ready.set))
    thread.start()
    try:
        assert ready.wait(30)
        yield made
    finally:
        stop.set()
        thread.join(30)


def command(settings: Settings, *arguments: str) -> str:
    env = os.environ | {"DRIFTLINE_KAFKA__BOOTSTRAP": settings.bootstrap, "DRIFTLINE_KAFKA__PREFIX": settings.kafka.prefix}
    done = subprocess.run(arguments, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_where(settings: Settings, wanted: Callable[[Run], bool]) -> Run:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found: list[Run] = []
        read_whole(settings, "runs", lambda message, found=found: found.append(_run(value_of(message))))  # type: ignore[misc]
        for run in found:
            if wanted(run):
                return run
        time.sleep(0.1)
    raise AssertionError("the run did not come")


def _run(value: bytes | None) -> Run:
    event = Codec().decode("runs", value or b"")
    assert isinstance(event, Run)
    return event


@pytest.mark.kafka
def test_the_python_programs_push_and_tell_what_became_of_it(settings: Settings) -> None:
    pusher, watcher = blocks("python")
    request_id = command(settings, sys.executable, "-c", pusher).strip()
    run = run_where(settings, lambda run: run.request_id == request_id)
    assert [one.target for one in run.refused] == ["198.18.0.0/28", "198.18.0.77"]
    told = command(settings, sys.executable, "-c", watcher.replace("poll(15)", "poll(6)"))
    assert f"{request_id} 0 units, 0 addresses" in told
    assert "refused: 198.18.0.77 because it is in no network of any grant of zone default" in told


@pytest.mark.kafka
def test_the_kcat_line_pushes(settings: Settings) -> None:
    (line,) = blocks("bash")
    command(settings, "bash", "-euc", line)
    run = run_where(settings, lambda run: run.request_id.startswith("kcat-"))
    assert [one.target for one in run.refused] == ["198.18.0.1-9"]


def test_the_example_value_is_a_request() -> None:
    (text,) = blocks("json")
    request = TargetRequest.model_validate_json(text)
    assert Codec().decode("targets", json.dumps(json.loads(text)).encode()) == request
    for name in re.findall(r"^\| `(\w+)` \|", PAGE.split("## The value")[1].split("## Python")[0], re.MULTILINE):
        assert name in TargetRequest.model_fields


def test_the_example_file_is_read_whole() -> None:
    (text,) = blocks("text")
    reader = LineReader(Manner())
    assert [wanted.targets for line in text.splitlines() if (wanted := reader.read(line))] == [
        ("198.18.0.0/24",),
        ("198.18.1.1-198.18.1.9",),
        ("www.example.org",),
    ]


def test_the_cron_line_names_options_that_exist() -> None:
    (line,) = blocks("cron")
    words = shlex.split(line.split("driftline targets push")[1])
    source = (ROOT / "infra" / "app" / "commands" / "targets.py").read_text()
    options = [word for word in words if word.startswith("--")]
    assert options
    assert all(f'"{option}"' in source for option in options)
