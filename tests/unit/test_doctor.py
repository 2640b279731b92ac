"""`driftline doctor`: each check finds what is wrong and says what to do."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from infra.app.commands import machine
from infra.app.doctor import Check, checks
from infra.app.runfolder import take_lock, write_notes
from infra.core.settings import BrokerSettings, ClickHouseSettings, KafkaSettings, Settings, StoreSettings
from tests.ports import free_ports


def found(settings: Settings) -> dict[str, Check]:
    return {one.name: one for one in checks(settings)}


def test_a_taken_port_is_named_with_its_setting_even_beside_stale_notes(tmp_path: Path) -> None:
    broker, controller = free_ports(2)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = Settings(
            data_dir=tmp_path, store=StoreSettings(port=port), broker=BrokerSettings(port=broker, controller_port=controller)
        )
        with take_lock(settings):
            write_notes(settings, {"supervisor": 1, "broker": None, "members": []})
            assert found(settings)["ports"].ok
        check = found(settings)[f"port {port}"]
    assert not check.ok
    assert check.needed
    assert "DRIFTLINE_STORE__PORT" in check.fix


def test_outside_servers_are_knocked_at_and_passwords_not_shown(tmp_path: Path) -> None:
    kafka, clickhouse = free_ports(2)
    settings = Settings(
        data_dir=tmp_path,
        kafka=KafkaSettings(bootstrap=f"127.0.0.1:{kafka}"),
        clickhouse=ClickHouseSettings(dsn=f"http://me:secret@127.0.0.1:{clickhouse}/x"),
    )
    result = found(settings)
    assert "java" not in result
    for name in ("kafka", "clickhouse"):
        assert not result[name].ok
        assert "secret" not in result[name].found + result[name].fix


def test_a_broken_signers_file_is_a_failed_check(tmp_path: Path) -> None:
    (tmp_path / "signers.toml").write_text("[[signer")
    check = found(Settings(data_dir=tmp_path))["signers"]
    assert not check.ok
    assert check.fix


def test_mending_runs_once_and_exit_code_3_is_for_what_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DRIFTLINE_DATA_DIR", str(tmp_path))
    mended: list[int] = []

    def some(settings: Settings) -> list[Check]:
        del settings
        return [
            Check("jars", bool(mended), "…", "" if mended else "fetch", mend=lambda: mended.append(1)),
            Check("extra", False, "absent", "install", needed=False),
        ]

    monkeypatch.setattr(machine, "checks", some)
    with pytest.raises(SystemExit) as ended:
        machine.doctor(fix=False, as_json=True)
    assert ended.value.code == 3
    assert [one["ok"] for one in json.loads(capsys.readouterr().out)] == [False, False]
    machine.doctor(fix=True, as_json=True)
    assert [one["ok"] for one in json.loads(capsys.readouterr().out)] == [True, False]
    assert mended == [1]
