"""How a sweep by hand ends: what was never begun counts as not probed, and nothing that was halted looks complete."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any

import pytest

from infra.app.sweep_output import Told
from infra.core.errors import DriftlineError, Refused
from infra.core.settings import ScannerSettings
from processors.scan import local_sweep
from processors.scan.local_sweep import Part, sweep_parts
from processors.scan.lookout import Lookout
from processors.scan.meter import Meter
from processors.scan.scope.gate import Halted
from processors.scan.scope.local import MOST_SUBNETS, LocalGate
from processors.scan.scope.mask import column_of_texts
from processors.scan.sweep.ledger import Ledger, PortState
from schemas.scope import Ask
from schemas.targeting import Span
from tests.grant_examples import NOW, book, grant
from tests.scanning import make_unit

UNIT = make_unit(["198.18.0.1"], "80")
FIRST = int.from_bytes(bytes((198, 18, 0, 0)), "big")


def gate(per_host: int | None = None) -> LocalGate:
    return LocalGate(book(grant()), "lab", "default", 1000, lambda: NOW, per_host)


def ledger(state: PortState, hosts: int = 4, ports: int = 5) -> Ledger:
    made = Ledger([f"198.18.0.{host}" for host in range(hosts)], range(80, 80 + ports), 2)
    made.states[:] = state
    return made


def end(told: Told, by: LocalGate, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], BaseException | None]:
    error: BaseException | None = None
    try:
        told.end(by)
    except (DriftlineError, SystemExit) as raised:
        error = raised
    return json.loads(capsys.readouterr().out.splitlines()[-1])["summary"], error


def test_a_sweep_that_was_probed_to_the_end_is_complete_whatever_is_halted_after_it(capsys: pytest.CaptureFixture[str]) -> None:
    told, by = Told(True, 0, 20), gate()
    told.add(ledger(PortState.CLOSED))
    by.hold(UNIT, "later")
    summary, error = end(told, by, capsys)
    assert (summary["asked"], summary["probed"], summary["not_probed"], summary["stopped"], error) == (20, 20, 0, "", None)


def test_parts_that_were_never_begun_are_not_probed_and_a_halt_between_parts_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    told, by = Told(True, 0, 1000), gate()
    told.add(ledger(PortState.CLOSED))
    by.hold(UNIT, "frozen")
    summary, error = end(told, by, capsys)
    assert (summary["asked"], summary["probed"], summary["not_probed"], summary["stopped"]) == (1000, 20, 980, "frozen")
    assert sum(summary[name] for name in ("open", "closed", "silent", "unreachable", "not_probed")) == 1000
    assert isinstance(error, Refused)


def test_people_are_told_of_what_the_recall_is(capsys: pytest.CaptureFixture[str]) -> None:
    told, by = Told(False, 0, 1000), gate()
    told.add(ledger(PortState.CLOSED))
    by.hold(UNIT, "frozen")
    with pytest.raises(Refused):
        told.end(by)
    assert "of the 20 of 1000 ports that were probed" in capsys.readouterr().out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_says_so_by_the_exit_code(number: int, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    told, by = Told(True, 0, 1000, signal=number), gate()
    by.stopping = True
    summary, error = end(told, by, capsys)
    assert (summary["stopped"], summary["not_probed"]) == ("stopped", 1000)
    assert isinstance(error, SystemExit)
    assert error.code == code


def test_what_came_to_be_excluded_meanwhile_does_not_look_complete(capsys: pytest.CaptureFixture[str]) -> None:
    told, made = Told(True, 0, 20), ledger(PortState.CLOSED)
    made.refuse(("198.18.0.1", 81), "198.18.0.1 is excluded by a grant of the zone")
    told.add(made)
    summary, error = end(told, gate(), capsys)
    assert (summary["not_probed"], isinstance(error, Refused)) == (1, True)
    assert "excluded" in summary["stopped"]


def test_a_link_that_goes_down_ends_it_with_what_was_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    async def torn(ledger: Ledger, *_: object) -> None:
        if ledger.has(("198.18.0.1", 80)):
            ledger.note(("198.18.0.1", 80), PortState.ANSWERED)
        raise OSError(100, "Network is down")

    monkeypatch.setattr(local_sweep, "sweep_syn", torn)
    told, by = Told(True, 0, 30), gate()

    async def work() -> None:
        parts = (Part((Span(4, FIRST + at, FIRST + at + 1),), (80, 81, 82, 83, 84)) for at in (0, 2, 4))
        async for one in sweep_parts(parts, by, UNIT, ScannerSettings()):
            told.add(one)

    asyncio.run(work())
    summary, error = end(told, by, capsys)
    assert (summary["open"], summary["not_probed"]) == (1, 29)
    assert (type(error), getattr(error, "exit_code", None)) == (DriftlineError, 1)
    assert "Network is down" in str(error)


def test_without_the_privilege_nothing_is_told_as_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(local_sweep, "sweep_syn", refused)

    async def work() -> None:
        async for _ in sweep_parts([Part((Span(4, FIRST, FIRST + 1),), (80, 81))], gate(), UNIT, ScannerSettings()):
            raise AssertionError

    with pytest.raises(PermissionError):
        asyncio.run(work())


def test_a_host_gets_no_more_than_the_settings_say() -> None:
    assert (gate().per_host(UNIT), gate(5).per_host(UNIT), gate(60).per_host(UNIT)) == (40, 5, 40)


def fall_silent(lookout: Lookout, made: Ledger, *addresses: str) -> None:
    """These answered once, and then to nothing that they were asked."""
    for address in addresses:
        made.note((address, 80), PortState.ANSWERED)
        lookout.vigil.watch(address, 80, 0.0)
        for _ in range(4):
            lookout.note(address, answered=False)


def test_a_host_that_stops_answering_halts_its_subnet_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    made, by = Ledger([f"198.18.{subnet}.{host}" for subnet in range(3) for host in (1, 2)], (80, 81), 2), gate()
    lookout = Lookout(made, Meter(by, UNIT), UNIT, by)
    fall_silent(lookout, made, "198.18.1.1")
    lookout.judge()
    assert [made.state((f"198.18.{subnet}.2", 81)) == PortState.REFUSED for subnet in range(3)] == [False, True, False]
    assert by.mask(UNIT).covers(column_of_texts(["198.18.0.9", "198.18.1.9", "198.18.2.9"], 4)).tolist() == [True, False, True]
    assert "stopped answering on tcp/80" in by.refusal(UNIT, "198.18.1.9", Ask("tcp", 80))
    made.states[made.states == PortState.OPEN] = PortState.CLOSED
    told = Told(True, 0, 12)
    told.add(made)
    summary, error = end(told, by, capsys)
    assert (list(summary["halted_subnets"]), summary["open"], summary["not_probed"]) == (["198.18.1.0/24"], 1, 3)
    assert "suspected_impact" in summary["stopped"]
    assert isinstance(error, Refused)


def test_hosts_that_fall_silent_in_many_subnets_halt_all() -> None:
    made, by = Ledger([f"198.18.{subnet}.1" for subnet in range(9)], (80, 81), 2), gate()
    lookout = Lookout(made, Meter(by, UNIT), UNIT, by)
    fall_silent(lookout, made, *(f"198.18.{subnet}.1" for subnet in range(MOST_SUBNETS + 1)))
    with pytest.raises(Halted, match="other subnets"):
        lookout.judge()


def test_at_the_end_those_are_asked_again_that_left_the_most_unanswered() -> None:
    made, by = ledger(PortState.CLOSED), gate()
    made.states[:, 0] = PortState.ANSWERED
    made.states[2, 1:] = PortState.SILENT
    lookout = Lookout(made, Meter(by, UNIT), UNIT, by)

    async def work() -> None:
        lookout._take_in()
        lookout._at_the_end()

    asyncio.run(work())
    assert list(lookout.vigil._hosts) == ["198.18.0.2"]
