"""`driftline status`: what it makes of the supervisor's notes, the roles' own word and the kernel's."""

from __future__ import annotations

import os
import re
import sys
import threading
from pathlib import Path

import pytest

from infra.app.runfolder import is_running, last_words, read_notes, remove_notes, take_lock, write_notes
from infra.app.runner import declare_metrics
from infra.app.status import pipeline_status
from infra.app.supervisor import Member, Supervisor
from infra.core.errors import MissingPrerequisite
from infra.core.settings import Settings
from infra.core.telemetry import Meter, Telemetry, serve
from infra.local.child import Child
from tests.ports import free_ports


def test_it_joins_notes_roles_and_kernel(tmp_path: Path) -> None:
    settings, telemetry = Settings(data_dir=tmp_path), Telemetry()
    (port,) = free_ports(1)
    declare_metrics(telemetry, ("planner", "notifier"))
    meter = Meter("planner", telemetry)
    meter.ready()
    meter.received(5)
    meter.lag(7)
    meter.error("a bad record")
    server = serve(port, telemetry)
    entry = {"roles": ["planner", "notifier"], "port": port, "pid": os.getpid(), "restarts": 2, "last_error": "", "given_up": False}
    dead = {"roles": ["differ"], "port": None, "pid": None, "restarts": 3, "last_error": "was ended by SIGKILL", "given_up": False}
    blown = {**dead, "roles": ["archiver"], "given_up": True}
    with take_lock(settings):
        write_notes(settings, {"supervisor": os.getpid(), "broker": None, "members": [entry, dead, blown]})
        threading.Timer(0.2, meter.received, (20,)).start()
        found = pipeline_status(settings, 0.5)
    server.shutdown()
    server.server_close()
    rows = {row["role"]: row for row in found.rows}
    assert found.running
    assert found.memory_mb > 10
    assert [rows[name]["state"] for name in ("planner", "notifier", "differ", "archiver")] == [
        "ready",
        "starting",
        "down",
        "stopped (fuse)",
    ]
    assert (rows["planner"]["received"], rows["planner"]["lag"], rows["planner"]["restarts"]) == (25, 7, 2)
    assert 10 < rows["planner"]["in_per_s"] <= 40
    assert re.fullmatch(r"\d\d:\d\d:\d\dZ a bad record", rows["planner"]["last_error"])
    assert rows["differ"]["last_error"] == "was ended by SIGKILL"
    assert rows["notifier"]["memory_mb"] is None


def test_every_role_shows_its_four_metrics_before_anything_happened(tmp_path: Path) -> None:
    telemetry = Telemetry()
    declare_metrics(telemetry, ("store",))
    from prometheus_client import generate_latest

    shown = generate_latest(telemetry.registry).decode()
    for line in ("received_total", "emitted_total", "lag"):
        assert f'driftline_{line}{{role="store"}} 0.0' in shown
    assert 'driftline_discarded_total{role="store",stage="decode"} 0.0' in shown


def test_notes_of_a_killed_supervisor_do_not_count(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert not is_running(settings)
    with take_lock(settings):
        write_notes(settings, {"supervisor": 1, "broker": None, "members": []})
        assert is_running(settings)
    assert not is_running(settings)
    assert read_notes(settings) is None
    assert not pipeline_status(settings, 0.1).running
    remove_notes(settings)
    remove_notes(settings)


def test_a_second_supervisor_is_refused(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    with take_lock(settings), pytest.raises(MissingPrerequisite, match="already running"):
        take_lock(settings)


def test_a_blown_fuse_is_not_restarted_and_status_says_so(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs" / "differ.log"
    said = 'print(\'{"reason": "Most records were bad."}\', flush=True)'
    member = Member(("differ",), None, Child([sys.executable, "-c", f"{said}; raise SystemExit(5)"], log))
    assert member.child is not None
    assert member.child.wait(30.0) == 5
    with take_lock(settings):
        supervisor = Supervisor(settings, members=[member])
        supervisor.watch()
        supervisor.watch()
        (row,) = [one for one in pipeline_status(settings, 0.1).rows if one["role"] == "differ"]
    assert (row["state"], row["restarts"]) == ("stopped (fuse)", 0)
    assert row["last_error"] == "ended with exit code 5: Most records were bad."


def test_a_role_that_keeps_failing_is_started_less_and_less_often() -> None:
    member = Member(("differ",), None)
    assert [member.put_off(0.0) for _ in range(7)] == [0.0, 1.0, 2.0, 5.0, 10.0, 30.0, 30.0]


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ('{"event": "role_stopped", "reason": "Port 1 is taken."}\n{"event": "bye"}\n', "Port 1 is taken."),
        ('{"event": "role_failed", "exception": "Traceback\\n  x\\nValueError: no"}\n', "ValueError: no"),
        ('{"event": "ready"}\nFatal Python error: out of memory\n', "Fatal Python error: out of memory"),
        ('{"event": "ready"}\n', ""),
        ("", ""),
    ],
)
def test_last_words(tmp_path: Path, log: str, words: str) -> None:
    file = tmp_path / "role.log"
    file.write_text(log)
    assert last_words(file) == words


def test_last_words_of_no_log(tmp_path: Path) -> None:
    assert last_words(tmp_path / "none.log") == ""
