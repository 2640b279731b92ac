"""Where frames go on the link: the hardware address of a gateway as the kernel knows it, and those of neighbours, asked for by us.

Asking neighbours is discovery as well: who is silent to ARP (RFC 826) or neighbour solicitation (RFC 4861) can't get a probe. The
frames are written as arrays and only to addresses that the grant covers; they are counted apart from probes.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from processors.scan.scope.mask import Addresses, Flags, ScopeMask
from processors.scan.sweep import filters
from processors.scan.sweep.frames import Frames, checksums, put
from processors.scan.sweep.routes import REQUEST, Route, family_of, messages, netlink, talk
from processors.scan.sweep.transmit import PacketSender, bind_to

RTM_GETLINK, RTM_NEWNEIGH, RTM_GETNEIGH = 18, 28, 30
ACK_CREATE: Final = 0x405
ETHERNET: Final = 1
USE: Final = 1
VALID: Final = 0xDE  # REACHABLE, STALE, DELAY, PROBE, NOARP, PERMANENT of linux/neighbour.h
ETH_P_ARP, ETH_P_IP, ETH_P_IPV6 = 0x0806, 0x0800, 0x86DD
ATTEMPTS, WAIT, GATEWAY_WAIT = 3, 0.3, 1.0
MOST_ATTEMPTS: Final = 8
AT_ONCE: Final = 256
ARP_REPLY, SOLICITATION = 2, 135
Pace = Callable[[int], Awaitable[int]]
"""Waits until a frame may leave; how many, up to a number, may leave at once. Raises Halted."""


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface that takes Ethernet frames, and its own hardware address."""

    number: int
    mac: bytes


def interface_of(number: int) -> Interface | None:
    """The interface of this number; None if it takes no Ethernet frames (loopback, tunnels). Raises OSError."""
    message = messages("ifinfmsg").ifinfmsg
    question = message()
    question["index"] = number
    with netlink() as sock:
        for data in talk(sock, question, RTM_GETLINK, REQUEST):
            told = message(data)
            told.decode()
            if told["ifi_type"] == ETHERNET and (text := told.get_attr("IFLA_ADDRESS")):
                return Interface(number, bytes.fromhex(text.replace(":", "")))
    return None


async def gateway_mac(route: Route) -> bytes | None:
    """The hardware address of the route's gateway, which the kernel is made to ask for if it does not know it; None if it can't."""
    if route.gateway is None:
        return None
    deadline = asyncio.get_running_loop().time() + GATEWAY_WAIT
    while (mac := _known(route.interface, route.gateway)) is None and asyncio.get_running_loop().time() < deadline:
        try:
            _neighbour(route.interface, route.gateway, RTM_NEWNEIGH, REQUEST | ACK_CREATE, USE)
        except OSError:
            return None  # without CAP_NET_ADMIN
        await asyncio.sleep(0.01)
    return mac


def _known(interface: int, address: str) -> bytes | None:
    try:
        told = _neighbour(interface, address, RTM_GETNEIGH, REQUEST, 0)
    except OSError:
        return None
    text = told.get_attr("NDA_LLADDR") if told is not None and told["state"] & VALID else None
    return bytes.fromhex(text.replace(":", "")) if text else None


def _neighbour(interface: int, address: str, kind: int, flags: int, use: int) -> Any:
    message = messages("ndmsg").ndmsg
    question = message()
    question["family"], question["ifindex"], question["flags"] = family_of(address), interface, use
    question["attrs"] = [("NDA_DST", address)]
    with netlink() as sock:
        for data in talk(sock, question, kind, flags):
            told = message(data)
            told.decode()
            return told
    return None


