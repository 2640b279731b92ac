"""The sink under fire: whatever is killed, cut, stopped or filled up, the rows in the end are those of the log."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from infra.core.settings import ArchiverSettings
from schemas.ids import content_id
from tests.archiving import archiver_settings, caught_up
from tests.sinkfaults import DOUBLED, Cutter, Mismatch, Scene, compare, memory_mb, watching
from tests.stores import running_store

pytestmark = [pytest.mark.kafka, pytest.mark.store, pytest.mark.slow]
LONG = pytest.mark.long
MOST_MB = 600.0


@contextmanager
def scene(kafka: str, folder: Path, batch: int = 500, cuts: int = 0) -> Iterator[tuple[Scene, Cutter]]:
    """A store with the archiver behind a proxy. The seed is new each time; DRIFTLINE_SEED repeats one."""
    seed = int(os.environ.get("DRIFTLINE_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"seed {seed}")
    with running_store(folder) as store:
        settings = archiver_settings(kafka, store, content_id("sink", str(folder), str(seed)))
        settings = settings.model_copy(update={"archiver": ArchiverSettings(batch_rows=batch)})
        cutter = Cutter(store.port, seed, cuts)
        found = Scene(settings, store, seed, cutter.port)
        try:
            yield found, cutter
        finally:
            cutter.close()
            if found.child is not None:
                found.child.stop(20.0)


@pytest.mark.parametrize(("events", "kills"), [(2000, 1), pytest.param(30_000, 5, marks=[LONG, pytest.mark.timeout(600)])])
def test_killed_again_and_again_the_rows_are_those_of_the_log(kafka: str, tmp_path: Path, events: int, kills: int) -> None:
    with scene(kafka, tmp_path) as (sink, _), watching(sink.store) as looks:
        sink.pour(events)
        chance = random.Random(sink.seed)  # noqa: S311  to be repeated
        for _ in range(kills):
            before = sink.raw()
            sink.start()
            sink.await_(lambda: sink.raw() > before, "some rows")  # noqa: B023  called at once
            time.sleep(chance.uniform(0.0, 0.3))  # where in its work it is hit
            sink.kill()
        sink.start()
        sink.through()
        rows = compare(sink)
        print(f"{rows} rows, {sink.raw()} with copies, {len(looks)} looks")
        assert len(looks) > 20
        assert set(looks) == {0}, "a reader with FINAL saw a row twice"

        # The negative controls: the comparison and the reader's question must see what a hand does.
        writer = sink.store.client(writer=True)
        writer.command("INSERT INTO changes SELECT * EXCEPT ip REPLACE ('198.18.255.1' AS address) FROM changes LIMIT 1")
        assert writer.query(f"{DOUBLED['changes']} FINAL").result_rows[0][0] == 1
        with pytest.raises(Mismatch):
            compare(sink)
        writer.command("DELETE FROM changes WHERE address = '198.18.255.1'")
        assert compare(sink) == rows
        writer.command("DELETE FROM findings WHERE finding_id = (SELECT min(finding_id) FROM findings)")
        with pytest.raises(Mismatch):
            compare(sink)


def test_a_connection_that_is_cut_inside_an_insert_changes_no_row(kafka: str, tmp_path: Path) -> None:
    with scene(kafka, tmp_path, cuts=6) as (sink, cutter), watching(sink.store) as looks:
        sink.pour(4000)
        sink.start()
        sink.through()
        assert cutter.cut >= 3, "the proxy must have cut"
        print(f"{compare(sink)} rows, {sink.raw()} with copies, {cutter.cut} cuts, {len(looks)} looks")
        assert set(looks) == {0}


@pytest.mark.parametrize(("seconds", "events"), [(4.0, 2000), pytest.param(30.0, 30_000, marks=[LONG, pytest.mark.timeout(600)])])
def test_a_store_that_stalls_costs_no_row_no_rebalance_and_little_memory(kafka: str, tmp_path: Path, seconds: float, events: int) -> None:
    with scene(kafka, tmp_path, batch=20_000) as (sink, _):
        sink.start()
        sink.pour(events)
        sink.through()
        before, peak, rows = sink.members(), 0.0, sink.raw()
        assert sink.child is not None
        os.kill(sink.store.process.pid or 0, signal.SIGSTOP)
        try:
            # Only now: so none of these can have been written before the stall, however fast the machine is.
            pouring = threading.Thread(target=sink.pour, args=(events, events))
            pouring.start()
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                peak = max(peak, memory_mb(sink.child.pid))
                time.sleep(0.1)
            assert sink.members() == before, "it had to join its group again"
            assert not caught_up(sink.settings), "nothing may be acknowledged that is not written"
        finally:
            os.kill(sink.store.process.pid or 0, signal.SIGCONT)
        pouring.join()
        sink.through()
        assert sink.members() == before
        assert sink.raw() > rows
        print(f"{compare(sink)} rows, peak {peak:.0f} MB")
        assert 0 < peak < MOST_MB


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system of its own needs root")
def test_on_a_full_disk_it_waits_says_so_and_acknowledges_nothing(kafka: str, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "driftline-test", str(disk)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode()}")
    try:
        with scene(kafka, disk / "store") as (sink, _):
            sink.start()
            sink.pour(200)
            sink.through()
            rows = compare(sink)
            filler = disk / "filler"
            assert fill(filler) > 0
            sink.pour(4000)
            sink.await_(lambda: not sink.ended() and "disk" in status(sink).lower(), "the archiver to say that the disk is full", 30.0)
            assert not caught_up(sink.settings)
            filler.unlink()
            sink.through()
            assert compare(sink) > rows
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(file: Path) -> int:
    """Write into a file until nothing is free; how many bytes went in."""
    written = 0
    with suppress(OSError), file.open("wb", buffering=0) as out:
        while True:
            written += out.write(b"\0" * 4096)
    return written


def status(sink: Scene) -> str:
    """What the archiver says of itself."""
    with urllib.request.urlopen(f"http://127.0.0.1:{sink.health}/status", timeout=5.0) as answer:
        return str(answer.read().decode())
