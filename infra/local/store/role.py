"""The `store` role: opens the embedded engine, applies the migrations and serves both on loopback until it is told to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog
from clickhouse_connect.driver.client import Client

from infra.core.errors import MissingPrerequisite
from infra.core.secret_files import make_secret, store_token_file
from infra.core.settings import Settings
from infra.local.store.endpoint import Limits, StoreServer
from infra.local.store.engine import Engine
from infra.local.store.registry_reads import NoSchemas, SchemaCatalog

log = structlog.get_logger()

DRAIN_SECONDS = 10.0


def run(
    settings: Settings,
    stop: threading.Event,
    ready: Callable[[], None],
    catalog: SchemaCatalog | None = None,
    migrate: Callable[[Client | None], None] | None = None,
) -> None:
    """Serve until `stop` is set, then finish what is in work and close.

    `migrate` gets a client of the embedded engine (None where a ClickHouse server is configured: it connects itself) before
    anything is served; adapters do not know each other, so the application hands it in. Raises MissingPrerequisite when the port
    or the data folder is taken.
    """
    token = make_secret(store_token_file(settings.data_dir))
    embedded = settings.clickhouse.dsn is None
    engine = Engine(settings.data_dir / "clickhouse", settings.clickhouse.database, settings.store.memory_mb) if embedded else None
    try:
        if migrate is not None:
            migrate(engine.client if engine is not None else None)
        limits = Limits(settings.store.query_seconds, settings.store.query_rows, settings.store.memory_mb << 20)
        server = _listen(settings.store.port, engine, token, limits, catalog or NoSchemas())
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.5}, name="store-http", daemon=True)
        serving.start()
        log.info("store_ready", port=settings.store.port, embedded=embedded)
        ready()
        while not stop.wait(5.0):
            server.meter.beat()
        server.shutdown()
        server.server_close()
        if not server.drain(DRAIN_SECONDS):
            log.warning("store_closed_with_queries_running")
            if engine is not None:
                engine.kill_queries()
                server.drain(DRAIN_SECONDS)
    finally:
        if engine is not None:
            engine.close()
    log.info("store_closed")


def _listen(port: int, engine: Engine | None, token: str, limits: Limits, catalog: SchemaCatalog) -> StoreServer:
    try:
        return StoreServer(port, engine, token, limits, catalog)
    except OSError as error:
        raise MissingPrerequisite(
            f"The store can't listen on 127.0.0.1:{port}: {error.strerror}.",
            "Stop what listens there, or set DRIFTLINE_STORE__PORT to a free port.",
        ) from None
