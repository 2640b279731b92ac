"""Secrets come from the environment or from files, and are shown nowhere."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from infra.core.errors import BadInput, MissingPrerequisite
from infra.core.secret_files import make_secret, read_secret
from infra.core.settings import Settings, load_settings
from infra.kafka.client import connection
from infra.kafka.login import login
from tests.commands import invoke

SECRET = "Tr0ub4dor-and-3"
HOLDERS = {
    "DRIFTLINE_KAFKA__SASL_PASSWORD": lambda settings: settings.kafka.sasl_password,
    "DRIFTLINE_KAFKA__KEY_PASSWORD": lambda settings: settings.kafka.key_password,
    "DRIFTLINE_CLICKHOUSE__DSN": lambda settings: settings.clickhouse.dsn,
    "DRIFTLINE_REGISTRY__USER_INFO": lambda settings: settings.registry.user_info,
    "DRIFTLINE_MODEL__API_KEY": lambda settings: settings.model.api_key,
}


@pytest.mark.parametrize("name", HOLDERS)
@pytest.mark.parametrize("by_file", [False, True])
def test_a_secret_is_read_and_never_shown(name: str, by_file: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if by_file:
        (tmp_path / "secret").write_text(f"{SECRET}\n")
        monkeypatch.setenv(f"{name}_FILE", str(tmp_path / "secret"))
    else:
        monkeypatch.setenv(name, SECRET)
    settings = load_settings()
    assert HOLDERS[name](settings).get_secret_value() == SECRET
    for shown in (repr(settings), str(settings), settings.model_dump_json(), repr(settings.kafka), repr(login(settings))):
        assert SECRET not in shown
    for arguments in (["config"], ["config", "--json"], ["config", "--changed", "--json"]):
        result = invoke(*arguments)
        assert result.exit_code == 0
        assert SECRET not in result.output
    rows = {row["environment"]: row for row in json.loads(invoke("config", "--json").stdout)}
    assert rows[name]["value"] == "********"
    assert rows[name]["changed"] == "yes"


def test_a_secret_given_outright_counts_before_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from the file")
    monkeypatch.setenv("DRIFTLINE_KAFKA__SASL_PASSWORD_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("DRIFTLINE_KAFKA__SASL_PASSWORD", SECRET)
    password = load_settings().kafka.sasl_password
    assert password is not None
    assert password.get_secret_value() == SECRET


def test_a_file_that_is_not_there_is_said_by_its_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DRIFTLINE_KAFKA__SASL_PASSWORD_FILE", str(tmp_path / "none"))
    with pytest.raises(BadInput, match="sasl_password_file names can't be read: No such file"):
        load_settings()


def test_a_wrong_setting_beside_a_secret_does_not_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLINE_KAFKA__SASL_PASSWORD", SECRET)
    monkeypatch.setenv("DRIFTLINE_KAFKA__PARTITIONS", "many")
    with pytest.raises(BadInput) as caught:
        load_settings()
    assert SECRET not in str(caught.value)


def test_an_address_that_would_show_a_password_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLINE_REGISTRY__URL", f"http://reader:{SECRET}@127.0.0.1:8081")
    with pytest.raises(BadInput, match="user_info") as caught:
        load_settings()
    assert SECRET not in str(caught.value)


def test_logs_of_settings_hold_no_secret() -> None:
    script = (
        "import structlog; from infra.core.logs import configure_logs; from infra.core.settings import load_settings;"
        "from infra.kafka.login import login; from infra.local.broker_access import BrokerAccess;"
        "settings = load_settings(); configure_logs(settings.telemetry);"
        f"structlog.get_logger().warning('started', settings=settings, login=login(settings), access=BrokerAccess({SECRET!r}))"
    )
    environment = {**os.environ, "DRIFTLINE_KAFKA__SASL_PASSWORD": SECRET, "DRIFTLINE_KAFKA__SECURITY_PROTOCOL": "SASL_SSL"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert "started" in done.stderr, done.stderr
    assert SECRET not in done.stderr + done.stdout


def test_own_secrets_are_for_the_owner_only_and_stay(tmp_path: Path) -> None:
    path = tmp_path / "kafka" / "admin.password"
    first = make_secret(path)
    assert len(first) == 64
    assert make_secret(path) == read_secret(path) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(MissingPrerequisite, match="can't be read"):
        read_secret(tmp_path / "none")
    path.write_text("\n")
    with pytest.raises(MissingPrerequisite, match="is empty"):
        make_secret(path)


def test_certificates_of_the_settings_reach_the_client(tmp_path: Path) -> None:
    settings = Settings(
        kafka={
            "bootstrap": "b:1",
            "security_protocol": "SSL",
            "certificate_file": tmp_path / "c.pem",
            "key_file": tmp_path / "k.pem",
            "key_password": SECRET,
        }
    )
    config = connection(settings)
    assert config["ssl.certificate.location"] == str(tmp_path / "c.pem")
    assert config["ssl.key.location"] == str(tmp_path / "k.pem")
    assert config["ssl.key.password"] == SECRET
    with pytest.raises(BadInput, match="belong together"):
        load_settings(kafka={"certificate_file": tmp_path / "c.pem"})
