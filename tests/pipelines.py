"""A whole pipeline for tests: `driftline up` as a child process with its own data, ports and life, and what tests ask of it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import Error

from infra.app.people import publisher
from infra.app.status import pipeline_status
from infra.clickhouse.client import connect
from infra.core.errors import DriftlineError
from infra.core.settings import BrokerSettings, KafkaSettings, Settings, StoreSettings, TelemetrySettings, load_settings
from infra.core.trust import load_signers
from infra.kafka.client import read_table
from infra.local.child import Child
from producers.auditing import local_actor
from producers.grants.issuing import Desk, GrantForm, create_grant
from producers.grants.keys import ensure_key
from producers.targets.pushing import PushOptions, push
from producers.targets.reading import Manner
from schemas.events.grants import Grant
from schemas.ids import content_id
from tests.ports import free_ports

START_SECONDS = 120.0
HEALTH_PORTS = 20
Row = dict[str, Any]


@dataclass(slots=True)
class Pipeline:
    """A pipeline's folder, the environment that leads every `driftline` command to it, and its supervisor while it runs."""

    folder: Path
    settings: Settings
    environment: dict[str, str]
    python: str = sys.executable
    child: Child | None = None
    _client: Client | None = field(default=None, repr=False)

    def start(self) -> None:
        """`driftline up`; returns when every role is ready. Raises RuntimeError with its last words."""
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / "up.log"
        self.child = Child([self.python, "-m", "infra.app.cli", "up"], log, self.environment)
        deadline = time.monotonic() + START_SECONDS
        while "Driftline runs" not in log.read_text(errors="replace"):
            if self.child.poll() is not None or time.monotonic() > deadline:
                self.child.stop(60.0)
                raise RuntimeError(f"the pipeline did not start:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """SIGTERM, as Ctrl-C would; it drains and leaves."""
        if self.child is not None:
            self.child.stop(60.0)

    def cli(
        self, *arguments: str, code: int | None = 0, feed: str | None = None, seconds: float = 90.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a `driftline` command against this pipeline and check its exit code."""
        command = [self.python, "-m", "infra.app.cli", *arguments]
        done = subprocess.run(
            command, env=self.environment, cwd=self.folder, input=feed or "", capture_output=True, text=True, timeout=seconds, check=False
        )
        assert code is None or done.returncode == code, f"driftline {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *arguments: str) -> Any:
        """The JSON document that a reading command prints."""
        return json.loads(self.cli(*arguments, "--json").stdout)

    def rows(self, sql: str, **parameters: object) -> list[Row]:
        """The rows of a query, as a reader without rights gets them. While the store is away: waits for it, up to half a minute."""
        deadline = time.monotonic() + 30.0
        while True:
            try:
                if self._client is None:
                    self._client = connect(self.settings)
                result = self._client.query(sql, parameters=parameters)
                return [dict(zip(result.column_names, row, strict=True)) for row in result.result_rows]
            except (Error, OSError, DriftlineError):
                self._client = None
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def until(self, condition: Callable[[], object], seconds: float, what: str) -> None:
        """Wait for a condition. Fails the test, with what the pipeline says of itself, when it does not come true in time."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                status = [{key: row[key] for key in ("role", "state", "lag", "restarts", "last_error")} for row in self.status(0.1).rows]
                raise AssertionError(f"not within {seconds:.0f} s: {what}\n" + "\n".join(map(str, status)))
            time.sleep(0.1)

    def settled(self, seconds: float = 60.0, quiet: float = 3.0) -> None:
        """Wait until no table has moved for `quiet` seconds and no role lags."""
        tables = ("sweeps", "observations", "services", "changes", "exposures", "findings")
        counted = ", ".join(f"(SELECT count() FROM {name})" for name in tables)  # noqa: S608  fixed text
        last: object = None
        since = time.monotonic()

        def still() -> bool:
            nonlocal last, since
            now = self.rows(f"SELECT {counted}, (SELECT sum(revision) FROM findings FINAL)")  # noqa: S608  fixed text
            if now != last:
                last, since = now, time.monotonic()
            return time.monotonic() - since > quiet

        self.until(still, seconds, "the tables to settle")

    def status(self, seconds: float = 0.5) -> Any:
        """What `driftline status` says, measured for so long."""
        return pipeline_status(self.settings, seconds)

    def processes(self) -> dict[str, int]:
        """Process id by name: `kafka`, `supervisor`, and each role (roles that share a process share the id)."""
        notes = json.loads((self.folder / "run" / "processes.json").read_text())
        found = {"kafka": notes["broker"], "supervisor": notes["supervisor"]}
        return found | {role: member["pid"] for member in notes["members"] for role in member["roles"] if member["pid"]}

    def grant(self, grant_id: str, networks: Sequence[str], **form: Any) -> Grant:
        """Sign and publish a grant that is valid for a day."""
        key = ensure_key(self.settings, grant_id, tuple(networks))
        filled = GrantForm(
            networks=tuple(networks),
            expires_at=datetime.now(UTC) + timedelta(days=1),
            grant_id=grant_id,
            **{"packets_per_second": 1000, "per_host_per_second": 200, **form},
        )
        with publisher(self.settings) as outlet:
            known = {name: one for name, one in read_table(self.settings, "grants").items() if isinstance(one, Grant)}
            desk = Desk(local_actor(), load_signers(self.settings), self.settings.zones, known, outlet.publish)
            return create_grant(filled, key, desk, datetime.now(UTC), amend=True)

    def push(
        self, name: str, targets: Sequence[str], ports: str | None = None, grant: str | None = None, probes: tuple[str, ...] = ()
    ) -> Row:
        """What `driftline targets push --id name` does, without the command's start; the run that became of it."""
        self.send(name, targets, ports, grant, probes)
        return self.run_of(request_id(name))

    def send(self, name: str, targets: Sequence[str], ports: str | None, grant: str | None, probes: tuple[str, ...] = ()) -> None:
        """`push` without waiting for what becomes of it."""
        options = PushOptions(name, Manner(ports=ports, grant_id=grant, probes=probes), zones=self.settings.zones)
        with publisher(self.settings) as outlet:
            report = push(targets, outlet.publish, options)
        assert report.rejected_total == 0, report.rejected

    def run_of(self, request: str, seconds: float = 60.0) -> Row:
        """The run of a request."""
        found: list[Row] = []

        def there() -> bool:
            found[:] = self.rows("SELECT * FROM runs FINAL WHERE request_id = {r:String}", r=request)
            return bool(found)

        self.until(there, seconds, f"the run of request {request}")
        return found[0]

    def scanned(self, run: Row, seconds: float = 120.0) -> None:
        """Wait until every unit of a run was looked at."""
        sql = "SELECT count() AS n FROM sweeps FINAL WHERE run_id = {r:String}"
        self.until(lambda: self.rows(sql, r=run["run_id"])[0]["n"] >= run["units"], seconds, f"the {run['units']} units of the run")


def request_id(push_id: str) -> str:
    """The request id of a push of at most 500 targets under this id."""
    return content_id("push", push_id, 0)


def prepare(folder: Path, python: str = sys.executable, partitions: int = 4) -> Pipeline:
    """A pipeline that is not started yet, with free ports; with fewer partitions than usual, so that it starts sooner."""
    broker, controller, store = free_ports(3)
    base = _consecutive(HEALTH_PORTS)
    settings = load_settings(
        data_dir=folder,
        kafka=KafkaSettings(partitions=partitions),
        broker=BrokerSettings(port=broker, controller_port=controller),
        store=StoreSettings(port=store),
        telemetry=TelemetrySettings(port_base=base),
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DRIFTLINE_")} | {
        "DRIFTLINE_DATA_DIR": str(folder),
        "DRIFTLINE_KAFKA__PARTITIONS": str(partitions),
        "DRIFTLINE_BROKER__PORT": str(broker),
        "DRIFTLINE_BROKER__CONTROLLER_PORT": str(controller),
        "DRIFTLINE_STORE__PORT": str(store),
        "DRIFTLINE_TELEMETRY__PORT_BASE": str(base),
    }
    return Pipeline(folder, settings, environment, python)


@contextmanager
def running_pipeline(folder: Path, python: str = sys.executable, partitions: int = 4) -> Iterator[Pipeline]:
    """A pipeline from `driftline up` until SIGTERM; at the end none of its processes may be left."""
    pipeline = prepare(folder, python, partitions)
    pipeline.start()
    try:
        yield pipeline
    finally:
        pipeline.stop()
    assert owned(pipeline.environment) == [], "SIGTERM left processes behind"


def owned(environment: Mapping[str, str]) -> list[psutil.Process]:
    """The processes that live with this data folder in their environment or command line, this one apart."""
    folder = environment["DRIFTLINE_DATA_DIR"]
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            named = process.environ().get("DRIFTLINE_DATA_DIR", "").startswith(folder) or any(folder in one for one in process.cmdline())
            if named and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _consecutive(count: int) -> int:
    """The first of so many ports of loopback in a row that are free now, below the range that the kernel gives out."""
    for first in range(20_000 + os.getpid() * 24 % 12_000, 32_700 - count, count):
        with ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise RuntimeError("no free ports in a row")
