"""A DAG for Airflow 3: a cluster's services, nodes and ingresses into Driftline's inventory, every hour.

The worker needs `kubectl` with a login that may list these in all namespaces, and `driftline` with the settings that lead to Kafka.
Driftline's tests run `sync` as it stands, with a stand-in for kubectl; Airflow itself is not installed there, so the DAG below is not run.
"""

from __future__ import annotations

import subprocess
import tempfile
from datetime import datetime, timedelta
from pathlib import Path

KINDS = "services,nodes,ingresses"


def sync(source: str = "kubernetes", zone: str = "default") -> str:
    """The task: what kubectl prints, given to `driftline targets sync`. Raises CalledProcessError, so that the task fails.

    Exit code 2: the snapshot is broken; 4: it lost more than a fifth of its members and waits for a person. Trying again mends neither.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cluster.json"
        with file.open("wb") as out:
            subprocess.run(["kubectl", "get", KINDS, "--all-namespaces", "--output", "json"], stdout=out, check=True, timeout=300)
        command = ["driftline", "targets", "sync", "--source", source, "--zone", zone, "--json", str(file)]
        done = subprocess.run(command, check=True, timeout=600, stdout=subprocess.PIPE, text=True)  # its words go to the task's log
    return done.stdout


try:
    from airflow.sdk import dag, task
except ImportError:  # where Driftline's own tests run
    pass
else:

    @dag(schedule=timedelta(hours=1), start_date=datetime(2026, 1, 1), catchup=False, max_active_runs=1, tags=["driftline"])  # noqa: DTZ001
    def driftline_kubernetes() -> None:
        """One task; one run at a time."""
        task(sync, retries=0)()

    driftline_kubernetes()
