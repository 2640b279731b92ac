"""The `store` role as it runs: the embedded engine's endpoint with today's migrations and the released schemas handed in."""

from __future__ import annotations

from threading import Event as Flag

from clickhouse_connect.driver.client import Client

from infra.clickhouse.client import connect
from infra.clickhouse.migrations import apply_migrations
from infra.core.ports import Ready
from infra.core.settings import Settings
from infra.local.store import role
from schemas.release import Catalog


def run(settings: Settings, stop: Flag, ready: Ready) -> None:
    """Serve until `stop` is set. With a ClickHouse server configured, migrate that one and serve only the registry."""

    def migrate(embedded: Client | None) -> None:
        client = embedded or connect(settings, writer=True)
        apply_migrations(client, settings.clickhouse.database)

    role.run(settings, stop, ready, Catalog(settings.zones, settings.kafka.prefix), migrate)
