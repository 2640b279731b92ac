"""`make bench-sweep`: the sweep against masscan, zmap, nmap, rustscan and one hping3 a probe; then what it says of itself, by capture.

Peers and the sweep take turns in one network of namespaces, a round after the other, so that what the machine does besides is shared.
Ratios are medians of wall time, a peer's over ours. `--only` runs a part: race, loss, rates, deception, scope.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from bench.report import Bar, Part, tell
from bench.sweep_loss import loss
from bench.sweep_own import Home
from bench.sweep_proofs import deception, rates, scope
from bench.sweep_race import race
from infra.core.errors import DriftlineError

PARTS: dict[str, Callable[[Home, argparse.Namespace, Console], Part]] = {
    "race": race,
    "loss": loss,
    "rates": rates,
    "deception": deception,
    "scope": scope,
}


def main() -> None:
    """Run the parts that were asked for and print what was measured."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="these parts; default: all")
    arguments.add_argument("--works", nargs="+", default=[], help="only these works of the race, e.g. answering few_open")
    arguments.add_argument("--rounds", type=int, default=5, help="rounds of the race, and windows of each loss")
    arguments.add_argument("--limit", type=float, default=60.0, help="seconds that a run may take")
    chosen = arguments.parse_args()
    console = Console(stderr=True)
    figures: dict[str, object] = {}
    bars: list[Bar] = []
    try:
        with tempfile.TemporaryDirectory(prefix="driftline-bench-") as folder:
            for name in chosen.only:  # each in a folder of its own: a grant's exclusions are remembered, and hold for every later sweep
                part = PARTS[name](Home(Path(folder) / name), chosen, console)
                figures[name] = part.figures
                bars += part.bars
    except DriftlineError as error:
        console.print(f"error: {error}", style="red", markup=False)
        sys.exit(error.exit_code)
    tell("sweep", figures, bars)


if __name__ == "__main__":
    main()
