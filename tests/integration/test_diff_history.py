"""`driftline diff --at`: two moments of the state, asked of the real ClickHouse engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.events.assets import AssetChange, AssetState, ChangeKind, ServiceState, ServiceStatus
from schemas.events.base import Event, PortRange
from schemas.events.observations import ServiceObservation, SweepResult
from schemas.rows import rows_of
from tests.commands import invoke
from tests.stores import RunningStore, running_store

pytestmark = [pytest.mark.store]
DAY = timedelta(days=1)
START = datetime(2026, 3, 1, tzinfo=UTC)
SUBNET, HOST = "198.18.0.0/24", "198.18.0.7"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStore]:
    with running_store(tmp_path_factory.mktemp("store")) as found:
        yield found


@pytest.fixture(autouse=True)
def history(store: RunningStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host whose web server is replaced on the third day and closed on the fifth, when SSH opens; UDP was never looked at before."""
    monkeypatch.setenv("DRIFTLINE_DATA_DIR", str(store.settings.data_dir))
    monkeypatch.setenv("DRIFTLINE_STORE__PORT", str(store.port))
    old, new = seen(80, "nginx", "1.22"), seen(80, "nginx", "1.24")
    write(
        store,
        change(1, ChangeKind.HOST_UP, 0, START),
        change(2, ChangeKind.SERVICE_OPENED, 80, START, after=old),
        change(3, ChangeKind.SERVICE_CHANGED, 80, START + 2 * DAY, before=old, after=new),
        change(4, ChangeKind.SERVICE_CLOSED, 80, START + 4 * DAY, before=new),
        change(5, ChangeKind.SERVICE_OPENED, 22, START + 4 * DAY, after=seen(22, "OpenSSH", "9.2")),
        change(6, ChangeKind.SERVICE_OPENED, 8080, START + 4 * DAY, after=seen(8080, "Jetty", "12")),
        sweep("u1", START, "22-100"),
        sweep("u2", START, "8000-9000", recall=0.2),
        quiet(),
    )


def seen(port: int, product: str, version: str) -> ServiceObservation:
    return ServiceObservation(port=port, service="x", product=product, version=version)


def change(revision: int, kind: ChangeKind, port: int, at: datetime, **sides: ServiceObservation) -> AssetChange:
    return AssetChange(
        change_id=f"c{revision}",
        kind=kind,
        zone="default",
        address=HOST,
        subnet=SUBNET,
        revision=revision,
        port=port,
        summary="",
        observed_at=at,
        **sides,
    )


def sweep(unit: str, at: datetime, ports: str, recall: float = 0.99) -> SweepResult:
    first, _, last = ports.partition("-")
    return SweepResult(
        unit_id=unit,
        run_id="r",
        zone="default",
        subnet=SUBNET,
        grant_id="g",
        agent_id="a",
        engine="syn",
        probed=(HOST,),
        ports=(PortRange(first=int(first), last=int(last)),),
        hosts=(),
        packets_sent=1,
        loss=0.0,
        recall=recall,
        recall_samples=9,
        started_at=at,
        finished_at=at,
    )


def quiet() -> AssetState:
    """A host of which no change is kept any more: it has been as it is for longer."""
    long_ago = START - 500 * DAY
    service = ServiceState(port=25, status=ServiceStatus.OPEN, seen=seen(25, "Postfix", ""), first_seen=long_ago, last_seen=START)
    times = {"first_seen": long_ago, "last_seen": START, "last_looked": START}
    return AssetState(zone="default", address="198.18.0.9", subnet=SUBNET, services=(service,), **times)


def write(store: RunningStore, *events: Event) -> None:
    client = store.client(writer=True)
    for event in events:
        for table, row in rows_of(event, datetime.now(UTC)):
            client.insert(table, [list(row.values())], column_names=list(row))


def differences(*arguments: str) -> tuple[int, list[dict[str, str]], list[dict[str, str]]]:
    done = invoke("diff", *arguments, "--json")
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return done.exit_code, said["differences"], said["not_compared"]


def day(number: int) -> str:
    return (START + number * DAY + timedelta(hours=1)).isoformat()


def test_two_moments_differ_by_what_changed_between_them() -> None:
    code, rows, unseen = differences("--at", day(0), "--at", day(5))
    assert code == 1
    assert [(one["port"], one["what"], one["was"], one["is"]) for one in rows] == [
        ("tcp/22", "state", "closed or filtered", "open x OpenSSH 9.2"),
        ("tcp/80", "state", "open x nginx 1.22", "closed or filtered"),
    ]
    # Port 8080 was swept before, but so badly that its silence meant nothing.
    assert unseen == [{"host": HOST, "port": "tcp/8080", "only": "is", "state": "open x Jetty 12"}]


def test_a_version_that_changed_is_told_and_equal_moments_are_equal() -> None:
    code, rows, _ = differences("--at", day(1), "--at", day(3))
    assert (code, [(one["what"], one["was"], one["is"]) for one in rows]) == (1, [("service", "x nginx 1.22", "x nginx 1.24")])
    assert differences("--at", day(0), "--at", day(1))[:2] == (0, [])
    assert differences("--at", day(6))[:2] == (0, [])  # compared with now


def test_the_past_looked_at_backwards_is_the_mirror_image() -> None:
    _, there, _ = differences("--at", day(0), "--at", day(5))
    _, back, _ = differences("--at", day(5), "--at", day(0))
    assert [(one["port"], one["is"], one["was"]) for one in back] == [(one["port"], one["was"], one["is"]) for one in there]


def test_what_was_before_the_first_look_is_not_known() -> None:
    code, rows, unseen = differences("--at", (START - DAY).isoformat(), "--at", day(1))
    assert (code, rows) == (0, [])
    assert unseen == [{"host": HOST, "port": "", "only": "is", "state": "up (open: tcp/80)"}]
