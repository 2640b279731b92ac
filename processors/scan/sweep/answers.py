"""What TCP answers say, column by column: whose they are, which of our probes they answer, and whether the port is open.

An answer is ours only if the number that it acknowledges is the cookie of the probe that it claims to answer, plus one (RFC 9293, 3.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from processors.scan.scope.mask import Addresses, Flags, Ports
from processors.scan.sweep.cookies import cookies
from processors.scan.sweep.frames import words_of

Rows = NDArray[np.uint8]
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
IHL_5 = 0x45


@dataclass(frozen=True, slots=True)
class Answers:
    """Who answered, on which port, at which attempt (from 1), and whether with SYN/ACK (else with RST).

    `strays`: who sent a SYN/ACK that answers no probe, once for each; the kernel resets those too.
    """

    addresses: Addresses
    ports: Ports
    attempts: NDArray[np.uint64]
    opened: Flags
    strays: Addresses


def answers_of(rows: Rows, version: int, secret: bytes, first_port: int) -> Answers:
    """The answers among rows of network and TCP headers (40 or 60 bytes) that are to probes of ours."""
    if version == 4:
        rows = rows[rows[:, 0] == IHL_5]
        addresses: Addresses = _number(rows, 12, ">u4").astype(np.uint32)
        tcp = 20
    else:
        addresses = np.frombuffer(np.ascontiguousarray(rows[:, 8:24]).tobytes(), dtype="S16")
        tcp = 40
    ports = _number(rows, tcp, ">u2").astype(np.uint16)
    attempts = _number(rows, tcp + 2, ">u2").astype(np.uint64) - np.uint64(first_port - 1)
    probe = (_number(rows, tcp + 8, ">u4").astype(np.uint32)) - np.uint32(1)
    flags = rows[:, tcp + 13]
    opened = (flags & (SYN | ACK | RST)) == (SYN | ACK)
    fits = probe == cookies(secret, words_of(addresses), ports.astype(np.uint64), attempts)
    ours = (opened | ((flags & RST) != 0)) & fits
    return Answers(addresses[ours], ports[ours], attempts[ours], opened[ours], addresses[opened & ~fits])


def _number(rows: Rows, offset: int, kind: str) -> NDArray[np.generic]:
    """A column of numbers in network order."""
    width = np.dtype(kind).itemsize
    return np.frombuffer(np.ascontiguousarray(rows[:, offset : offset + width]).tobytes(), dtype=kind)
