"""`kill -9` of every process of the pipeline in turn, while it scans, changes neither the final rows nor their count."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from infra.local.lab.lab import Lab
from processors.correlate.correlating import NEW_AFTER
from tests.e2e.capture import LinkCounter
from tests.pipelines import Pipeline, request_id, running_pipeline

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.store,
    pytest.mark.namespace,
    pytest.mark.slow,
    pytest.mark.timeout(600),
]
# One role of each process that `driftline up` starts. The planner's process holds the scheduler and the notifier too.
EACH = ("planner", "scanner", "differ", "correlator", "assessor", "archiver", "store", "rollups", "kafka")
SOME = ("scanner",)
PORTS = "21-25,80,443,1883,6379,8080,11211"
TIMES = "first_seen, last_seen, last_looked, observed_at, recorded_at, changed_at, resolved_at, started_at, finished_at"
# Beside times: who did it and how often it was tried, and what depends on packets that were lost or sent again.
APART = {
    "sweeps": "agent_id, attempt, packets_sent, loss, recall, recall_low, recall_high, recall_samples, drops",
    "observations": "agent_id, attempt",
    "services": "",
    "assets": "",
    "changes": "",
    "exposures": "",
    "findings": "",
    "runs": "",
}
Content = dict[str, list[str]]


def content(pipeline: Pipeline) -> Content:
    """The rows of every table as text, sorted, without the columns that may differ."""
    found: Content = {}
    for table, apart in APART.items():
        present = {row["name"] for row in pipeline.rows("SELECT name FROM system.columns WHERE table = {t:String}", t=table)}
        drop = [name for name in (one.strip() for one in f"{TIMES}, {apart}".split(",")) if name in present]
        rows = pipeline.rows(f"SELECT * EXCEPT ({', '.join(drop)}) FROM {table} FINAL")  # noqa: S608  names from the table above
        found[table] = sorted(repr(sorted(row.items())) for row in rows)
    return found


def story(folder: Path, keys: Path, victims: Sequence[str], strike: Callable[[Pipeline, str, LinkCounter], None]) -> Content:
    """A scan of two hosts of a lab for each victim; then the lab changes and is looked at until the closed service is confirmed."""
    with Lab(keys, "dlk-", 240) as lab, running_pipeline(folder) as pipeline:
        pipeline.grant("full", lab.networks(), icmp=True, path=True)
        hosts = [lab.plan.addresses(host.name) for host in lab.plan.hosts]
        for number, victim in enumerate(victims):
            counter = LinkCounter(lab.interface)
            pipeline.send(f"wave-{victim}", [*hosts[number % 7], *hosts[(number + 3) % 7]], PORTS, "full")
            strike(pipeline, victim, counter)
            pipeline.scanned(pipeline.run_of(request_id(f"wave-{victim}")))
        # A service that opens is new only on a host that was known for a while: in both runs that is so now.
        young = f"SELECT 1 FROM assets FINAL WHERE first_seen > now64(3) - INTERVAL {NEW_AFTER.seconds + 2} SECOND"  # noqa: S608
        pipeline.until(lambda: not pipeline.rows(young), 60, "every host to be known for a while")
        lab.change()
        pipeline.scanned(pipeline.push("last", [f"{lab.plan.address4(0)}/28"], PORTS, "full"))
        closed = "SELECT 1 FROM services FINAL WHERE port = 11211 AND status = 'closed'"
        pipeline.until(lambda: pipeline.rows(closed), 90, "the closed service to be confirmed")
        pipeline.settled()
        return content(pipeline)


def spare(pipeline: Pipeline, victim: str, counter: LinkCounter) -> None:
    """Nothing is disturbed."""


def kill(pipeline: Pipeline, victim: str, counter: LinkCounter) -> None:
    """SIGKILL as soon as packets flow (the planner at once, while it plans); returns when a successor is there."""
    begun, pid = counter.count(), pipeline.processes()[victim]
    if victim != "planner":
        pipeline.until(lambda: counter.count() > begun + 5, 30, "packets of the scan")
    os.kill(pid, signal.SIGKILL)

    def succeeded() -> bool:
        return pipeline.processes().get(victim, pid) != pid

    pipeline.until(succeeded, 30, f"a successor of {victim}")


@pytest.mark.parametrize(
    "victims", [pytest.param(SOME, id="some", marks=pytest.mark.long), pytest.param(EACH, id="each", marks=pytest.mark.long)]
)
def test_killing_processes_in_turn_changes_nothing(tmp_path: Path, victims: Sequence[str]) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, for the lab's namespaces")
    undisturbed = story(tmp_path / "calm", tmp_path, victims, spare)
    disturbed = story(tmp_path / "struck", tmp_path, victims, kill)
    assert all(undisturbed.values()), "nothing to compare in a table"
    more = {table: Counter(disturbed[table]) - Counter(undisturbed[table]) for table in APART}
    less = {table: Counter(undisturbed[table]) - Counter(disturbed[table]) for table in APART}
    told = "\n".join(f"{table} {sign} {row}" for sign, rows in (("+", more), ("-", less)) for table, found in rows.items() for row in found)
    assert told == "", f"rows that only the disturbed (+) or the undisturbed run (-) has:\n{told}"
