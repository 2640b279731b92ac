"""What the sweep is measured against, each with the options that make it fastest, and how to read what each says.

No tool but nmap, which can't do without, sends a probe twice, and each that can be told is told to wait one second after its last
probe. A reader returns every (address, port) that the tool reported as open, as often as it did.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.sweep_rig import GROUND, SCANNER

Place = tuple[str, int]
NAIVE_SAMPLE = 300
NAIVE_AT_ONCE = 50
SEND_PROBES = 16


@dataclass(frozen=True, slots=True)
class Errand:
    """What to look at: networks or ranges as each tool writes them, first and last port, how many probes that makes, and the way there."""

    target: str
    first_port: int
    last_port: int
    probes: int
    mac: str
    sample: tuple[Place, ...]
    folder: Path
    sends_only: bool = False

    @property
    def ports(self) -> str:
        """The ports as most tools write them."""
        return f"{self.first_port}-{self.last_port}" if self.first_port != self.last_port else str(self.first_port)


@dataclass(frozen=True, slots=True)
class Peer:
    """A tool: its program, its command line for an errand (None: it can't do this one), and the reader of its output."""

    name: str
    program: str
    command: Callable[[Errand], list[str] | None]
    read: Callable[[str], list[Place]]
    bounded: bool = False
    """Only a sample is probed, and time and CPU are extrapolated."""

    def missing(self) -> bool:
        """Whether it is not installed."""
        return found(self.program) is None


def found(program: str) -> str | None:
    """Where a program is; cargo's own folder counts too."""
    return shutil.which(program) or shutil.which(program, path=str(Path.home() / ".cargo" / "bin"))


def _masscan(errand: Errand) -> list[str]:
    return [
        "masscan", errand.target, f"-p{errand.ports}", "--adapter", "scanner", "--adapter-ip", SCANNER,
        "--router-mac", errand.mac.replace(":", "-"), "--rate", "10000000", "--retries", "0", "--wait", "1", "-oL", "-",
    ]  # fmt: skip


def _zmap(errand: Errand, *more: str) -> list[str] | None:
    """This zmap knows one port a run, so it can't do an errand of many ports; to send alone it can, with many probes a host."""
    many = errand.first_port != errand.last_port
    if many and not errand.sends_only:
        return None
    count = ["-P", str(SEND_PROBES), "-n", str(errand.probes // SEND_PROBES), GROUND] if many else ["-P", "1", errand.target]
    return [
        "zmap", "-p", str(errand.first_port), "-i", "scanner", "-G", errand.mac, "-S", SCANNER, "-c", "1", "-b", "/dev/null",
        "-r", "0", "-T", "1", "--disable-syslog", "-o", "-", *more, *count,
    ]  # fmt: skip


def _nmap(errand: Errand) -> list[str]:
    """Tried on this rig: without a retry and faster than this it loses most of what is open, and takes no less time."""
    return [
        "nmap", "-n", "-Pn", "-sS", "-T5", "--min-rate", "50000", "--max-retries", "1", "--min-hostgroup", "4096", "--send-ip",
        "-p", errand.ports, "-oG", "-", "--open", errand.target,
    ]  # fmt: skip


def _rustscan(errand: Errand) -> list[str] | None:
    if errand.sends_only:
        return None  # it connects: sending is the least part of it
    ports = f"{errand.first_port}-{errand.last_port}"
    return [
        found("rustscan") or "rustscan", "-n", "--no-banner", "-g", "-a", errand.target, "-r", ports,
        "-b", "10000", "-u", "12000", "-t", "1000", "--scripts", "none",
    ]  # fmt: skip


def _naive(errand: Errand) -> list[str] | None:
    if errand.sends_only:
        return None
    wanted = errand.folder / "naive.txt"
    wanted.write_text("".join(f"{address} {port}\n" for address, port in errand.sample[:NAIVE_SAMPLE]))
    one = 'hping3 -S -p "$1" -c 1 "$0" 2>/dev/null || true'
    return ["xargs", "-a", str(wanted), "-P", str(NAIVE_AT_ONCE), "-n", "2", "sh", "-c", one]


def _read_masscan(text: str) -> list[Place]:
    return [(address, int(port)) for port, address in re.findall(r"^open tcp (\d+) (\S+)", text, re.MULTILINE)]


def _read_zmap(port: int) -> Callable[[str], list[Place]]:
    return lambda text: [(line, port) for line in text.split() if line[:1].isdigit()]


def _read_nmap(text: str) -> list[Place]:
    places = []
    for address, told in re.findall(r"^Host: (\S+) .*?Ports: ([^\t\n]*)", text, re.MULTILINE):
        places += [(address, int(port)) for port in re.findall(r"(\d+)/open/tcp", told)]
    return places


def _read_rustscan(text: str) -> list[Place]:
    places = []
    for address, told in re.findall(r"^(\d+\.\d+\.\d+\.\d+) -> \[([\d,]*)\]", text, re.MULTILINE):
        places += [(address, int(port)) for port in told.split(",") if port]
    return places


def _read_hping3(text: str) -> list[Place]:
    return [(address, int(port)) for address, port in re.findall(r"ip=(\S+) .*sport=(\d+) flags=SA", text)]


def peers(port: int) -> tuple[Peer, ...]:
    """All of them; zmap's output does not name the port."""
    return (
        Peer("masscan", "masscan", _masscan, _read_masscan),
        Peer("zmap", "zmap", _zmap, _read_zmap(port)),
        # Its progress display ends only at whole seconds, and the program with it.
        Peer("zmap -q", "zmap", lambda errand: _zmap(errand, "-q"), _read_zmap(port)),
        Peer("nmap", "nmap", _nmap, _read_nmap),
        Peer("rustscan", "rustscan", _rustscan, _read_rustscan),
        Peer("one hping3 a probe", "hping3", _naive, _read_hping3, bounded=True),
    )


def duplicates(places: Iterable[Place]) -> int:
    """How many reports were of something that had been reported before."""
    told = list(places)
    return len(told) - len(set(told))
