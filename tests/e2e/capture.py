"""Records what leaves this machine for some networks, whatever the interface, and reads it back packet by packet."""

from __future__ import annotations

import signal
import socket
import struct
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

TO_US, OUTGOING = 0, 4  # packet types in LINKTYPE_LINUX_SLL2
PCAP_HEADER = 24
NEIGHBOUR_DISCOVERY = range(133, 138)  # ICMPv6 types, RFC 4861


@dataclass(frozen=True, slots=True)
class Sent:
    """A packet on the wire. `kind` is tcp, udp, icmp, neighbour (ARP and ND) or other; `port` is the destination's."""

    at: float
    interface: int
    kind: str
    to: str
    port: int
    source: str = ""


@contextmanager
def capturing(file: Path, networks: Sequence[str], namespace: str = "") -> Iterator[None]:
    """Record every packet from or to these networks on all interfaces, there or here. Fails if the kernel dropped one."""
    errors = file.with_suffix(".err")
    expression = " or ".join(f"net {network}" for network in networks)
    place = ["ip", "netns", "exec", namespace] if namespace else []
    command = [
        *place,
        "tcpdump",
        "-i",
        "any",
        "-y",
        "LINUX_SLL2",
        "-n",
        "-U",
        "--immediate-mode",
        "-s",
        "256",  # whole frames of 256 KB would leave room for a hundred
        "-B",
        "32768",
        "-w",
        str(file),
        expression,
    ]
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


class Arrivals:
    """The TCP packets over IPv4 that came to where they are recorded. Reads on as the file grows, a hundred times faster than scapy."""

    def __init__(self, file: Path) -> None:
        self._file, self._read = file, PCAP_HEADER
        self._found: list[Sent] = []

    def so_far(self) -> list[Sent]:
        """All of them up to now, in order."""
        with self._file.open("rb") as tape:
            tape.seek(self._read)
            data = tape.read()
        at = 0
        while at + 16 <= len(data):
            seconds, micros, length, _ = struct.unpack_from("=4I", data, at)
            if at + 16 + length > len(data):
                break
            self._take(seconds + micros / 1e6, data[at + 16 : at + 16 + length])
            at += 16 + length
        self._read += at
        return self._found

    def _take(self, at: float, frame: bytes) -> None:
        """A frame of LINKTYPE_LINUX_SLL2: protocol, 2 bytes unused, interface, its type, kind of packet, address; 20 bytes in all."""
        protocol, interface, kind = struct.unpack_from("!H2xI2xB", frame)
        if protocol == 0x0800 and kind == TO_US and frame[29] == socket.IPPROTO_TCP:
            size = (frame[20] & 15) * 4
            (port,) = struct.unpack_from("!H", frame, 20 + size + 2)
            self._found.append(Sent(at, interface, "tcp", socket.inet_ntoa(frame[36:40]), port, socket.inet_ntoa(frame[32:36])))


def _told(packet: Packet) -> Sent:
    at, interface = float(packet.time), int(packet[CookedLinuxV2].ifindex)
    for layer in (IP, IPv6):
        if layer in packet:
            kind, port = _kind(packet)
            return Sent(at, interface, kind, str(packet[layer].dst), port, str(packet[layer].src))
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
