"""The TCP connect sweep: needs no privilege, asks the kernel to connect and notes how that went.

An attempt is exactly one SYN: it is given up before the kernel would repeat it (after 1 s, RFC 6298), since no gate would see that packet.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

from infra.core.settings import ScannerSettings
from processors.scan.meter import Meter
from processors.scan.open_files import raised_open_files, socket_bound
from processors.scan.scope.gate import OutOfScope
from processors.scan.sweep.attempts import Attempts, Ended
from processors.scan.sweep.ledger import Key, Ledger, PortState
from processors.scan.sweep.routes import family_of, on_link
from processors.scan.workers import share_out
from schemas.scope import Ask

ONE_SYN_SECONDS = 0.95
ASKING = 256  # probes that wait for their budgets at once: a slow host keeps no other waiting
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
UNREACHABLE = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN, errno.ENOPROTOOPT, errno.EPROTO}


class LocalTrouble(Exception):
    """Nothing was sent: no free socket, a local firewall, no source port."""


async def sweep_connect(ledger: Ledger, meter: Meter, settings: ScannerSettings) -> None:
    """Probe every open key of the ledger. Raises Halted; the ledger then holds what was finished."""
    seconds = min(settings.connect_timeout, ONE_SYN_SECONDS)
    most = socket_bound(raised_open_files(), settings.parallel_units)
    pending: list[Key] = list(ledger.open_keys())
    for attempt in range(1, settings.attempts + 1):
        pending = await _attempt(pending, attempt, ledger, meter, seconds, most)
    ledger.silence(pending)


async def _attempt(keys: list[Key], attempt: int, ledger: Ledger, meter: Meter, seconds: float, most: int) -> list[Key]:
    """One SYN to each key; returns those that stayed silent. What an answer makes the kernel send is booked as it comes."""
    silent: list[Key] = []

    def note(ended: Ended) -> None:
        try:
            state = state_after(ended)
        except LocalTrouble as trouble:
            ledger.refuse(ended.key, str(trouble))
            return
        if state is PortState.SILENT:
            silent.append(ended.key)
            return
        ledger.note(ended.key, state, attempt)
        if state is PortState.ANSWERED:
            meter.owe_at(ended.key[0], Ask("tcp", ended.key[1]), 2)  # its acknowledgement, and the reset

    async def probe(key: Key) -> None:
        await attempts.room()
        try:
            await meter.admit(key[0], Ask("tcp", key[1]))
            sock = open_socket(key)
        except (OutOfScope, LocalTrouble) as trouble:
            attempts.leave()
            ledger.refuse(key, str(trouble))
            return
        attempts.begin(key, sock)

    async with Attempts(seconds, most, note) as attempts:
        await share_out(keys, probe, min(ASKING, most, len(keys)))
        await attempts.all_ended()
    return silent


async def connect(key: Key, seconds: float) -> PortState:
    """One SYN to one port, and what came of it. Raises LocalTrouble."""
    ended: list[Ended] = []
    async with Attempts(seconds, 1, ended.append) as attempts:
        await attempts.room()
        attempts.begin(key, open_socket(key))
        await attempts.all_ended()
    return state_after(ended[0])


def open_socket(key: Key) -> socket.socket:
    """A socket for one attempt. It resets when it is closed, so that none lingers on either side. Raises LocalTrouble."""
    try:
        sock = socket.socket(family_of(key[0]), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        raise LocalTrouble(f"no socket: {error.strerror}") from None
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    return sock


def state_after(ended: Ended) -> PortState:
    """What an attempt says of its port. Raises LocalTrouble."""
    if ended.error:
        return state_of(OSError(ended.error, os.strerror(ended.error)), ended.key[0])
    if ended.late:
        return PortState.SILENT
    # On loopback the kernel may pick the port itself as the source and connect the socket to itself.
    return PortState.CLOSED if ended.to_itself else PortState.ANSWERED


def state_of(error: OSError, address: str) -> PortState:
    """What a failed connect says of the port (RFC 1122, 4.2.3.9: ICMP port unreachable is as good as a RST). Raises LocalTrouble."""
    if isinstance(error, TimeoutError) or (error.errno == errno.EHOSTUNREACH and on_link(address)):
        return PortState.SILENT
    if isinstance(error, ConnectionRefusedError | ConnectionResetError):
        return PortState.CLOSED
    if error.errno in UNREACHABLE:
        return PortState.UNREACHABLE
    raise LocalTrouble(f"nothing was sent: {error.strerror}") from None
