"""The job of `make bench-stream` on Driftline's own loop. Arguments: bootstrap, run, input, output, folder, partitions."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.stream_job import compare, decode
from infra.core.ports import Context, Emit, Record, StepPlan
from infra.core.settings import KafkaSettings, Settings
from infra.kafka.loop import StepLoop
from schemas.codec import Codec


class Sightings(Codec):
    """Reads sightings, which no topic of Driftline holds."""

    def decode(self, topic: str, value: bytes) -> Any:
        """The sighting in a record's value."""
        del topic
        return decode(value)


class Comparing:
    """The job as a step."""

    def __init__(self, output: str) -> None:
        self._output = output

    def handle(self, record: Record, context: Context) -> Iterable[Emit]:
        """A change if the ports differ."""
        sighting: Any = record.event
        asset = sighting["asset"]
        found = compare(sighting, context.state.get(asset))
        if found is None:
            return ()
        context.state.put(asset, found[0])
        return (Emit(self._output, asset, raw=found[1], partition=context.partition),)


def main() -> None:
    """Run until SIGTERM."""
    bootstrap, run, given, output, folder, partitions = sys.argv[1:]
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    settings = Settings(data_dir=Path(folder), kafka=KafkaSettings(bootstrap=bootstrap, partitions=int(partitions)))
    loop = StepLoop(settings, StepPlan(run, (given,), changelog=f"{run}.state"), Comparing(output), Sightings())
    try:
        loop.run(stop, lambda: None)
    finally:
        loop.close()


if __name__ == "__main__":
    main()
