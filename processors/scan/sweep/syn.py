"""The SYN sweep: half-open probes over raw sockets, built and filtered with scapy's raw layer. IPv4 and IPv6; needs CAP_NET_RAW.

Answers are matched without a table: the sequence number is a keyed hash of (address, port, attempt), so only a host that got the
probe can acknowledge it, and the source port tells the attempt. The kernel, which knows nothing of these probes, resets what
answers with SYN/ACK by itself. One listening socket a sweep sees all interfaces of the namespace through a BPF filter.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import secrets
import socket
import struct
from dataclasses import dataclass, field
from typing import Any

from infra.core.settings import ScannerSettings
from processors.scan.meter import Meter
from processors.scan.scope.gate import OutOfScope
from processors.scan.sweep.ledger import Key, Ledger, PortState
from processors.scan.sweep.routes import source_of
from processors.scan.workers import share_out
from schemas.scope import Ask

FIRST_SOURCE_PORT = 61_000  # above Linux's default ephemeral range, so that no socket of the kernel has it
BLOCK = 8
SENDERS = 8
SO_ATTACH_FILTER = 26
ETH_P_ALL = 3
DLT_RAW = 12
RST, SYN_ACK = 0x04, 0x12
UNSENT_UNREACHABLE = {errno.ENETUNREACH, errno.EHOSTUNREACH}


@dataclass(slots=True)
class Heard:
    """What makes a probe ours: the secret of the cookies, our source ports and addresses; and who answered with SYN/ACK."""

    ledger: Ledger
    first_port: int
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    sources: dict[str, str] = field(default_factory=dict)
    owed: list[Key] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def cookie(self, key: Key, attempt: int) -> int:
        """The sequence number of the probe to a port at an attempt."""
        text = f"{key[0]}|{key[1]}|{attempt}".encode()
        return int.from_bytes(hashlib.blake2b(text, key=self.secret, digest_size=4).digest(), "big")

    def note(self, key: Key, our_port: int, sequence: int, state: PortState) -> None:
        """Take an answer if it is to a probe of ours, whatever it claims."""
        attempt = our_port - self.first_port + 1
        if not 1 <= attempt <= BLOCK or key[0] not in self.sources or sequence != self.cookie(key, attempt):
            return
        if state is PortState.ANSWERED and self.ledger.states.get(key) is not PortState.ANSWERED:
            self.owed.append(key)
        self.ledger.note(key, state, min(attempt, len(self.ledger.answers_by_attempt)))
        self.news.set()


async def sweep_syn(ledger: Ledger, meter: Meter, settings: ScannerSettings) -> None:
    """Probe every open key of the ledger. Raises Halted (the ledger then holds what was finished) and OSError without the privilege."""
    heard = Heard(ledger, FIRST_SOURCE_PORT + BLOCK * secrets.randbelow(500))
    version = 6 if ":" in ledger.addresses[0] else 4
    loop = asyncio.get_running_loop()
    with listening_socket(heard.first_port, version) as ears, sending_socket(version) as mouth:
        loop.add_reader(ears, lambda: listen(ears, heard, version))
        try:
            pending = list(ledger.open_keys())
            for attempt in range(1, settings.attempts + 1):
                sent = await send_round(pending, attempt, heard, meter, mouth)
                await wait_for_answers(sent, heard, settings.connect_timeout)
                for key in heard.owed:
                    await meter.settle(key[0], Ask("tcp", key[1]), 1)
                heard.owed.clear()
                pending = [key for key in sent if key not in ledger.states]
        finally:
            loop.remove_reader(ears)
    ledger.silence(pending)


async def send_round(pending: list[Key], attempt: int, heard: Heard, meter: Meter, mouth: socket.socket) -> list[Key]:
    """Send one SYN to each pending port that the gate admits; returns those that left."""
    sent: list[Key] = []

    async def send(key: Key) -> None:
        if key in heard.ledger.states:
            return
        try:
            source = heard.sources.get(key[0]) or source_of(key[0])
            heard.sources[key[0]] = source
            packet = syn(source, key, heard.first_port + attempt - 1, heard.cookie(key, attempt))
            await meter.admit(key[0], Ask("tcp", key[1]))
            await asyncio.get_running_loop().sock_sendto(mouth, packet, (key[0], 0))
            sent.append(key)
            await asyncio.sleep(0)  # neither admission nor sending need wait, and answers must be read meanwhile
        except OutOfScope as refusal:
            heard.ledger.refuse(key, refusal.reason)
        except OSError as error:
            if error.errno in UNSENT_UNREACHABLE:
                heard.ledger.note(key, PortState.UNREACHABLE)
            else:
                heard.ledger.refuse(key, f"nothing was sent: {error.strerror}")

    await share_out(pending, send, min(SENDERS, len(pending)))
    return sent


async def wait_for_answers(sent: list[Key], heard: Heard, seconds: float) -> None:
    """Wait until every probe of the round is answered, or the last one's time is over."""
    try:
        async with asyncio.timeout(seconds):
            for key in sent:
                while key not in heard.ledger.states:
                    heard.news.clear()
                    await heard.news.wait()
    except TimeoutError:
        return


