"""The process of a role ends when the role hangs, so that its supervisor can start it anew."""

from __future__ import annotations

import threading

import pytest

from infra.app import runner
from infra.core.ports import Ready
from infra.core.settings import Settings, TelemetrySettings
from infra.core.telemetry import Meter, Telemetry
from tests.ports import free_ports


@pytest.mark.parametrize(("turns", "code"), [(True, 0), (False, runner.ANEW)])
def test_a_role_that_hangs_ends_its_process_and_one_that_turns_does_not(monkeypatch: pytest.MonkeyPatch, turns: bool, code: int) -> None:
    released, name = threading.Event(), f"test-role-{turns}"

    def role(settings: Settings, stop: threading.Event, ready: Ready) -> None:
        meter, rounds = Meter(name), 0
        ready()
        while turns and rounds < 20:  # ends by itself after a second, longer than a hang may last
            meter.beat()
            rounds += 1
            released.wait(0.05)
        if not turns:
            released.wait(30)

    telemetry = Telemetry()
    monkeypatch.setattr(runner, "TELEMETRY", telemetry)
    monkeypatch.setattr(Meter.__init__, "__defaults__", (telemetry,))
    monkeypatch.setattr(runner, "load_role", lambda _: role)
    monkeypatch.setattr(runner, "_on_signal", lambda _: None)
    monkeypatch.setattr(runner, "HANG_SECONDS", 0.5)
    monkeypatch.setattr(runner, "DRAIN_SECONDS", 0.1)
    monkeypatch.setattr(runner, "health_port", lambda *_: free_ports(1)[0])
    try:
        assert runner.run_roles(Settings(telemetry=TelemetrySettings()), (name,)) == code
    finally:
        released.set()


def test_a_call_that_takes_longer_than_it_may_is_a_hang_until_it_returns() -> None:
    telemetry = Telemetry()
    meter = Meter("test-role", telemetry)
    with meter.at_most(60.0):
        assert telemetry.healthy()
    with meter.at_most(0.0):
        assert not telemetry.healthy()
    assert telemetry.healthy()
