"""What reached the far end of the rig, packet by packet: tcpdump there, and its file read back as columns."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scapy.utils import RawPcapReader

from bench.sweep_rig import GATEWAY, Rig

END_PORT, END = 21_998, b"end of the capture"
SEND_END = f"import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto({END!r}, ({GATEWAY!r}, {END_PORT}))"
SECONDS = 30.0
FLAGS, SYN = 47, 0x02  # where the TCP flags are in an Ethernet frame without IP options


@dataclass(slots=True)
class Capture:
    """Times of the packets (seconds), and which of them are SYNs; filled when the block is left."""

    times: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    probes: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))

    def __len__(self) -> int:
        return len(self.times)


@contextmanager
def capturing(rig: Rig, expression: str, folder: Path) -> Iterator[Capture]:
    """Record the packets that the scanning side sends and that match (pcap-filter(7)), to the last one. Fails if the kernel dropped one."""
    folder.mkdir(exist_ok=True)
    file, errors = folder / "capture.pcap", folder / "capture.err"
    seen = Capture()
    wanted = f"src host 198.19.0.1 and ip and (({expression}) or udp dst port {END_PORT})"
    tcpdump = ["tcpdump", "-i", "target", "-n", "-U", "-s", "64", "--immediate-mode", "-B", "65536", "--time-stamp-precision", "nano"]
    with errors.open("wb") as said:
        process = subprocess.Popen(rig.far(*tcpdump, "-w", str(file), wanted), stdout=said, stderr=said)
    try:
        _await(lambda: b"listening on" in errors.read_bytes())
        yield seen
        subprocess.run(rig.near("python3", "-c", SEND_END), check=True)
        _await(lambda: END in _tail(file))
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)
    assert b"\n0 packets dropped by kernel" in errors.read_bytes(), errors.read_text()
    _read(file, seen)
    file.unlink()


def most_in_a_second(times: NDArray[np.float64]) -> int:
    """The most packets in any window of one second, the end excluded; times ascend."""
    return int((np.searchsorted(times, times + 1.0, side="left") - np.arange(len(times))).max(initial=0))


def _read(file: Path, seen: Capture) -> None:
    times, probes = [], []
    with RawPcapReader(str(file)) as packets:
        for data, about in packets:
            if END not in data:
                times.append(about.sec + about.usec / 1e9)  # the reader's name for the fraction; the file has nanoseconds
                probes.append(len(data) > FLAGS and data[FLAGS] == SYN)
    order = np.argsort(times)
    seen.times, seen.probes = np.array(times)[order], np.array(probes, dtype=bool)[order]


def _tail(file: Path) -> bytes:
    if not file.exists():
        return b""
    with file.open("rb") as content:
        content.seek(max(0, file.stat().st_size - 4096))
        return content.read()


def _await(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {SECONDS:.0f} s")
        time.sleep(0.02)
