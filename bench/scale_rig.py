"""Several workers of one group over one input, their rate and their CPU taken together."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count

from confluent_kafka import Consumer

from bench.measuring import cpu_seconds
from bench.stream_engines import OURS
from bench.stream_job import Outcome, outcome
from bench.stream_rig import ROOT, Rig
from infra.core.errors import DriftlineError
from tests.processes import end

MOST_CHECKED = 200_000  # assets; to read a larger table takes longer than the run
NUMBERS = count()


@dataclass(frozen=True, slots=True)
class Spread:
    """One run: records a second, and CPU seconds of all workers together per 100,000 records."""

    rate: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.rate:,.0f}/s, {self.cpu:.2f} CPU s per 100,000"


class ScaleRig(Rig):
    """A rig that runs the job of `make bench-stream` on several workers of our engine."""

    def crew(self, topic: str, workers: int, total: int, warm_up: int, limit: float, expected: Outcome) -> Spread:
        """Run until the group has consumed all of a topic; the clock starts when `warm_up` records are through.

        Raises DriftlineError if a worker ends, it takes too long, or what is left behind is not what was expected.
        """
        run = f"{topic}-{workers}-{next(NUMBERS)}"
        for name, compact in ((f"{run}.changes", False), (f"{run}.state", True), (f"dlq.{topic}", False)):
            if name not in self._admin.list_topics(timeout=10).topics:
                self.make_topic(name, compact)
        watcher = Consumer({"bootstrap.servers": self.bootstrap, "group.id": run})  # asks what is committed, joins nothing
        deadline, start = time.monotonic() + limit, None
        with ExitStack() as stack:
            stack.callback(watcher.close)
            crew = [self._worker(stack, run, topic, slot) for slot in range(workers)]
            while True:
                done, now = self._committed(watcher, {topic: total}), time.monotonic()
                cpu = sum(cpu_seconds(one.pid) for one in crew)
                if start is None and done >= warm_up:
                    start = (done, now, cpu)
                if start is not None and done >= total:
                    break
                if now > deadline or any(one.poll() is not None for one in crew):
                    said = (self.folder / f"{run}-0.log").read_text(errors="replace")[-1500:]
                    raise DriftlineError(f"{run} got to {done} of {total} records: {said}", "The measurement failed.")
                time.sleep(0.02)
        records = total - start[0]
        if expected.assets <= MOST_CHECKED:
            found = outcome(self.values(f"{run}.changes"), self.table(f"{run}.state", OURS.key_of))
            if found != expected:
                raise DriftlineError(f"{run} did not do the job: {found} instead of {expected}.", "Its figures mean nothing.")
        return Spread(records / (now - start[1]), (cpu - start[2]) * 100_000 / records)

    def _worker(self, stack: ExitStack, run: str, topic: str, slot: int) -> subprocess.Popen[bytes]:
        folder = self.folder / run / str(slot)
        command = [
            sys.executable,
            "-m",
            "bench.stream_ours",
            self.bootstrap,
            run,
            topic,
            f"{run}.changes",
            str(folder),
            str(self.partitions),
        ]
        log = stack.enter_context((self.folder / f"{run}-{slot}.log").open("wb"))
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "DRIFTLINE_SLOT": str(slot)}
        )
        stack.callback(end, process)
        return process
