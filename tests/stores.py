"""A running store for tests: the real `store` role in a spawned child process, on a free port, with its own data folder."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import clickhouse_connect
from clickhouse_connect.driver.client import Client

from infra.core.settings import Settings, StoreSettings, load_settings
from tests.ports import free_ports


@dataclass(slots=True)
class RunningStore:
    """A store that runs. `settings` is what `infra.clickhouse.client.connect` takes; `dsn` what any ClickHouse client takes (writer)."""

    settings: Settings
    process: BaseProcess

    @property
    def port(self) -> int:
        return self.settings.store.port

    @property
    def token(self) -> str:
        return (self.settings.data_dir / "store.token").read_text().strip()

    @property
    def dsn(self) -> str:
        return f"http://driftline:{self.token}@127.0.0.1:{self.port}/{self.settings.clickhouse.database}"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, writer: bool = False) -> Client:
        """An unmodified clickhouse-connect client with its defaults."""
        user, password = ("driftline", self.token) if writer else ("default", "")
        return clickhouse_connect.get_client(host="127.0.0.1", port=self.port, username=user, password=password, database="driftline")

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        if self.process.pid is not None:
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.join(10)


def store_settings(folder: Path, port: int | None = None, **store: int) -> Settings:
    """Settings of a store with its data in `folder`."""
    return load_settings(data_dir=folder, store=StoreSettings(port=port or free_ports(1)[0], **store))


@contextmanager
def running_store(folder: Path, *, settings: Settings | None = None, migrate: bool = True, seconds: float = 60.0) -> Iterator[RunningStore]:
    """Start a store and wait until it answers; stop it (SIGTERM) afterwards. `migrate` applies this release's migrations."""
    settings = settings or store_settings(folder)
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_serve, args=(settings.model_dump(), ready, migrate), daemon=True)
    process.start()
    deadline = time.monotonic() + seconds
    try:
        while not ready.wait(0.05):
            if not process.is_alive():
                raise RuntimeError(f"the store ended with {process.exitcode} before it was ready")
            if time.monotonic() > deadline:
                raise TimeoutError("the store was not ready in time")
        yield RunningStore(settings, process)
    finally:
        if process.is_alive():
            process.terminate()
            process.join(30)
        if process.is_alive():
            process.kill()
            process.join(10)


def _serve(values: dict[str, object], ready: threading.Event, migrate: bool) -> None:
    """The child: what `driftline run store` does."""
    from infra.clickhouse.migrations import apply_migrations
    from infra.local.store.role import run

    settings = load_settings(**values)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def migrations(client: Client | None) -> None:
        if migrate and client is not None:
            apply_migrations(client, settings.clickhouse.database)

    run(settings, stop, ready.set, migrate=migrations)
