"""The TCP connect sweep: needs no privilege, asks the kernel to connect and notes how that went.

An attempt is exactly one SYN: it is given up before the kernel would repeat it (after 1 s, RFC 6298), since no gate would see that packet.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
import struct

from infra.core.settings import ScannerSettings
from processors.scan.meter import Meter
from processors.scan.scope.gate import OutOfScope
from processors.scan.sweep.ledger import Key, Ledger, PortState
from processors.scan.sweep.routes import family_of, on_link
from processors.scan.workers import share_out
from schemas.scope import Ask

ONE_SYN_SECONDS = 0.95
MOST_SOCKETS = 256
SPARE_FILES = 256
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
UNREACHABLE = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN, errno.ENOPROTOOPT, errno.EPROTO}


class LocalTrouble(Exception):
    """Nothing was sent: no free socket, a local firewall, no source port."""


async def sweep_connect(ledger: Ledger, meter: Meter, settings: ScannerSettings) -> None:
    """Probe every open key of the ledger. Raises Halted; the ledger then holds what was finished."""
    seconds = min(settings.connect_timeout, ONE_SYN_SECONDS)
    workers = socket_bound(resource.getrlimit(resource.RLIMIT_NOFILE)[0], settings.parallel_units)
    pending: list[Key] = list(ledger.open_keys())
    for attempt in range(1, settings.attempts + 1):
        waiting: list[Key] = []

        async def probe(key: Key, attempt: int = attempt, waiting: list[Key] = waiting) -> None:
            ask = Ask("tcp", key[1])
            try:
                await meter.admit(key[0], ask)
                state = await connect(key, seconds)
            except (OutOfScope, LocalTrouble) as trouble:
                ledger.refuse(key, str(trouble))
                return
            if state is PortState.SILENT:
                waiting.append(key)
                return
            ledger.note(key, state, attempt)
            if state is PortState.ANSWERED:
                await meter.settle(key[0], ask, 2)

        await share_out(pending, probe, min(workers, len(pending)))
        pending = waiting
    ledger.silence(pending)


def socket_bound(open_files: int, parallel_units: int) -> int:
    """How many sockets one unit may have open, so that all units together stay within the process's open files."""
    return max(8, min(MOST_SOCKETS, (open_files - SPARE_FILES) // parallel_units))


async def connect(key: Key, seconds: float) -> PortState:
    """One SYN to a port. The connection is reset at once, so that no socket lingers on either side. Raises LocalTrouble."""
    try:
        sock = socket.socket(family_of(key[0]), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        raise LocalTrouble(f"no socket: {error.strerror}") from None
    with sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        try:
            async with asyncio.timeout(seconds):
                await asyncio.get_running_loop().sock_connect(sock, key)
            # On loopback the kernel may pick the port itself as the source and connect the socket to itself.
            return PortState.CLOSED if sock.getsockname()[:2] == sock.getpeername()[:2] else PortState.ANSWERED
        except TimeoutError:
            # An ICMP error that came while the kernel held the socket is kept as a soft error, which only this call shows.
            soft = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            return state_of(OSError(soft, os.strerror(soft)), key[0]) if soft else PortState.SILENT
        except OSError as error:
            return state_of(error, key[0])


def state_of(error: OSError, address: str) -> PortState:
    """What a failed connect says of the port (RFC 1122, 4.2.3.9: ICMP port unreachable is as good as a RST). Raises LocalTrouble."""
    if isinstance(error, TimeoutError) or (error.errno == errno.EHOSTUNREACH and on_link(address)):
        return PortState.SILENT
    if isinstance(error, ConnectionRefusedError | ConnectionResetError):
        return PortState.CLOSED
    if error.errno in UNREACHABLE:
        return PortState.UNREACHABLE
    raise LocalTrouble(f"nothing was sent: {error.strerror}") from None
