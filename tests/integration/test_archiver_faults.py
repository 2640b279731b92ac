"""What a crash, a ClickHouse that is away, and a stranger's broken sink do to the archiver: nothing that the rows would show."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from infra.core.settings import Settings
from infra.kafka.client import connection, prefixed, value_of
from schemas.events.assets import AssetChange
from schemas.examples import EXAMPLES
from schemas.ids import content_id
from tests.archiving import archiver_settings, archiving, caught_up, dead_letters, header, publish, until
from tests.stores import RunningStore, running_store, store_settings

pytestmark = [pytest.mark.kafka, pytest.mark.store]
ROOT = Path(__file__).parents[2]
CHANGE = next(event for _, event in EXAMPLES if isinstance(event, AssetChange))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunningStore]:
    with running_store(tmp_path / "store") as found:
        yield found


def change(number: int, **changed: Any) -> tuple[str, str, AssetChange]:
    """A change, with topic and key."""
    event = CHANGE.model_copy(update={"change_id": content_id("change", str(number)), "summary": f"number {number}", **changed})
    return "changes", f"key {number}", event


def numbers(store: RunningStore) -> list[int]:
    """The changes in the table, in order; one that is there twice is told twice."""
    return [int(summary.split()[1]) for (summary,) in store.client().query("SELECT summary FROM changes FINAL").result_rows]


def members(settings: Settings) -> list[str]:
    """The group's members; a new id after each time that one had to join again."""
    group = prefixed(settings, "archiver")
    admin = AdminClient(connection(settings))
    return sorted(str(one.member_id) for one in admin.describe_consumer_groups([group])[group].result(20).members)


@pytest.mark.long
@pytest.mark.slow
def test_while_clickhouse_is_away_the_archiver_waits_in_its_group(kafka: str, tmp_path: Path) -> None:
    settings = store_settings(tmp_path / "store")
    with running_store(tmp_path / "store", settings=settings) as first:
        configured = archiver_settings(kafka, first, "away")
        with archiving(configured) as archiver:
            publish(configured, *(change(number) for number in range(50)))
            until(lambda: len(numbers(first)) == 50, "the rows before")
            before = members(configured)
            first.kill()
            publish(configured, *(change(number) for number in range(50, 100)))
            until(lambda: not caught_up(configured), "the archiver to be held up", 5)
            archiver.stop.wait(11.0)  # longer than the session timeout: one that does not poll would be out by now
            assert members(configured) == before
            with running_store(tmp_path / "store", settings=settings) as second:
                until(lambda: caught_up(configured), "the rest")
                publish(configured, *(change(number) for number in range(100, 120)))
                until(lambda: sorted(numbers(second)) == list(range(120)), "all rows, each once")
                assert members(configured) == before
                assert archiver.error is None


@pytest.mark.long
def test_an_archiver_that_starts_before_clickhouse_waits_for_it(kafka: str, tmp_path: Path) -> None:
    settings = store_settings(tmp_path / "store")
    with running_store(tmp_path / "store", settings=settings) as first:
        configured = archiver_settings(kafka, first, "early")
    publish(configured, change(1))
    with archiving(configured), running_store(tmp_path / "store", settings=settings) as store:
        until(lambda: numbers(store) == [1], "the row")


def dies_before_commit() -> None:
    """A process of its own: the archiver, killed between its third insert and the commit."""
    import threading

    from consumers.archive import role
    from consumers.archive.pump import Pump
    from infra.core.settings import load_settings

    commits = iter(range(1000))
    commit = Pump._commit

    def die(self: Pump, *arguments: Any) -> None:
        if next(commits) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        commit(self, *arguments)

    Pump._commit = die  # type: ignore[assignment,method-assign]
    role.run(load_settings(), threading.Event(), lambda: None)


@pytest.mark.long
def test_kill_between_insert_and_commit_changes_no_row(kafka: str, store: RunningStore) -> None:
    settings = archiver_settings(kafka, store, "killed")
    publish(settings, *(change(number) for number in range(300)))
    environment = {
        **os.environ,
        "DRIFTLINE_DATA_DIR": str(settings.data_dir),
        "DRIFTLINE_STORE__PORT": str(store.port),
        "DRIFTLINE_KAFKA__BOOTSTRAP": kafka,
        "DRIFTLINE_KAFKA__PREFIX": settings.kafka.prefix,
        "DRIFTLINE_KAFKA__PARTITIONS": str(settings.kafka.partitions),
        "DRIFTLINE_ARCHIVER__BATCH_ROWS": "40",
    }
    code = "from tests.integration.test_archiver_faults import dies_before_commit; dies_before_commit()"
    died = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, timeout=90, check=False)
    assert died.returncode == -signal.SIGKILL
    written = store.client().query("SELECT count() FROM changes").result_rows[0][0]
    assert 40 < written < 300, "it must have been killed in the middle"
    with archiving(settings):
        until(lambda: caught_up(settings), "the rest")
        assert sorted(numbers(store)) == list(range(300))


OUTSIDE = """
from pathlib import Path
from infra.core.errors import Backpressure, Poison

class Lines:
    name, topics = "lines", ("changes",)
    def __init__(self, settings):
        self.file, self.held = Path(settings.data_dir) / "lines", False
    def write(self, records):
        if not self.held:
            self.held = True
            raise Backpressure(0.1)
        if any(one.event.summary == "number 7" for one in records):
            raise Poison("seven is not wanted")
        with self.file.open("a") as file:
            file.writelines(one.event.summary + chr(10) for one in records)
    def idle(self):
        pass

class Broken:
    name, topics, calls = "broken", ("changes",), 0
    def __init__(self, settings):
        pass
    def write(self, records):
        Broken.calls += 1
        raise RuntimeError("out of order")
    def idle(self):
        pass

def unmakeable(settings):
    raise RuntimeError("no password is set")
"""


def test_sinks_of_other_packages_work_and_fail_for_themselves(
    kafka: str, store: RunningStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site"
    (package / "outside_sinks-1.dist-info").mkdir(parents=True)
    (package / "outside_sinks.py").write_text(OUTSIDE)
    (package / "outside_sinks-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-sinks\nVersion: 1\n")
    entries = "".join(f"{name} = outside_sinks:{name}\n" for name in ("Lines", "Broken", "unmakeable"))
    (package / "outside_sinks-1.dist-info" / "entry_points.txt").write_text(f"[driftline.sinks]\n{entries}")
    monkeypatch.syspath_prepend(package)
    settings = archiver_settings(kafka, store, "outside")
    lines = settings.data_dir / "lines"
    with archiving(settings) as archiver:
        publish(settings, *(change(number) for number in range(20)))
        until(lambda: len(numbers(store)) == 20, "the archiver's own rows")
        until(lambda: caught_up(settings, {"sink-lines": ("changes",)}), "the good sink")
        until(lambda: sys.modules["outside_sinks"].Broken.calls >= 2, "the broken sink to be tried again", 120)
        assert archiver.error is None
    assert {int(line.split()[1]) for line in lines.read_text().splitlines()} == set(range(20)) - {7}
    letters = dead_letters(settings, "changes")  # of one record: whom the group takes for gone on a slow machine does a batch again
    assert len({(header(one, "source.partition"), header(one, "source.offset")) for one in letters}) == 1
    assert "number 7" in repr(value_of(letters[0]))
    assert not caught_up(settings, {"sink-broken": ("changes",)})
