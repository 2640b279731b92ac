"""Records what leaves this machine for some networks, whatever the interface, and reads it back packet by packet."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import CookedLinuxV2
from scapy.packet import Packet
from scapy.utils import PcapReader

from tests.scanning import wait_until

OUTGOING = 4  # packet type in LINKTYPE_LINUX_SLL2
NEIGHBOUR_DISCOVERY = range(133, 138)  # ICMPv6 types, RFC 4861


@dataclass(frozen=True, slots=True)
class Sent:
    """A packet that this machine sent. `kind` is tcp, udp, icmp, neighbour (ARP and ND) or other; `port` is the destination's."""

    at: float
    interface: int
    kind: str
    to: str
    port: int


@contextmanager
def capturing(file: Path, networks: Sequence[str]) -> Iterator[None]:
    """Record every packet from or to these networks on all interfaces. Fails if the kernel dropped one."""
    errors = file.with_suffix(".err")
    expression = " or ".join(f"net {network}" for network in networks)
    command = ["tcpdump", "-i", "any", "-y", "LINUX_SLL2", "-n", "-U", "--immediate-mode", "-B", "32768", "-w", str(file), expression]
    with errors.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        wait_until(lambda: b"listening on" in errors.read_bytes())
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)
    assert "0 packets dropped by kernel" in errors.read_text()


def sent(file: Path) -> list[Sent]:
    """The recorded packets that this machine sent, in order."""
    with PcapReader(str(file)) as packets:
        return [_told(packet) for packet in packets if packet[CookedLinuxV2].pkttype == OUTGOING]


def _told(packet: Packet) -> Sent:
    at, interface = float(packet.time), int(packet[CookedLinuxV2].ifindex)
    for layer in (IP, IPv6):
        if layer in packet:
            kind, port = _kind(packet)
            return Sent(at, interface, kind, str(packet[layer].dst), port)
    return Sent(at, interface, "neighbour" if packet[CookedLinuxV2].proto == 0x0806 else "other", "", 0)


def _kind(packet: Packet) -> tuple[str, int]:
    for kind, layer in (("tcp", TCP), ("udp", UDP)):
        if layer in packet:
            return kind, int(packet[layer].dport)
    if IPv6 in packet and packet[IPv6].nh == 58:
        return ("neighbour" if bytes(packet[IPv6].payload)[0] in NEIGHBOUR_DISCOVERY else "icmp"), 0
    return ("icmp" if ICMP in packet else "other"), 0


class LinkCounter:
    """How many packets this machine has sent through an interface, and since when none."""

    def __init__(self, interface: str) -> None:
        self._file = Path("/sys/class/net") / interface / "statistics" / "tx_packets"
        self._last, self._since = self.count(), time.monotonic()

    def count(self) -> int:
        """Packets so far."""
        return int(self._file.read_text())

    def quiet_for(self) -> float:
        """Seconds since the counter last moved, as far as the calls of this method saw it."""
        if (now := self.count()) != self._last:
            self._last, self._since = now, time.monotonic()
        return time.monotonic() - self._since
