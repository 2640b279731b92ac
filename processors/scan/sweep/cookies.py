"""Sequence numbers that only a host which got our probe can acknowledge: SipHash-1-3 of (address, port, attempt) under a sweep's secret.

SipHash (Aumasson and Bernstein, SipHash: a fast short-input PRF, INDOCRYPT 2012) over whole columns at once; with one and three rounds,
as CPython hashes strings. No table of probes is kept: an answer is ours if what it acknowledges is what the hash says (as in zmap;
the idea is that of SYN cookies, RFC 4987, 3.6).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]


def siphash(secret: bytes, words: list[Words], compress: int = 1, finish: int = 3) -> Words:
    """SipHash of each row of these columns, which are the words of a message in order. `secret` has 16 bytes."""
    k0, k1 = np.frombuffer(secret, dtype="<u8")
    shape = words[0].shape
    v0 = np.full(shape, k0 ^ np.uint64(0x736F6D6570736575))
    v1 = np.full(shape, k1 ^ np.uint64(0x646F72616E646F6D))
    v2 = np.full(shape, k0 ^ np.uint64(0x6C7967656E657261))
    v3 = np.full(shape, k1 ^ np.uint64(0x7465646279746573))
    for word in [*words, np.full(shape, np.uint64(8 * len(words)) << np.uint64(56))]:
        v3 ^= word
        for _ in range(compress):
            _sip_round(v0, v1, v2, v3)
        v0 ^= word
    v2 ^= np.uint64(0xFF)
    for _ in range(finish):
        _sip_round(v0, v1, v2, v3)
    hashed: Words = v0 ^ v1 ^ v2 ^ v3
    return hashed


def cookies(secret: bytes, address: list[Words], ports: Words, attempts: Words | np.uint64) -> NDArray[np.uint32]:
    """The sequence numbers of probes: address as its 64-bit words (one of IPv4, two of IPv6), destination port, attempt from 1."""
    return (siphash(secret, [*address, ports | attempts << np.uint64(16)]) >> np.uint64(32)).astype(np.uint32)


def _sip_round(v0: Words, v1: Words, v2: Words, v3: Words) -> None:
    v0 += v1
    _rotate(v1, 13)
    v1 ^= v0
    _rotate(v0, 32)
    v2 += v3
    _rotate(v3, 16)
    v3 ^= v2
    v0 += v3
    _rotate(v3, 21)
    v3 ^= v0
    v2 += v1
    _rotate(v1, 17)
    v1 ^= v2
    _rotate(v2, 32)


def _rotate(values: Words, bits: int) -> None:
    high = values >> np.uint64(64 - bits)
    values <<= np.uint64(bits)
    values |= high
