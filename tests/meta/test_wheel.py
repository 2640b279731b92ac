"""A wheel built from the tree holds everything that the five packages hold, installs in an empty environment, and runs."""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.extension.building import build_wheel, empty_environment, install
from tests.ports import free_ports

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "producers", "processors", "consumers", "infra")
EXPLICABLE = {"kafka's jars"}  # an empty environment need not have downloaded them; the data folder and ports are made free below
LEFT_OUT = {".pyc", ".pyo"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if not name.split("/")[0].endswith(".dist-info")}
    wanted = {
        str(file.relative_to(ROOT))
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and file.suffix not in LEFT_OUT
    }
    assert held == wanted
    for needed in (".avsc", ".sql", ".toml", ".lock", ".py"):
        assert any(name.endswith(needed) for name in held), needed
    assert {"infra/local/kafka_jars.lock", "processors/enrich/rules/services.toml"} <= held
    assert any(name.startswith("schemas/avro/history/") for name in held)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_wheel_installs_in_an_empty_environment_and_runs(wheel: Path, tmp_path: Path) -> None:
    python = empty_environment(tmp_path / "venv")
    install(python, "--require-hashes", "-r", str(ROOT / "requirements.lock"))
    install(python, "--no-deps", str(wheel))
    broker, controller, store = (str(port) for port in free_ports(3))
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DRIFTLINE_", "PYTHON"))}
    environment = clean | {
        "DRIFTLINE_DATA_DIR": str(tmp_path / "data"),
        "DRIFTLINE_BROKER__PORT": broker,
        "DRIFTLINE_BROKER__CONTROLLER_PORT": controller,
        "DRIFTLINE_STORE__PORT": store,
    }

    def driftline(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(python.with_name("driftline")), *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False)

    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert driftline("--version").stdout == f"driftline {version}\n"
    told = driftline("doctor", "--json")
    failed = {one["name"] for one in json.loads(told.stdout) if one["needed"] and not one["ok"]}
    assert failed <= EXPLICABLE, told.stdout
    assert told.returncode == (3 if failed else 0), told.stderr
    assert next(one for one in json.loads(told.stdout) if one["name"] == "packages")["ok"]
