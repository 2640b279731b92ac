"""A child that can't outlive its parent, and what is done about one that did."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from infra.core.errors import Refused
from infra.local.broker_owner import PidFile, end_stale_broker, note_owner
from infra.local.child import Child

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that looks like the broker of `tmp_path`: it has the name of its properties file among its arguments."""
    process = subprocess.Popen([*SLEEP, str(tmp_path / "server.properties")])
    yield process
    process.kill()
    process.wait()


def note(tmp_path: Path, process: subprocess.Popen[bytes], **changes: float) -> Path:
    """A pid file that says that `process` was started by a process that is gone."""
    noted = PidFile(process.pid, psutil.Process(process.pid).create_time(), owner=process.pid, owner_started=1.0)
    path = tmp_path / "broker.pid"
    path.write_text(json.dumps(asdict(noted) | changes))
    return path


def test_a_child_dies_with_its_parent_even_by_kill_9(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from infra.local.child import Child;"
        f"child = Child({SLEEP!r}, Path({str(tmp_path / 'out')!r})); print(child.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        assert child.is_running()
        parent.kill()
    assert_gone(child)


def test_a_child_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    children: list[Child] = []
    starter = threading.Thread(target=lambda: children.append(Child(SLEEP, tmp_path / "out")))
    starter.start()
    starter.join()
    assert children[0].wait(0.5) is None
    children[0].stop(5)


def test_a_child_that_ignores_sigterm_is_killed_after_the_deadline(tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    child = Child([sys.executable, "-c", deaf], tmp_path / "out")
    deadline = time.monotonic() + 10
    while not (tmp_path / "out").read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.stop(timeout=0.2)
    assert child.poll() == -9


def test_a_stale_broker_is_ended(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    end_stale_broker(note(tmp_path, sleeper), tmp_path / "server.properties")
    assert not psutil.pid_exists(sleeper.pid)


def test_a_process_that_was_given_the_same_pid_is_left_alone(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    end_stale_broker(note(tmp_path, sleeper, started=12345.0), tmp_path / "server.properties")
    assert sleeper.poll() is None


def test_a_process_that_is_no_broker_of_this_folder_is_left_alone(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    end_stale_broker(note(tmp_path, sleeper), tmp_path / "elsewhere" / "server.properties")
    assert sleeper.poll() is None


def test_a_broker_whose_owner_lives_is_not_stale(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    path = tmp_path / "broker.pid"
    note_owner(path, sleeper.pid)
    with pytest.raises(Refused, match=rf"runs already \(process {sleeper.pid}, started by process {os.getpid()}\).*DRIFTLINE_DATA_DIR"):
        end_stale_broker(path, tmp_path / "server.properties")
    assert sleeper.poll() is None


@pytest.mark.parametrize("content", [None, "", "{", '{"pid": 1}'])
def test_a_pid_file_that_makes_no_sense_is_no_obstacle(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "broker.pid"
    if content is not None:
        path.write_text(content)
    end_stale_broker(path, tmp_path / "server.properties")


def assert_gone(process: psutil.Process) -> None:
    gone, _alive = psutil.wait_procs([process], timeout=5)
    assert gone or process.status() == psutil.STATUS_ZOMBIE
