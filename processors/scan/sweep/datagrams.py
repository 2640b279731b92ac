"""A UDP socket that also tells what ICMP said of the datagrams that left it: IP_RECVERR (ip(7), ipv6(7)). Needs no privilege."""

from __future__ import annotations

import errno
import select
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from processors.scan.sweep.ledger import PortState
from processors.scan.sweep.routes import is_own

IP_RECVERR: Final = 11
IPV6_RECVERR: Final = 25
FROM_ICMP: Final = {2: 4, 3: 6}
BUFFER: Final = 4 << 20
MOST_A_CALL: Final = 512
FULL_WAIT_MS: Final = 10
PENDING: Final = 4  # the kernel tells an old datagram's error by refusing a new one; so many may be told one after the other
NO_WAY: Final = {errno.ENETUNREACH, errno.EHOSTUNREACH}


@dataclass(frozen=True, slots=True)
class Complaint:
    """What an ICMP message says of a port that was probed (RFC 792; RFC 4443, 3.1)."""

    address: str
    port: int
    state: PortState


class Datagrams:
    """One source port, chosen by the kernel, towards any host. Raises OSError where there are no sockets."""

    def __init__(self, version: int) -> None:
        self._socket = socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            self._socket.setsockopt(socket.SOL_SOCKET, option, BUFFER)
        self._socket.setsockopt(*((socket.IPPROTO_IPV6, IPV6_RECVERR, 1) if version == 6 else (socket.IPPROTO_IP, IP_RECVERR, 1)))
        self._socket.bind(("", 0))

    def fileno(self) -> int:
        """For who waits for answers."""
        return self._socket.fileno()

    def send(self, data: bytes, address: str, port: int) -> PortState | None:
        """Send one datagram. Returns UNREACHABLE if this machine knows no way, None if it left. Raises OSError for any other refusal."""
        for attempt in range(PENDING):
            try:
                self._socket.sendto(data, (address, port))
            except BlockingIOError:
                select.select([], [self._socket], [], FULL_WAIT_MS / 1000)
            except OSError as error:
                if attempt < PENDING - 1:
                    continue
                if error.errno in NO_WAY:
                    return PortState.UNREACHABLE
                raise
            else:
                return None
        raise BlockingIOError(errno.EAGAIN, "the way out stays full")

    def answers(self) -> Iterator[tuple[bytes, str, int]]:
        """What has come, a bounded number: the data, and whose it is."""
        for _ in range(MOST_A_CALL):
            try:
                data, sender = self._socket.recvfrom(2048)
            except BlockingIOError:
                return
            except OSError:
                continue  # an error of a datagram of ours: `complaints` tells it
            yield data, sender[0].partition("%")[0], sender[1]

    def complaints(self) -> Iterator[Complaint]:
        """What ICMP said since, a bounded number."""
        for _ in range(MOST_A_CALL):
            try:
                _, attached, _, target = self._socket.recvmsg(64, 512, socket.MSG_ERRQUEUE)
            except OSError:
                return
            state = next((found for one in attached if (found := state_of(one[2], target[0]))), None)
            if state is not None:
                yield Complaint(target[0].partition("%")[0], target[1], state)

    def close(self) -> None:
        """Give the port back. What comes later is refused by the kernel."""
        self._socket.close()


def state_of(error: bytes, target: str) -> PortState | None:
    """What a `struct sock_extended_err` with its offender says of the target's port, or None if nothing.

    Closed is only what the host itself says: a router or firewall that says "port unreachable" hides the port. What our own kernel says
    means that a neighbour does not answer ARP or ND, which is silence.
    """
    if len(error) < 16:
        return None
    _, origin, kind, code = struct.unpack_from("=IBBB", error)
    version = FROM_ICMP.get(origin)
    offender = offender_of(error[16:])
    if version is None or offender is None or (version, kind) not in ((4, 3), (6, 1)):
        return None
    if code == (3 if version == 4 else 4) and offender == target.partition("%")[0]:
        return PortState.CLOSED
    return None if is_own(offender) else PortState.UNREACHABLE


def offender_of(address: bytes) -> str | None:
    """Who sent the ICMP message: a sockaddr_in or sockaddr_in6."""
    if len(address) < 16:
        return None
    (family,) = struct.unpack_from("=H", address)
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, address[4:8])
    return socket.inet_ntop(socket.AF_INET6, address[8:24]) if family == socket.AF_INET6 and len(address) >= 24 else None
