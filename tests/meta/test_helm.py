"""The Helm chart starts the same roles as the role table and the compose file, each with what it needs and nothing else.

What Helm makes of the chart stands in `helm_rendered.yaml`, written by `make helm` with Helm 3.18, and is checked here in any case. Where a
`helm` is found (on PATH, or in Driftline's cache, where `make helm` builds it with Go), the chart is linted and rendered anew and compared.
It was never installed: no cluster runs on the development machine.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import platformdirs
import pytest
import yaml

from infra.app.roles import MODULES, health_port
from infra.core.settings import Settings, load_settings
from infra.kafka.access import wanted_permissions
from tests.meta.test_deploy import SERVICES
from tests.meta.test_docs import ENVIRONMENT, problem

ROOT = Path(__file__).parents[2]
CHART = ROOT / "infra" / "deploy" / "helm" / "driftline"
GOLDEN = Path(__file__).with_name("helm_rendered.yaml")
OPTIONS = ("--set", "kafka.bootstrap=kafka:9093", "--set", "model.name=openai:gpt-5-mini", "--set", "model.secret=driftline-model")
DOCUMENTS: list[dict[str, Any]] = [one for one in yaml.safe_load_all(GOLDEN.read_text()) if one]
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SETS = {one["spec"]["template"]["spec"]["containers"][0]["name"]: one for one in DOCUMENTS if one["kind"] == "StatefulSet"}
(JOB,) = (one for one in DOCUMENTS if one["kind"] == "Job")
HELM = shutil.which("helm") or shutil.which("helm", path=str(Path(platformdirs.user_cache_dir("driftline")) / "helm" / "bin"))


def pod(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["spec"]["template"]["spec"]
    return found


def container(document: dict[str, Any]) -> dict[str, Any]:
    (found,) = pod(document)["containers"]
    return dict(found)


def environment(document: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container(document)["env"]}


def secrets(document: dict[str, Any]) -> set[str]:
    return {one["secret"]["secretName"] for one in pod(document)["volumes"] if "secret" in one}


@pytest.mark.skipif(HELM is None, reason="no helm: 'make helm' builds it where Go is")
def test_helm_accepts_the_chart_and_makes_of_it_what_is_checked_here() -> None:
    assert HELM is not None
    done = subprocess.run([HELM, "lint", "--strict", str(CHART), *OPTIONS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    command = [HELM, "template", "driftline", str(CHART), "--kube-version", "1.30.0", *OPTIONS]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == GOLDEN.read_text()
    without = subprocess.run([*command[:4], "--kube-version", "1.30.0"], capture_output=True, text=True, check=False)
    assert "kafka.bootstrap" in without.stderr


def test_it_starts_the_roles_of_the_role_table_and_of_the_compose_file() -> None:
    assert set(SETS) == set(MODULES) == {name for name in SERVICES if name in MODULES}
    for name, one in SETS.items():
        assert container(one)["args"] == SERVICES[name]["command"] == ["run", name]
    assert container(JOB)["args"] == SERVICES["topics"]["command"]
    assert problem(container(JOB)["args"]) is None


def test_every_setting_exists_and_is_accepted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for one in (*SETS.values(), JOB):
        found = environment(one)
        assert set(found) <= ENVIRONMENT
        mounted = tuple(each["mountPath"] + "/" for each in container(one)["volumeMounts"])
        assert all(str(value).startswith(mounted) for name, value in found.items() if name.endswith("_FILE"))
        with monkeypatch.context() as patch:
            for name, value in found.items():
                given = value if isinstance(value, str) else "0"
                if name.endswith("_FILE"):
                    (tmp_path / "secret").write_text("x")
                    given = str(tmp_path / "secret")
                patch.setenv(name, given)
            assert load_settings().kafka.bootstrap == "kafka:9093"


def test_only_who_needs_a_secret_has_it() -> None:
    def holders(secret: str) -> set[str]:
        return {name for name, one in SETS.items() if secret in secrets(one)}

    assert holders("driftline-clickhouse") == {"store", "archiver", "reconciler"}
    assert holders("driftline-signers") == {"planner", "scanner"}
    assert holders("driftline-model") == {"assessor"}
    assert holders("driftline-kafka-admin") == set()
    assert secrets(JOB) == {"driftline-kafka-admin"}
    for name in set(SETS) - {"store"}:
        assert holders(f"driftline-{name}") == {name}, "each role logs in as itself"
        assert environment(SETS[name])["DRIFTLINE_KAFKA__SASL_USERNAME"] == f"driftline-{name}"
    text = GOLDEN.read_text() + (CHART / "values.yaml").read_text()
    assert "kind: Secret" not in text
    assert not [name for one in SETS.values() for name in environment(one) if name.endswith(("PASSWORD", "DSN", "API_KEY"))]


def test_the_job_gives_each_roles_user_what_the_role_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLINE_KAFKA__PRINCIPALS", environment(JOB)["DRIFTLINE_KAFKA__PRINCIPALS"])
    settings = load_settings()
    assert set(settings.kafka.principals) == {f"driftline-{name}" for name in MODULES if name != "store"}
    assert settings.kafka.principals["driftline-scanner"] == ("scanner@default",)
    assert {one.user for one in wanted_permissions(settings)} == set(settings.kafka.principals)


def test_health_checks_ask_the_right_port_in_every_slot() -> None:
    for name, one in SETS.items():
        asked = container(one)["readinessProbe"]["exec"]["command"][-1]
        (base, step, number), ours = (int(part) for part in re.findall(r"(?<![\w.:])(\d+)(?![\w.])", asked)), Settings()
        assert 'os.environ["DRIFTLINE_SLOT"]' in asked
        for slot in (0, 3):
            assert base + slot * step + number == health_port(ours.model_copy(update={"slot": slot}), (name,)), name


def test_the_scanner_alone_is_root_and_has_a_capability() -> None:
    for name, one in (*SETS.items(), ("topics", JOB)):
        context = container(one)["securityContext"]
        assert context["capabilities"]["drop"] == ["ALL"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert ("add" in context["capabilities"], context["runAsUser"] == 0) == (name == "scanner", name == "scanner")
        assert pod(one)["automountServiceAccountToken"] is False
    kept = {name for name, one in SETS.items() if one["spec"].get("volumeClaimTemplates")}
    assert kept == {"scanner", "differ", "correlator", "assessor", "rollups", "intel"}, "who has state on the disk"
