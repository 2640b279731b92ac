"""What the sweep says of itself, checked against what the far end saw: rate limits, scope, deception."""

from __future__ import annotations

import argparse
import ipaddress
import json
import random
import subprocess
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bench.report import Bar, Part
from bench.sweep_capture import capturing, most_in_a_second
from bench.sweep_own import PROGRAM, Home, read
from bench.sweep_rig import GROUND, Rig

LIMITS = (5, 40, 100, 1_000, 10_000)
RATE_SECONDS = 12
EXCLUSIONS = ("198.18.7.0/24", "198.18.9.9/32", "198.18.64.0/18", "198.18.255.255/32")
FAKE, REAL = "198.18.1.0/24", "198.18.2.0/24"
LAST_PORT = 10_000
PROBE_BUDGET = 200


def rates(home: Home, chosen: argparse.Namespace, console: Console) -> Part:
    """Every window of a second, and the mean, at several limits; all that leaves counts, the kernel's own resets too."""
    table = Table(
        "limit /s", "most in 1 s", "mean /s", "probes: most in 1 s", "mean /s", title="rate limits, by capture", title_justify="left"
    )
    figures: dict[str, object] = {}
    bars = []
    with Rig([("0.0.0.0", 82)]) as rig:
        for limit in LIMITS:
            first = int(ipaddress.ip_address("198.18.0.0"))
            target = f"198.18.0.0-{ipaddress.ip_address(first + 2 * limit - 1)}"
            argv = [str(PROGRAM), "sweep", target, "-p", "80-85", "--grant", str(home.grant(f"rate-{limit}", rate=limit)), "--json"]
            with capturing(rig, "tcp", home.folder) as seen:
                ran, _ = rig.run(argv, 4 * RATE_SECONDS, home.environment(attempts=1, connect_timeout=1.0))
            if ran.status != 0:
                raise SystemExit(f"the sweep at {limit}/s ended with {ran.status}: {ran.errors}")
            most, mean = most_in_a_second(seen.times), _mean(seen.times)
            probes = seen.times[seen.probes]
            figures[str(limit)] = {
                "most_in_1s": most,
                "mean": round(mean, 2),
                "packets": len(seen),
                "probes_most_in_1s": most_in_a_second(probes),
                "probes_mean": round(_mean(probes), 2),
            }
            table.add_row(f"{limit:,}", f"{most:,}", f"{mean:,.1f}", f"{most_in_a_second(probes):,}", f"{_mean(probes):,.1f}")
            console.print(f"[dim]{limit}/s: {len(seen)} packets[/]")
            bars.append(Bar(f"rate {limit}/s: most in 1 s over the limit", round(most / limit, 4), "at_most", 1.05))
            bars.append(Bar(f"rate {limit}/s: mean over the limit", round(mean / limit, 4), "at_least", 0.95))
    Console(width=140).print(table)
    return Part(figures, bars)


def _mean(times: NDArray[np.float64]) -> float:
    """Packets a second from the first to the last."""
    return (len(times) - 1) / float(times[-1] - times[0])


def scope(home: Home, chosen: argparse.Namespace, console: Console) -> Part:
    """Whether anything leaves that the grant does not cover; and whether this check would see it."""
    grant = home.grant("scope", exclusions=EXCLUSIONS)
    outside = " or ".join([*(f"dst net {network}" for network in EXCLUSIONS), f"not dst net {GROUND}", "not tcp dst port 80"])
    stray = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'stray', ('198.18.9.9', 80))"
    with Rig([("0.0.0.0", 80)]) as rig:
        argv = [str(PROGRAM), "sweep", GROUND, "-p", "80", "--grant", str(grant), "--json"]
        with capturing(rig, outside, home.folder) as strays:
            ran, log = rig.run(argv, chosen.limit, home.environment())
        with capturing(rig, outside, home.folder) as control:
            subprocess.run(rig.near("python3", "-c", stray), check=True)
    covered = 65_536 - sum(ipaddress.ip_network(one).num_addresses for one in EXCLUSIONS)
    found = read(ran.output)
    figures = {
        "packets_outside": len(strays),
        "seen_of_a_stray_sent_on_purpose": len(control),
        "covered": covered,
        "found": len(found.places),
        "packets_on_the_link": log[-1][1] - log[0][1] if log else 0,
    }
    _print("scope, by capture", figures)
    return Part(
        figures,
        [
            Bar("scope: packets outside the grant", len(strays), "at_most", 0),
            Bar("scope: a stray packet sent on purpose is seen", len(control), "at_least", 1),
            Bar("scope: share of what is covered and open that was found", round(len(found.places) / covered, 6), "at_least", 1.0),
        ],
    )