async def neighbour_macs(
    interface: Interface, source: str, addresses: Addresses, scope: Callable[[], ScopeMask], pace: Pace
) -> tuple[Frames, Flags]:
    """The hardware addresses of neighbours, 6 bytes a row, and who told his. Raises Halted (by `pace`) and OSError.

    Who does not tell is asked again until an attempt finds nobody new: who is not found here gets no SYN, and is in no estimate of recall.
    """
    version = 4 if addresses.dtype.kind == "u" else 6
    write = arp_requests if version == 4 else solicitations
    macs, known = np.zeros((len(addresses), 6), dtype=np.uint8), np.zeros(len(addresses), dtype=bool)
    sorting = np.argsort(addresses)
    with closing(PacketSender(interface.number)) as sender, _ears(interface.number, version) as ears:

        def hear() -> None:
            for address, mac in _heard(ears, version):
                place = int(np.searchsorted(addresses, address, sorter=sorting))
                if place < len(addresses) and addresses[sorting[place]] == address:
                    macs[sorting[place]], known[sorting[place]] = np.frombuffer(mac, dtype=np.uint8), True

        for attempt in range(1, MOST_ATTEMPTS + 1):
            before = int(np.count_nonzero(known))
            for start in range(0, len(addresses), AT_ONCE):
                places = start + np.flatnonzero(~known[start : start + AT_ONCE])
                while len(places):
                    count = await pace(len(places))
                    sender.send(write(interface.mac, source, addresses[places[:count]], scope()), addresses[places[:count]], _go_on)
                    places = places[count:]
                    hear()
            for _ in range(30):
                if known.all():
                    return macs, known
                await asyncio.sleep(WAIT / 30)
                hear()
            if attempt >= ATTEMPTS and np.count_nonzero(known) == before:
                break
    return macs, known


def _go_on() -> None:
    """Nothing to check between two frames to neighbours: `pace` does it before each batch."""


def arp_requests(mac: bytes, source: str, addresses: Addresses, scope: ScopeMask) -> Frames:
    """Requests for the hardware addresses of those of these IPv4 addresses that the scope covers (RFC 826)."""
    head = b"\xff" * 6 + mac + struct.pack("!HHHBBH", ETH_P_ARP, ETHERNET, ETH_P_IP, 6, 4, 1)
    row = head + mac + socket.inet_aton(source) + bytes(10)
    addresses = addresses[scope.covers(addresses)]
    frames = np.tile(np.frombuffer(row, dtype=np.uint8), (len(addresses), 1))
    put(frames, len(row) - 4, addresses.astype(">u4"))
    return frames


def solicitations(mac: bytes, source: str, addresses: Addresses, scope: ScopeMask) -> Frames:
    """The same for IPv6: neighbour solicitations to the group of each address (RFC 4861, 4.3; RFC 2464, 7)."""
    own = socket.inet_pton(socket.AF_INET6, source)
    group = bytes.fromhex("ff0200000000000000000001ff000000")
    icmp = struct.pack("!BBHI", SOLICITATION, 0, 0, 0) + bytes(16) + b"\x01\x01" + mac
    row = b"\x33\x33\xff" + bytes(3) + mac + struct.pack("!HIHBB", ETH_P_IPV6, 6 << 28, len(icmp), filters.ICMP6, 255) + own + group + icmp
    addresses = addresses[scope.covers(addresses)]
    frames = np.tile(np.frombuffer(row, dtype=np.uint8), (len(addresses), 1))
    targets = np.frombuffer(addresses.tobytes(), dtype=np.uint8).reshape(-1, 16)
    frames[:, 3:6] = frames[:, 14 + 37 : 14 + 40] = targets[:, 13:]
    frames[:, 62:78] = targets
    put(frames, 56, checksums(frames[:, 22:], filters.ICMP6, len(icmp)))
    return frames


def _ears(interface: int, version: int) -> socket.socket:
    """Hears what neighbours say of themselves on one interface."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    sock.setblocking(False)
    if version == 6:
        filters.attach(sock, filters.advertisements(2048))
    bind_to(sock, interface, ETH_P_ARP if version == 4 else ETH_P_IPV6)
    return sock


def _heard(ears: socket.socket, version: int) -> list[tuple[Any, bytes]]:
    """Addresses as a column has them, with their hardware addresses."""
    found: list[tuple[Any, bytes]] = []
    while True:
        try:
            data = ears.recv(2048)
        except BlockingIOError:
            return found
        if version == 4 and len(data) >= 28 and data[7] == ARP_REPLY:
            found.append((np.uint32(int.from_bytes(data[14:18], "big")), data[8:14]))
        elif version == 6 and len(data) >= 72 and data[64] == 2:  # the option of the target's own hardware address
            found.append((np.bytes_(data[48:64]), data[66:72]))


def ethernet_header(interface: Interface, destination: bytes, version: int) -> bytes:
    """The 14 bytes before an IP packet."""
    return destination + interface.mac + struct.pack("!H", ETH_P_IPV6 if version == 6 else ETH_P_IP)
