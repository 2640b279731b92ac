"""The deployment files agree with the code. They were never run here: no container engine runs on the development machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from clickhouse_connect.driver.exceptions import ClickHouseError

from infra.app.roles import MODULES, health_port
from infra.core.settings import Settings, load_settings
from infra.local.packages import PROBES
from tests.meta.test_docs import ENVIRONMENT, fill, problem
from tests.stores import running_store

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "infra" / "deploy"
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ROLES = {name: SERVICES[name] for name in SERVICES if name in MODULES}
SERVERS = {"kafka", "registry", "clickhouse", "grafana"}
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "dashboards" / "driftline.json").read_text())


def environment(service: dict[str, Any]) -> dict[str, str | None]:
    found: dict[str, str | None] = service.get("environment", {})
    return found


def test_there_is_one_service_a_role_and_no_other() -> None:
    assert set(SERVICES) == set(MODULES) | SERVERS | {"topics"}
    assert all(service["command"] == ["run", name] for name, service in ROLES.items())
    assert problem(SERVICES["topics"]["command"]) is None


def test_all_roles_are_one_image() -> None:
    assert len({service["image"] for service in ROLES.values()}) == 1
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert SERVICES["topics"]["image"] == f"driftline:{version}"
    assert all(":" in service["image"] and not service["image"].endswith(":latest") for service in SERVICES.values())


def test_every_setting_exists_and_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, service in ROLES.items():
        assert {one for one in environment(service) if one.startswith("DRIFTLINE_")} <= ENVIRONMENT, name
        with monkeypatch.context() as patch:
            for variable, value in environment(service).items():
                if value is not None:
                    patch.setenv(variable, str(value))
            settings = load_settings()
        assert settings.bootstrap == "kafka:9092"
        assert settings.registry.url == "http://registry:8081"
        assert settings.model.name is None
    assert set(re.findall(r"DRIFTLINE_[A-Z_]*[A-Z]", (DEPLOY / "Dockerfile").read_text())) <= ENVIRONMENT


def test_only_who_needs_a_secret_has_it() -> None:
    def holders(word: str) -> set[str]:
        return {name for name, service in SERVICES.items() if any(word in f"{key}={value}" for key, value in environment(service).items())}

    assert holders("DRIFTLINE_CLICKHOUSE__DSN") == {"store", "archiver", "reconciler"}
    assert holders("${CLICKHOUSE_PASSWORD") == {"store", "archiver", "reconciler", "clickhouse"}
    assert holders("DRIFTLINE_MODEL__API_KEY") == {"assessor"}
    assert holders("DRIFTLINE_SCOPE__SIGNERS_FILE") == {"planner", "scanner"}
    assert SERVICES["scanner"]["networks"] == ["bus"]
    assert "bus" not in SERVICES["clickhouse"]["networks"]


def test_no_secret_is_in_the_file() -> None:
    assert "env_file" not in TEXT
    for service in SERVICES.values():
        for name, value in environment(service).items():
            if re.search("PASSWORD|SECRET|KEY|TOKEN", name) or name.endswith("DSN"):
                assert value is None or re.search(r"\$\{\w+:\?[^}]+\}", value), f"{name} has a value or a default"


def test_the_scanner_alone_has_a_capability() -> None:
    assert {name for name, service in SERVICES.items() if "cap_add" in service} == {"scanner"}
    assert set(SERVICES["scanner"]["cap_add"]) <= {"NET_RAW", "NET_ADMIN"}
    assert all(service["cap_drop"] == ["ALL"] and service["read_only"] for service in ROLES.values())
    assert not any(service.get("privileged") or service.get("network_mode") for service in SERVICES.values())
    assert {name for name, service in SERVICES.items() if "user" in service} == {"scanner"}


def test_ports_are_bound_to_loopback() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == len(SERVERS)
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports)


def test_health_checks_ask_the_right_port() -> None:
    assert {name for name, service in SERVICES.items() if "healthcheck" not in service} == {"topics"}
    for name, service in ROLES.items():
        (asked,) = re.findall(r"127\.0\.0\.1:(\d+)/readyz", service["healthcheck"]["test"][-1])
        assert int(asked) == health_port(Settings(), (name,)), name


def test_who_waits_for_whom_exists() -> None:
    volumes = {text.split(":")[0] for service in SERVICES.values() for text in service.get("volumes", [])}
    assert {one for one in volumes if one.isalpha()} == set(COMPOSE["volumes"])
    assert all((ROOT / one).exists() for one in volumes if one.startswith("./"))
    for service in SERVICES.values():
        assert set(service.get("depends_on", {})) <= set(SERVICES)
        assert set(service["networks"]) <= set(COMPOSE["networks"])


def test_the_image_is_built_from_the_locks() -> None:
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    installs = re.findall(r"pip install ([^&\n]+)", text)
    assert [("--require-hashes" in one and "-r " in one) or ("--no-index" in one and "--no-deps" in one) for one in installs] == [True] * 3
    assert re.search(r"COPY .*requirements\.lock", text)
    for line in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE):
        for source in line.split():
            assert (ROOT / source).exists(), source
    packages = re.search(r"--no-install-recommends ([a-z0-9 -]+)", text)
    assert packages
    assert set(packages[1].split()) == set(PROBES)
    user = re.findall(r"^USER (\S+)$", text, re.MULTILINE)
    assert user == ["driftline"]
    allowed = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {source.split("/")[0] for line in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE) for source in line.split()}
    assert copied == allowed


def test_yaml_is_tidy() -> None:
    templates = "ignore: [infra/deploy/helm/driftline/templates/]"  # YAML only once Helm has rendered them
    rules = f"{{extends: default, rules: {{line-length: {{max: 160}}, document-start: disable, braces: disable}}, {templates}}}"
    command = [sys.executable, "-m", "yamllint", "-s", "-d", rules, "docker-compose.yml", "infra/deploy"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(
    shutil.which("docker") is None or subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode != 0,
    reason="docker's compose plugin is not installed",
)
def test_docker_compose_accepts_the_file() -> None:
    given = dict.fromkeys(re.findall(r"\$\{(\w+):\?", TEXT), "x")
    command = ["docker", "compose", "config", "--quiet"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **given}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    without = subprocess.run(command, cwd=ROOT, env={**os.environ, **given, "READER_PASSWORD": ""}, capture_output=True, check=False)
    assert without.returncode != 0


def targets() -> Iterator[tuple[str, dict[str, Any]]]:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target


def test_the_dashboard_asks_the_provisioned_source() -> None:
    (source,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/clickhouse.yaml").read_text())["datasources"]
    assert all(target["datasource"] == {"type": source["type"], "uid": source["uid"]} for _, target in targets())
    assert source["jsonData"]["host"] in SERVERS
    assert source["secureJsonData"] == {"password": "$READER_PASSWORD"}
    assert "READER_PASSWORD" in environment(SERVICES["grafana"])
    (provider,) = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/driftline.yaml").read_text())["providers"]
    assert f"./infra/deploy/grafana/dashboards:{provider['options']['path']}:ro" in SERVICES["grafana"]["volumes"]
    titles = {panel["title"] for panel in DASHBOARD["panels"]}
    assert {"Exposure trend", "Open findings by rank", "Freshness", "Changes", "Agents", "Lag"} <= titles


def plain(sql: str) -> str:
    """A query as Grafana's plugin sends it, its macros written out."""
    sql = re.sub(r"\$__timeFilter\((\w+)\)", r"\1 >= toDateTime(0) AND \1 <= now()", sql)
    return re.sub(r"\$__timeInterval\((\w+)\)", r"toStartOfInterval(toDateTime(\1), INTERVAL 60 second)", sql)


@pytest.mark.store
def test_the_dashboards_queries_run_against_the_real_tables(tmp_path: Path) -> None:
    with running_store(tmp_path) as store:
        fill(store)
        client = store.client()
        for title, target in targets():
            sql = plain(target["rawSql"])
            assert "$" not in sql, title
            try:
                result = client.query(sql)
            except ClickHouseError as error:
                pytest.fail(f"{title}: {error}")
            assert result.result_rows, f"{title}: no rows of the examples"
            if target["queryType"] == "timeseries":
                assert result.column_names[0] == "time"