def syn(source: str, key: Key, our_port: int, sequence: int) -> bytes:
    """The bytes of a SYN, from the IP header on."""
    from scapy.layers.inet import IP, TCP
    from scapy.layers.inet6 import IPv6

    network = IPv6(src=source, dst=key[0]) if ":" in key[0] else IP(src=source, dst=key[0])
    return bytes(network / TCP(sport=our_port, dport=key[1], flags="S", seq=sequence, window=1024, options=[("MSS", 1460)]))


def sending_socket(version: int) -> socket.socket:
    """A raw socket whose packets bring their IP header; the kernel routes them and finds the neighbour."""
    sock = socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    sock.setblocking(False)
    return sock


def listening_socket(first_port: int, version: int) -> socket.socket:
    """A packet socket on all interfaces, from the IP header on, filtered to TCP answers to our ports and ICMP unreachables."""
    from scapy.arch.common import compile_filter
    from scapy.libs.structures import sock_fprog

    family, icmp = ("ip6", "icmp6 and ip6[40] = 1") if version == 6 else ("ip", "icmp[0] = 3")
    program = compile_filter(f"({family} and tcp and dst portrange {first_port}-{first_port + BLOCK - 1}) or ({icmp})", linktype=DLT_RAW)
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    attached: Any = sock_fprog(program.bf_len, program.bf_insns)
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, attached)
    return sock


def listen(ears: socket.socket, heard: Heard, version: int) -> None:
    """Read what has arrived, a bounded number of packets a call."""
    for _ in range(256):
        try:
            data = ears.recv(2048)
        except OSError:
            return
        answer = read_tcp(data, version) or read_unreachable(data, version, heard.sources)
        if answer:
            heard.note(*answer)


Answer = tuple[Key, int, int, PortState]


def read_tcp(data: bytes, version: int) -> Answer | None:
    """(Address and port that answered, our port, sequence number it acknowledges, state) of a TCP answer (RFC 9293, 3.1), or None."""
    protocol, source, _, start = ip_header(data, version)
    if protocol != socket.IPPROTO_TCP or len(data) < start + 20:
        return None
    port, our_port, _, acknowledged, _, flags = struct.unpack_from("!HHIIBB", data, start)
    state = PortState.ANSWERED if flags & SYN_ACK == SYN_ACK else PortState.CLOSED if flags & RST else None
    return ((source, port), our_port, (acknowledged - 1) & 0xFFFFFFFF, state) if state else None


def read_unreachable(data: bytes, version: int, sources: dict[str, str]) -> Answer | None:
    """The same of an ICMP unreachable (RFC 792, RFC 4443 3.1), which quotes at least 8 bytes of our TCP header; or None."""
    protocol, sender, _, start = ip_header(data, version)
    if protocol not in (socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6) or len(data) < start + 8:
        return None
    quoted, _, target, inner = ip_header(data[start + 8 :], version)
    inner += start + 8
    if quoted != socket.IPPROTO_TCP or len(data) < inner + 8 or sender == sources.get(target):
        return None  # a message of our own kernel says that a neighbour is silent to ARP or ND, not that a router knows no way
    our_port, port, sequence = struct.unpack_from("!HHI", data, inner)
    port_unreachable = data[start + 1] == (4 if version == 6 else 3)
    return (target, port), our_port, sequence, PortState.CLOSED if port_unreachable else PortState.UNREACHABLE


def ip_header(data: bytes, version: int) -> tuple[int, str, str, int]:
    """(Protocol, source, destination, where the payload starts) of an IP packet; protocol -1 if it is none. No extension headers."""
    size = 40 if version == 6 else 20
    if len(data) < size or data[0] >> 4 != version:
        return -1, "", "", 0
    if version == 6:
        return data[6], socket.inet_ntop(socket.AF_INET6, data[8:24]), socket.inet_ntop(socket.AF_INET6, data[24:40]), size
    return data[9], socket.inet_ntoa(data[12:16]), socket.inet_ntoa(data[16:20]), (data[0] & 15) * 4
