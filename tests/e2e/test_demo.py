"""The demo as a new user runs it: what it prints, what an interruption leaves behind (nothing), and what it does without rights."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.machines import Machine, Started, machine
from tests.scanning import wait_until

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.store,
    pytest.mark.namespace,
    pytest.mark.slow,
    pytest.mark.timeout(400),
]
DEMO = (sys.executable, "-m", "infra.app.cli", "demo", "--json")
MOST_SECONDS = 180
NO_CAPABILITIES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all")
NOT_ROOT = ("unshare", "--user", "--map-user=1000", "--map-group=1000")


@pytest.fixture(scope="module")
def ground() -> Iterator[Machine]:
    if os.geteuid() != 0:
        pytest.skip("needs root, for a machine in namespaces")
    with machine() as made:
        yield made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kept from run to run, so that each goes on from what the one before left."""
    return tmp_path_factory.mktemp("demo")


def start(ground: Machine, folder: Path, name: str, rights: Sequence[str] = (), more: Sequence[str] = ()) -> Started:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("DRIFTLINE_")}
    return ground.start([*rights, *DEMO, *more], clean | {"DRIFTLINE_DATA_DIR": str(folder / "data")}, folder, name)


def finished(started: Started, seconds: float = 300.0) -> dict[str, Any]:
    """The one document that a demo prints."""
    code = started.outer.wait(seconds)
    assert code == 0, started.err.read_text(errors="replace")[-3000:]
    (line,) = started.out.read_text().splitlines()
    document: dict[str, Any] = json.loads(line)
    return document


def wait_for(moment: str, ground: Machine, folder: Path, started: Started) -> None:
    """Until the demo is at its network, its pipeline, or in the middle of its scan."""

    def packets() -> int:
        return int(ground.read("cat", "/sys/class/net/dl-1/statistics/tx_packets") or 0)

    conditions = {
        "network": lambda: "dl-1" in ground.read("ip", "-o", "link"),
        "broker": lambda: "java-runtime" in ground.read("ps", "-eo", "args"),
        "roles": lambda: "run scanner" in ground.read("ps", "-eo", "args"),
        "scan": lambda: packets() > 100,
    }
    wait_until(lambda: started.outer.poll() is not None or conditions[moment](), 120)
    assert started.outer.poll() is None, started.err.read_text(errors="replace")[-3000:]


def nothing_left(ground: Machine) -> None:
    deadline = time.monotonic() + 10
    while (left := ground.leftovers()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("network", signal.SIGINT),
        pytest.param("broker", signal.SIGTERM, marks=pytest.mark.long),
        pytest.param("roles", signal.SIGINT, marks=pytest.mark.long),
        ("scan", signal.SIGINT),
    ],
    ids=lambda one: one.name if isinstance(one, signal.Signals) else one,
)
def test_an_interruption_leaves_nothing_behind(ground: Machine, folder: Path, moment: str, number: signal.Signals) -> None:
    started = start(ground, folder, f"{moment}-{number.name}")
    wait_for(moment, ground, folder, started)
    started.process.send_signal(number)
    assert started.outer.wait(60) == 130
    nothing_left(ground)
    assert started.out.read_text() == ""
    assert "Traceback" not in started.err.read_text(errors="replace")


def test_after_a_kill_a_second_run_cleans_and_shows_all(ground: Machine, folder: Path) -> None:
    killed = start(ground, folder, "killed")
    wait_for("scan", ground, folder, killed)
    killed.process.kill()
    killed.outer.wait(20)
    nothing_left(ground)  # what it started dies with it
    began = time.monotonic()
    document = finished(start(ground, folder, "second"))
    took = time.monotonic() - began
    nothing_left(ground)
    assert document["ground"] == "lab", document["limits"]
    for when in ("first", "second"):
        match = document["truth"][when]
        assert (match["missing"], match["extra"]) == ([], [])
        assert match["rows"] == match["services"] > 10
    assert {row["rank"] for row in document["findings"]} >= {"critical", "high", "low"}
    kinds = {row["kind"] for row in document["changes"]}
    assert {"service_opened", "service_closed", "certificate_changed"} <= kinds
    assert document["moved"]
    assert "CVE-2023-44487" in {cve for row in document["findings"] for cve in row["cves"]}
    assert {row["cve"] for row in document["only_by_version"]} >= {"CVE-2024-6387"}, "or its OpenSSH names no package of Debian 12"
    assert took < MOST_SECONDS, f"the demo took {took:.0f} s: {document['timings']}"


@pytest.mark.parametrize(
    "rights",
    [
        pytest.param(NO_CAPABILITIES, marks=pytest.mark.long, id="no-capabilities"),
        pytest.param(NOT_ROOT, marks=pytest.mark.long, id="not-root"),
    ],
)
def test_without_rights_it_goes_on_with_loopback(ground: Machine, tmp_path: Path, rights: Sequence[str]) -> None:
    document = finished(start(ground, tmp_path, "loopback", rights))
    nothing_left(ground)
    assert document["ground"] == "loopback"
    assert document["limits"]
    assert document["truth"]["second"]["missing"] == []
    assert document["findings"]
    assert document["changes"]
    assert document["timings"]["total"] < MOST_SECONDS


@pytest.mark.long
@pytest.mark.parametrize("rights", [pytest.param((), id="lab"), pytest.param(NOT_ROOT, id="loopback")])
def test_with_a_scripted_model_it_ends_with_explanations_and_a_look_that_found_something(
    ground: Machine, tmp_path: Path, rights: Sequence[str]
) -> None:
    document = finished(start(ground, tmp_path, "model", rights, ["--model-server"]))
    nothing_left(ground)
    told = document["model"]
    assert len(told["reviews"]) > 5
    known = {row["finding_id"]: set(row["evidence_ids"]) for row in document["findings_after"]}
    for row in told["reviews"]:
        assert row["explanation"]
        assert row["model_action"]
        assert row["model_evidence_ids"]
        assert set(row["model_evidence_ids"]) <= known.get(row["finding_id"], set(row["model_evidence_ids"]))
    assert {row["cause"] for row in told["follow_up_runs"]} == {"follow_up"}
    (found,) = told["follow_up_found"]
    assert found["port"] == 16379
    assert told["follow_up_findings"]
    for when in ("first", "second"):
        assert (document["truth"][when]["missing"], document["truth"][when]["extra"]) == ([], [])