def deception(home: Home, chosen: argparse.Namespace, console: Console) -> Part:
    """256 hosts that answer on every port, among 256 real ones with up to a hundred open ports each."""
    chance = random.Random(5)  # noqa: S311  a sample, not a secret
    real = [str(one) for one in ipaddress.ip_network(REAL)]
    truth = {(address, port) for address in real for port in chance.sample(range(1, LAST_PORT + 1), chance.randint(1, 100))}
    rules = f"""table inet ground {{
      set open {{ type ipv4_addr . inet_service; elements = {{ {", ".join(f"{address} . {port}" for address, port in truth)} }} }}
      set probed {{ type ipv4_addr; size 65536; flags dynamic; counter; }}
      chain count {{ type filter hook prerouting priority 0; tcp flags & (syn|ack|rst) == syn update @probed {{ ip daddr }}; }}
      chain answer {{ type filter hook input priority 0; ip daddr {REAL} ip daddr . tcp dport != @open reject with tcp reset; }}
    }}"""
    with Rig([("0.0.0.0", port) for port in range(1, LAST_PORT + 1)], (FAKE, REAL), rules) as rig:
        argv = [str(PROGRAM), "sweep", FAKE, REAL, "-p", f"1-{LAST_PORT}", "--grant", str(home.grant("deception")), "--json"]
        ran, _ = rig.run(argv, 4 * chosen.limit, home.environment())
        counted = json.loads(
            subprocess.run(rig.far("nft", "-j", "list", "set", "inet", "ground", "probed"), check=True, capture_output=True).stdout
        )
    found = read(ran.output)
    probes = {one["elem"]["val"]: one["elem"]["counter"]["packets"] for one in counted["nftables"][1]["set"]["elem"]}
    fakes = [str(one) for one in ipaddress.ip_network(FAKE)]
    named, quarantined = set(found.places), set(found.summary.get("quarantined", {}))
    most, false = max((probes.get(one, 0) for one in fakes), default=0), sum(address in set(fakes) for address, _ in named)
    figures: dict[str, object] = {
        "status": ran.status,
        "wall_s": round(ran.wall, 2),
        "most_probes_to_a_deceptive_host": most,
        "median_probes_to_a_deceptive_host": float(np.median([probes.get(one, 0) for one in fakes])),
        "findings_on_deceptive_hosts": false,
        "real_found": len(named & truth),
        "real_open": len(truth),
        "deceptive_hosts_quarantined": len(quarantined & set(fakes)),
        "real_hosts_quarantined": len(quarantined & set(real)),
    }
    _print("hosts that answer on everything", figures)
    return Part(
        figures,
        [
            Bar(
                "deception: probes to any host that answers on everything",
                most,
                "at_most",
                PROBE_BUDGET,
            ),
            Bar("deception: findings on such hosts", false, "at_most", 0),
            Bar("deception: real hosts quarantined", len(quarantined & set(real)), "at_most", 0),
            Bar("deception: share of real open ports found", round(len(named & truth) / len(truth), 6), "at_least", 1.0),
        ],
    )


def _print(title: str, figures: Mapping[str, object]) -> None:
    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), str(value))
    Console(width=140).print(table)
