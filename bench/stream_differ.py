"""The differ as a process of `make bench-stream`: `loop` (ours) or `quix`, which runs in an environment of its own. Settings as ever."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from infra.core.ports import Context, FixedTables, Record
from infra.core.settings import Settings, load_settings
from processors.diff.differ import Differ
from schemas.codec import Codec
from schemas.ids import subnet_key

EPOCH = datetime.fromtimestamp(0, UTC)


def loop(settings: Settings) -> None:
    """On Driftline's own loop, until SIGTERM."""
    from infra.core.logs import configure_logs
    from processors.diff import role

    configure_logs(settings.telemetry.model_copy(update={"log_level": "error"}), roles="differ")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    role.run(settings, stop, lambda: print("ready", flush=True))


class QuixState:
    """A step's state over quix-streams', which keeps it apart by the record's key: the subnet."""

    def __init__(self, state: Any) -> None:
        self._state = state

    def get(self, key: str) -> bytes | None:
        """The value, or None."""
        found: bytes | None = self._state.get_bytes(key)
        return found

    def put(self, key: str, value: bytes) -> None:
        """Set the value."""
        self._state.set_bytes(key, value)

    def delete(self, key: str) -> None:
        """Forget the key."""
        self._state.delete(key)

    def scan(self, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        """Only ticks ask, and there are none here."""
        raise NotImplementedError(prefix)


def quix(settings: Settings) -> None:
    """On quix-streams, exactly once, until SIGTERM."""
    from quixstreams import Application

    prefix, codec = settings.kafka.prefix, Codec()
    step = Differ(settings.differ, codec)
    app = Application(
        broker_address=settings.bootstrap,
        consumer_group=f"{prefix}differ",
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=0.5,
        state_dir=str(settings.data_dir),
        producer_extra_config={"compression.type": "lz4"},
        loglevel="WARNING",
    )

    def handle(value: bytes, state: Any) -> list[bytes]:
        kept = QuixState(state)
        if step.changes_nothing("probes", value, kept):
            return []
        plain = codec.read("probes", value)
        record = Record("probes", 0, 0, EPOCH, subnet_key(plain.fields["zone"], plain.fields["subnet"]), None, value, plain)
        return [codec.encode(one.topic, one.event) for one in step.handle(record, Context(0, 1, kept, FixedTables())) if one.event]

    source = app.topic(f"{prefix}probes", key_deserializer="str", value_deserializer="bytes")
    told = app.topic(f"{prefix}changes", key_serializer="str", value_serializer="bytes")
    app.dataframe(source).apply(handle, stateful=True, expand=True).to_topic(told)
    app.run()


if __name__ == "__main__":
    {"loop": loop, "quix": quix}[sys.argv[1]](load_settings())
