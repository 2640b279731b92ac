"""The job of `make bench-stream` on quix-streams, in its own environment. Arguments: bootstrap, run, input, output, folder."""

from __future__ import annotations

import sys
from typing import Any

from quixstreams import Application
from quixstreams.state import State

from bench.stream_job import compare, decode


def step(value: Any, state: State) -> bytes | None:
    """The change; None if nothing differs."""
    found = compare(decode(value), state.get_bytes("ports"))
    if found is None:
        return None
    state.set_bytes("ports", found[0])
    return found[1]


def main() -> None:
    """Run until SIGTERM."""
    bootstrap, run, given, output, folder = sys.argv[1:6]
    app = Application(
        broker_address=bootstrap,
        consumer_group=run,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=0.5,
        state_dir=folder,
        auto_create_topics=True,
        producer_extra_config={"compression.type": "lz4"},
        loglevel="WARNING",
    )
    source = app.topic(given, key_deserializer="str", value_deserializer="bytes")
    told = app.topic(output, key_serializer="str", value_serializer="bytes")
    frame = app.dataframe(source)
    frame.apply(step, stateful=True).filter(lambda value: value is not None).to_topic(told)
    app.run()


if __name__ == "__main__":
    main()
