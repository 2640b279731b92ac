"""`driftline up`, whole: what it does when a part of it dies, how it stops, what it refuses, what it costs."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from infra.app.roles import GROUPS, MODULES, health_port
from tests.pipelines import Pipeline, owned, prepare, running_pipeline

pytestmark = [pytest.mark.kafka, pytest.mark.store, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    with running_pipeline(tmp_path_factory.mktemp("up")) as made:
        yield made


def rows(pipeline: Pipeline) -> dict[str, dict[str, Any]]:
    return {row["role"]: row for row in pipeline.status(0.1).rows}


def eventually(condition: Callable[[], object], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def back(pipeline: Pipeline, role: str, before: int) -> None:
    def there() -> bool:
        now = rows(pipeline).get(role, {"state": "", "pid": None})
        return now["state"] == "ready" and now["pid"] not in (before, None)

    eventually(there, 90, f"{role} to be back")


def test_every_role_answers_health_readiness_and_its_four_metrics_on_loopback(pipeline: Pipeline) -> None:
    for roles in GROUPS:
        address = f"http://127.0.0.1:{health_port(pipeline.settings, roles)}"
        for path in ("/healthz", "/readyz"):
            assert httpx.get(address + path, timeout=5).status_code == 200
        text = httpx.get(address + "/metrics", timeout=5).text
        for role in roles:
            for metric in ("received_total{", "emitted_total{", "discarded_total{", "lag{"):
                assert f'driftline_{metric}role="{role}"' in text
    pids = set(pipeline.processes().values())
    listening = [one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN and one.pid in pids]
    assert {str(getattr(one.laddr, "ip", "")).removeprefix("::ffff:") for one in listening} == {"127.0.0.1"}


def test_status_names_every_role_ready_with_what_it_costs(pipeline: Pipeline) -> None:
    found = pipeline.json("status")
    assert {row["role"] for row in found["rows"]} == {"kafka", "supervisor", *MODULES}
    assert {row["state"] for row in found["rows"]} == {"ready"}
    assert 100 < found["memory_mb"] < 1500
    assert 0 < found["cpu_percent"] < 150


@pytest.mark.parametrize("role", ["differ", "store"])
def test_a_killed_role_is_started_again_and_counted(pipeline: Pipeline, role: str) -> None:
    before = rows(pipeline)[role]
    os.kill(before["pid"], signal.SIGKILL)
    back(pipeline, role, before["pid"])
    after = rows(pipeline)[role]
    assert after["restarts"] == before["restarts"] + 1
    assert after["last_error"] == "was ended by SIGKILL"


@pytest.mark.long
def test_a_killed_broker_is_started_again_and_the_roles_go_on(pipeline: Pipeline) -> None:
    before = rows(pipeline)
    os.kill(before["kafka"]["pid"], signal.SIGKILL)
    back(pipeline, "kafka", before["kafka"]["pid"])
    assert rows(pipeline)["kafka"]["restarts"] == before["kafka"]["restarts"] + 1
    # A campaign's way through the broker: command line → scheduler's topic and back.
    eventually(lambda: pipeline.cli("campaign", "list", code=None).returncode == 0, 60, "the broker to answer")
    pipeline.cli("targets", "push", "--id", "after-the-crash", "198.18.0.1")
    eventually(lambda: pipeline.rows("SELECT count() AS n FROM runs")[0]["n"] >= 1, 90, "a run to reach ClickHouse")


def test_a_second_one_on_the_same_folder_is_refused_and_harms_nothing(pipeline: Pipeline) -> None:
    done = pipeline.cli("up", code=3)
    assert "already running" in done.stderr
    assert "Traceback" not in done.stderr
    assert rows(pipeline)["store"]["state"] == "ready"


@pytest.mark.long
def test_children_die_with_a_killed_supervisor_and_sigterm_leaves_nothing_behind(tmp_path: Path) -> None:
    pipeline = prepare(tmp_path)
    pipeline.start()
    assert pipeline.child is not None
    os.kill(pipeline.child.pid, signal.SIGKILL)
    eventually(lambda: owned(pipeline.environment) == [], 20, "every child to die")
    assert not pipeline.json("status")["running"]
    pipeline.start()
    begun = time.monotonic()
    pipeline.stop()
    assert time.monotonic() - begun < 30
    assert pipeline.child.poll() == 0
    assert owned(pipeline.environment) == []
    assert not (tmp_path / "run" / "processes.json").exists()
    assert not (tmp_path / "kafka" / "broker.pid").exists()


def test_a_role_that_fails_at_start_says_why_and_everything_stops(tmp_path: Path) -> None:
    pipeline = prepare(tmp_path)
    port = health_port(pipeline.settings, ("correlator",))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        done = pipeline.cli("up", code=3, seconds=120)
    assert f"Port {port} for health and metrics is in use" in done.stderr
    assert "correlator" in done.stderr
    assert "Traceback" not in done.stderr
    assert owned(pipeline.environment) == []


def test_a_taken_broker_port_is_a_sentence_and_nothing_stays(tmp_path: Path) -> None:
    pipeline = prepare(tmp_path)
    port = pipeline.settings.broker.port
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        done = pipeline.cli("up", code=3, seconds=60)
    assert f"Port {port}" in done.stderr
    assert "DRIFTLINE_BROKER__PORT" in done.stderr
    assert owned(pipeline.environment) == []
