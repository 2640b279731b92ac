"""`driftline import` against a real Kafka and the real differ: what is on the topics, and what a second import changes (nothing)."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Message

from infra.core.errors import BadInput
from infra.core.settings import KafkaSettings, Settings
from infra.kafka.client import read_whole, value_of
from infra.kafka.topics import TopicAdmin
from processors.diff import role
from schemas.codec import Codec
from schemas.events.assets import AssetChange, AssetState
from schemas.events.base import Event
from schemas.events.observations import SweepResult
from schemas.events.operations import AuditRecord
from tests.archiving import archiver_settings, archiving
from tests.commands import invoke
from tests.scanfiles import host, nmap_xml, port
from tests.stores import running_store

pytestmark = pytest.mark.kafka


@pytest.fixture
def settings(kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    prefix = f"im{uuid.uuid4().hex[:8]}."
    made = Settings(data_dir=tmp_path, kafka=KafkaSettings(bootstrap=kafka, prefix=prefix, partitions=2))
    for name, value in (
        ("DATA_DIR", str(tmp_path)),
        ("KAFKA__BOOTSTRAP", kafka),
        ("KAFKA__PREFIX", prefix),
        ("KAFKA__PARTITIONS", "2"),
    ):
        monkeypatch.setenv(f"DRIFTLINE_{name}", value)
    TopicAdmin(made).apply()
    return made


def events(settings: Settings, topic: str) -> list[Event]:
    found: list[Event] = []

    def take(message: Message) -> None:
        found.append(Codec().decode(topic, value_of(message) or b""))

    read_whole(settings, topic, take)
    return found


@contextmanager
def running_differ(settings: Settings) -> Iterator[None]:
    stop, ready = threading.Event(), threading.Event()
    thread = threading.Thread(target=role.run, args=(settings, stop, ready.set))
    thread.start()
    try:
        assert ready.wait(30)
        yield
    finally:
        stop.set()
        thread.join(30)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.1)


def assets(settings: Settings) -> dict[str, AssetState]:
    return {one.address: one for one in events(settings, "assets") if isinstance(one, AssetState)}


def test_the_differ_folds_an_imported_scan_once(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "monday.xml"
    ssh = '<service name="ssh" product="OpenSSH" version="9.2p1" method="probed" conf="10"/>'
    file.write_text(
        nmap_xml(host("198.18.0.7", port(22, "open", inner=ssh) + port(23, "closed"), names=("a.example.org",)), services="22-23")
    )
    done = invoke("import", "nmap", str(file))
    assert done.exit_code == 0, done.output
    with running_differ(settings):
        until(lambda: "198.18.0.7" in assets(settings) and assets(settings)["198.18.0.7"].services[0].seen is not None)
        (asset,) = assets(settings).values()
        changes = [one for one in events(settings, "changes") if isinstance(one, AssetChange)]
        assert asset.names == ("a.example.org",)
        (service,) = asset.services
        assert service.seen is not None
        assert (service.port, service.seen.product, service.seen.evidence[0]) == (22, "OpenSSH", "import:nmap")
        assert service.last_seen.timestamp() == 1760000000
        assert {one.kind.value for one in changes} == {"host_up", "service_opened"}
        invoke("import", "nmap", str(file))
        later = tmp_path / "tuesday.xml"
        later.write_text(nmap_xml(host("198.18.0.8", port(22, "open"), end=1760086400), services="22"))
        invoke("import", "nmap", str(later))
        until(lambda: "198.18.0.8" in assets(settings))
    assert assets(settings)["198.18.0.7"] == asset
    again = [one for one in events(settings, "changes") if isinstance(one, AssetChange) and one.address == "198.18.0.7"]
    assert again == changes
    units = {one.unit_id for one in events(settings, "probes") if isinstance(one, SweepResult)}
    assert len(units) == 2
    audited = [one for one in events(settings, "audit") if isinstance(one, AuditRecord)]
    assert [one.action for one in audited] == ["import.nmap"] * 3
    assert audited[0].subject == "monday.xml"
    assert "sha256" in audited[0].detail


def test_what_a_second_scan_did_not_look_at_stays_open_and_what_refused_is_asked_again(settings: Settings, tmp_path: Path) -> None:
    first, second = tmp_path / "a.xml", tmp_path / "b.xml"
    first.write_text(nmap_xml(host("198.18.0.7", port(22, "open") + port(80, "open")), services="22,80"))
    second.write_text(nmap_xml(host("198.18.0.7", port(80, "closed"), end=1760086400), services="80"))
    assert invoke("import", "nmap", str(first), str(second)).exit_code == 0
    with running_differ(settings):
        until(
            lambda: (
                bool(assets(settings)) and {one.status.value for one in assets(settings)["198.18.0.7"].services} == {"open", "suspected"}
            )
        )
        assert {one.port: one.status.value for one in assets(settings)["198.18.0.7"].services} == {22: "open", 80: "suspected"}
        until(lambda: bool(events(settings, "targets")))
    (request,) = events(settings, "targets")
    assert getattr(request, "grant_id", "") is None  # any grant that covers it; without one the planner refuses


def test_a_bad_file_among_good_ones_changes_nothing(settings: Settings, tmp_path: Path) -> None:
    good, bad = tmp_path / "a.xml", tmp_path / "b.xml"
    good.write_text(nmap_xml(host("198.18.0.7", port(22, "open")), services="22"))
    bad.write_text(nmap_xml(host("198.18.0.8", port(22, "open")) + "<host><address addr='x' addrtype='ipv4'/></host>", services="22"))
    done = invoke("import", "nmap", str(good), str(bad))
    assert isinstance(done.exception, BadInput)
    assert "'x' is no IP address" in str(done.exception)
    future = tmp_path / "c.xml"
    future.write_text(nmap_xml(host("198.18.0.8", port(22, "open"), end=4000000000), services="22"))
    assert "from the future" in str(invoke("import", "nmap", str(future)).exception)
    assert "There is no zone 'nowhere'" in str(invoke("import", "nmap", str(good), "--zone", "nowhere").exception)
    assert events(settings, "probes") == []
    assert events(settings, "audit") == []


@pytest.mark.store
def test_what_was_imported_stands_in_clickhouse_as_imported(kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "monday.xml"
    file.write_text(nmap_xml(host("198.18.0.7", port(22, "open") + port(23, "closed")), services="22-23"))
    masscan = tmp_path / "edge.json"
    masscan.write_text('[{"ip": "198.18.1.7", "timestamp": "1760000000", "ports": [{"port": 80, "proto": "tcp", "status": "open"}]},\n]')
    with running_store(tmp_path / "store") as store:
        settings = archiver_settings(kafka, store, f"im{uuid.uuid4().hex[:8]}")
        for name, value in (("BOOTSTRAP", kafka), ("PREFIX", settings.kafka.prefix), ("PARTITIONS", str(settings.kafka.partitions))):
            monkeypatch.setenv(f"DRIFTLINE_KAFKA__{name}", value)
        assert invoke("import", "nmap", str(file)).exit_code == 0
        assert invoke("import", "masscan", str(masscan)).exit_code == 0
        sweeps = "SELECT engine, ports, answered, complete, grant_id, startsWith(agent_id, 'import:') FROM sweeps FINAL ORDER BY engine"
        with archiving(settings):
            until(lambda: len(store.client().query(sweeps).result_rows) == 2)
            until(lambda: store.client().query("SELECT count() FROM audit").result_rows == [(2,)])
            assert store.client().query(sweeps).result_rows == [
                ("import:masscan", "80", 1, False, "", True),
                ("import:nmap", "22-23", 1, True, "", True),
            ]
            evidence = "SELECT address, evidence FROM observations FINAL ORDER BY address"
            assert store.client().query(evidence).result_rows == [("198.18.0.7", ["import:nmap"]), ("198.18.1.7", ["import:masscan"])]
            # Of masscan's file nobody knows what was scanned: it makes no subnet fresh.
            fresh = store.client().query("SELECT subnet, addresses, recall FROM not_looked_at_lately").result_rows
            assert fresh == [("198.18.0.0/24", 1, None)]
            assert store.client().query("SELECT * FROM stopped").result_rows == [], "a file that says little is no unit that ended early"


@pytest.mark.skipif(shutil.which("nmap") is None, reason="nmap is not installed")
def test_what_nmap_itself_writes_of_loopback_is_imported(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "own.xml"
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
        command = ["nmap", "-sT", "-n", "-Pn", "--unprivileged", "-p", f"{number},1", "-oX", str(file), "127.0.0.1"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert invoke("import", "nmap", str(file)).exit_code == 0
    (sweep,) = [one for one in events(settings, "probes") if isinstance(one, SweepResult)]
    assert sweep.complete
    assert (sweep.probed, sweep.hosts[0].answered, [one.first for one in sweep.hosts[0].closed]) == (("127.0.0.1",), (number,), [1])
