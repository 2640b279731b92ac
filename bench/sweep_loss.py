"""How true the stated recall is on a link that loses packets: many sweeps under each loss, each with its own bounds.

The kernel of many machines lacks netem; nftables drops each packet with the same chance, on its way there and on its way back.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import random
import statistics
import sys

from rich.console import Console
from rich.table import Table

from bench.report import Bar, Part
from bench.sweep_own import Home
from bench.sweep_rig import Rig

LOSSES = (5, 10, 20)
NETWORK, FIRST_PORT, LAST_PORT, OPEN_SHARE = "198.18.0.0/24", 80, 83, 0.3
WINDOWS_A_ROUND = 24
SECONDS_A_WINDOW = 5.0


def rules(percent: int) -> str:
    """Each TCP packet is lost with this chance, each way."""
    drop = f"meta l4proto tcp numgen random mod 100 < {percent} drop;"
    return f"""table inet loss {{
      chain there {{ type filter hook prerouting priority -300; {drop} }}
      chain back {{ type filter hook output priority -300; {drop} }}
    }}"""


def loss(home: Home, chosen: argparse.Namespace, console: Console) -> Part:
    """Whether the truth is between the bounds, and how much is found in the end."""
    grant = home.grant("loss")
    chance = random.Random(6)  # noqa: S311  a sample, not a secret
    places = [(str(address), port) for address in ipaddress.ip_network(NETWORK) for port in range(FIRST_PORT, LAST_PORT + 1)]
    truth = {place for place in places if chance.random() < OPEN_SHARE}
    count = WINDOWS_A_ROUND * chosen.rounds
    argv = [sys.executable, "-m", "bench.sweep_windows", str(grant), NETWORK, f"{FIRST_PORT}-{LAST_PORT}", str(count)]
    table = Table("lost each way", "windows", "truth within bounds", "found", "mean of stated recall", "median width", "attempts")
    table.title, table.title_justify = "recall under loss", "left"
    figures: dict[str, object] = {}
    bars = []
    for percent in LOSSES:
        with Rig(sorted(truth), (NETWORK,), rules(percent)) as rig:
            ran, _ = rig.run(argv, SECONDS_A_WINDOW * count, home.environment())
        if ran.status != 0:
            raise SystemExit(f"the sweeps under {percent} % of loss ended with {ran.status}: {ran.errors[-1000:]}")
        told = [json.loads(line) for line in ran.output.splitlines()]
        shares = [len({(address, port) for address, port in one["found"]} & truth) / len(truth) for one in told]
        inside = statistics.fmean(one["low"] <= share <= one["high"] for one, share in zip(told, shares, strict=True))
        found = statistics.fmean(shares)
        told_of: dict[str, float] = {
            "windows": len(told),
            "inside": round(inside, 4),
            "found": round(found, 5),
            "found_worst": round(min(shares), 5),
            "stated": round(statistics.fmean(one["recall"] for one in told), 5),
            "width": round(statistics.median(one["high"] - one["low"] for one in told), 5),
            "loss_stated": round(statistics.fmean(one["loss"] for one in told), 4),
            "attempts": statistics.median(one["attempts"] for one in told),
            "wall_s": round(ran.wall, 1),
        }
        figures[str(percent)] = told_of
        table.add_row(f"{percent} %", *(f"{told_of[name]:g}" for name in ("windows", "inside", "found", "stated", "width", "attempts")))
        console.print(f"[dim]{percent} %: {told_of}[/]")
        bars.append(Bar(f"loss {percent} %: share of windows whose bounds hold the truth", round(inside, 4), "at_least", 0.93))
        bars.append(Bar(f"loss {percent} %: share found in the end", round(found, 5), "at_least", 0.995))
    Console(width=140).print(table)
    return Part(figures, bars)
