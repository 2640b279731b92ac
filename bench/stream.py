"""`make bench-stream`: the stream engine against Kafka Streams, quix-streams and Faust, the real diff step, and the state of many assets.

Engines take turns on one real broker, a round after the other; figures are medians. Each must do the whole job: the number and bytes
of its changes and its final state are compared with what the job says. `--only` runs parts: engine, diff, state.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from bench.report import Bar, Part, tell
from bench.stream_diff import diff
from bench.stream_race import engine
from bench.stream_rig import Rig
from bench.stream_state import state
from infra.core.errors import DriftlineError
from infra.core.logs import configure_logs
from infra.core.settings import TelemetrySettings
from tests.brokers import running_broker

PARTS: dict[str, Callable[[Rig, argparse.Namespace, Console], Part]] = {"engine": engine, "diff": diff, "state": state}


def main() -> None:
    """Run the parts that were asked for and print what was measured."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="these parts; default: all")
    arguments.add_argument("--records", type=int, default=600_000, help="records that the fastest engines get")
    arguments.add_argument("--rounds", type=int, default=3, help="rounds, in each of which every engine runs once")
    arguments.add_argument("--diff-assets", type=int, default=10_000, help="assets that the differ gets, each seen seven times")
    arguments.add_argument("--assets", type=int, default=1_000_000, help="assets of the part `state`")
    chosen = arguments.parse_args()
    configure_logs(TelemetrySettings(log_level="error"))
    console = Console(stderr=True)
    figures: dict[str, object] = {}
    bars: list[Bar] = []
    try:
        for name in chosen.only:
            with tempfile.TemporaryDirectory(prefix="driftline-bench-") as folder, running_broker(Path(folder)) as bootstrap:
                part = PARTS[name](Rig(bootstrap, Path(folder)), chosen, console)
            figures[name] = part.figures
            bars += part.bars
    except DriftlineError as error:
        console.print(f"error: {error}", style="red", markup=False)
        sys.exit(error.exit_code)
    tell("stream", figures, bars)


if __name__ == "__main__":
    main()
