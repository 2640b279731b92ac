"""What the kernel knows of the way to an address, asked through rtnetlink(7) with pyroute2's messages, never by running a program.

The kernel is asked each time, since namespaces and routes come and go.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from processors.scan.scope.mask import Addresses, column_of

RTM_GETROUTE, RTM_GETRULE = 26, 34
REQUEST, DUMP = 1, 0x301
NLMSG_ERROR, NLMSG_DONE = 2, 3
UNICAST, LOCAL = 1, 2  # kinds of routes; to a broadcast or multicast address no probe goes
FEW: Final = 16  # so many are asked for one by one; for more, the table is read first
MOST_ROUTES: Final = 5000  # … unless it is so long that asking one by one is quicker
HEADER = struct.Struct("=IHHII")
BUFFER = 1 << 18


@dataclass(frozen=True, slots=True)
class Route:
    """The way to an address: the source address that the kernel would use, the number of the interface, the next hop if there is one.

    `local`: the address is this machine's own.
    """

    source: str
    interface: int
    gateway: str | None = None
    local: bool = False

    @property
    def on_link(self) -> bool:
        """Whether the address is a neighbour: then silence is silence to ARP or ND."""
        return self.gateway is None and not self.local


def family_of(address: str) -> socket.AddressFamily:
    """AF_INET or AF_INET6."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def route_to(address: str) -> Route:
    """The way to one address. Raises OSError (ENETUNREACH and its like) where the kernel knows none."""
    with netlink() as sock:
        return _ask(sock, address)


def on_link(address: str) -> bool:
    """Whether the address is a neighbour: then "host unreachable" is our own kernel's word for its silence to ARP or ND."""
    try:
        return route_to(address).on_link
    except OSError:
        return False


def is_own(address: str) -> bool:
    """Whether the address is this machine's own."""
    try:
        return route_to(address).local
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Group:
    """Addresses, by their places in a column, that go the same way, or none."""

    route: Route | None
    places: NDArray[np.int64]


def routes_of(addresses: Addresses) -> list[Group]:
    """The ways to all addresses of a column. Of many, one is asked for between any two bounds of the routes and rules that there are."""
    version = 4 if addresses.dtype.kind == "u" else 6
    found: dict[Route | None, list[NDArray[np.int64]]] = {}
    with netlink() as sock:
        bounds = _bounds(sock, version) if len(addresses) > FEW else None
        segments = np.arange(len(addresses)) if bounds is None else np.searchsorted(bounds, addresses, side="right")
        order = np.argsort(segments, kind="stable")
        starts = np.flatnonzero(np.diff(segments[order], prepend=-1))
        for places in np.split(order, starts[1:]) if len(order) else ():
            way: Route | None = None
            with suppress(OSError):
                way = _ask(sock, text_of(addresses[places[0]]))
            found.setdefault(way, []).append(places)
    return [Group(way, np.sort(np.concatenate(parts))) for way, parts in found.items()]


def text_of(item: Any) -> str:
    """An address of a column as text."""
    if isinstance(item, bytes):
        return socket.inet_ntop(socket.AF_INET6, item.ljust(16, b"\0"))
    return socket.inet_ntoa(int(item).to_bytes(4, "big"))


@contextmanager
def netlink() -> Iterator[socket.socket]:
    """A socket to ask the kernel with."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        sock.bind((0, 0))
        sock.settimeout(5.0)
        yield sock


def messages(module: str) -> Any:
    """A module of pyroute2's messages. Its package imports all else that it has (half a second), so that is stepped around."""
    if "pyroute2" not in sys.modules and (spec := PathFinder.find_spec("pyroute2")) is not None:
        bare = sys.modules["pyroute2"] = ModuleType("pyroute2")
        bare.__path__ = list(spec.submodule_search_locations or ())
        bare.__spec__ = spec
    import importlib

    return importlib.import_module(f"pyroute2.netlink.rtnl.{module}")


def talk(sock: socket.socket, message: Any, kind: int, flags: int) -> Iterator[bytes]:
    """Send a message and yield what comes back, each with its header. Raises OSError for what the kernel refuses."""
    message["header"] = {"type": kind, "flags": flags, "sequence_number": 1}
    message.encode()
    sock.send(message.data)
    while True:
        data = sock.recv(BUFFER)
        while len(data) >= HEADER.size:
            length, kind, *_ = HEADER.unpack_from(data)
            if kind == NLMSG_DONE:
                return
            if kind == NLMSG_ERROR:
                number = -struct.unpack_from("=i", data, HEADER.size)[0]
                if number:
                    raise OSError(number, os.strerror(number))
                return
            yield data[:length]
            data = data[length + 3 & ~3 :]
        if not flags & DUMP & ~REQUEST:
            return


def _ask(sock: socket.socket, address: str) -> Route:
    rtmsg = messages("rtmsg").rtmsg
    question = rtmsg()
    question["family"], question["dst_len"] = family_of(address), 128 if ":" in address else 32
    question["attrs"] = [("RTA_DST", address)]
    for data in talk(sock, question, RTM_GETROUTE, REQUEST):
        told = rtmsg(data)
        told.decode()
        if told["type"] in (UNICAST, LOCAL) and (source := told.get_attr("RTA_PREFSRC")):
            return Route(source, told.get_attr("RTA_OIF"), told.get_attr("RTA_GATEWAY"), told["type"] == LOCAL)
    raise OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))


def _bounds(sock: socket.socket, version: int) -> Addresses | None:
    """Where, in the order of addresses, another route or rule may begin to count: the first of each, and the one after its last."""
    numbers: set[int] = set()
    for module, name, kind, attribute in (("rtmsg", "rtmsg", RTM_GETROUTE, "RTA_DST"), ("fibmsg", "fibmsg", RTM_GETRULE, "FRA_DST")):
        template = getattr(messages(module), name)
        question = template()
        question["family"] = socket.AF_INET6 if version == 6 else socket.AF_INET
        for data in talk(sock, question, kind, DUMP):
            told = template(data)
            told.decode()
            if target := told.get_attr(attribute):
                first = int(ipaddress.ip_address(target))
                numbers |= {first, first + (1 << (128 if version == 6 else 32) - told["dst_len"])}
            if len(numbers) > MOST_ROUTES:
                return None
    most = 1 << (128 if version == 6 else 32)
    return column_of(sorted(number for number in numbers if number < most), version)
