"""The job of `make bench-stream` on a stock Faust table, at least once. Arguments: bootstrap, run, input, output, folder, partitions."""

from __future__ import annotations

import sys
from typing import Any

import faust

from bench.stream_job import compare, decode


def main() -> None:
    """Run until SIGTERM."""
    bootstrap, run, given, output, folder, partitions = sys.argv[1:]
    raw = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
    app = faust.App(
        run,
        broker=f"kafka://{bootstrap}",
        datadir=folder,
        store="memory://",
        web_enabled=False,
        topic_partitions=int(partitions),
        topic_replication_factor=1,
        topic_disable_leader=True,
        key_serializer="raw",
        value_serializer="raw",
    )
    source, told = app.topic(given, **raw), app.topic(output, **raw)
    changelog = app.topic(f"{run}.state", **raw, partitions=int(partitions))
    table = app.Table("ports", key_type=bytes, value_type=bytes, partitions=int(partitions), changelog_topic=changelog)

    @app.agent(source)  # type: ignore[untyped-decorator]
    async def step(stream: Any) -> None:
        async for key, value in stream.items():
            found = compare(decode(value), table.get(key))
            if found is not None:
                table[key] = found[0]
                await told.send(key=key, value=found[1])

    app.worker_redirect_stdouts = False
    sys.argv = [sys.argv[0], "worker", "-l", "warn", "--without-web"]
    app.main()


if __name__ == "__main__":
    main()
