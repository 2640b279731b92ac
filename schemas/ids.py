"""Keys, deterministic ids, and the partition of a key. Pure: equal content gives an equal id, on every machine, for ever."""

from __future__ import annotations

import hashlib
import ipaddress
import json
from typing import TYPE_CHECKING

import rfc8785

if TYPE_CHECKING:  # to build the findings' models takes 14 ms, which a sweep by hand would wait for
    from schemas.events.findings import Decision

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

SUBNET_BITS = {4: 24, 6: 64}
MOST_EXACT = 2**53 - 1
AS_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


def content_id(*parts: object) -> str:
    """32 hex digits that stand for these parts: the first half of SHA-256 over their RFC 8785 JSON."""
    plain = all(type(one) is str or (type(one) is int and -MOST_EXACT <= one <= MOST_EXACT) for one in parts)
    # Of texts and whole numbers json's own encoder, in C, makes the same (RFC 8785, 3.2.2): a test compares the two.
    form = AS_JSON(parts).encode() if plain else rfc8785.dumps(list(parts))  # type: ignore[arg-type]
    return hashlib.sha256(form).hexdigest()[:32]


def subnet_of(address: str) -> str:
    """The subnet that an address is kept with: its /24, or its /64 for IPv6 (RFC 5952 text)."""
    parsed = ipaddress.ip_address(address)
    return str(ipaddress.ip_network((parsed, SUBNET_BITS[parsed.version]), strict=False))


def subnet_key(zone: str, subnet: str) -> str:
    """The key of everything up to `changes`: `zone|198.18.0.0/24`."""
    return f"{zone}|{subnet}"


def asset_key(zone: str, address: str) -> str:
    """The key of an asset: `zone|198.18.0.7`."""
    return f"{zone}|{address}"


def finding_id(zone: str, rule: str, subject: str) -> str:
    """A finding is one rule's word on one subject in one zone."""
    return content_id("finding", zone, rule, subject)


def decision_key(decision: Decision) -> str:
    """The key of a decision's record, `finding id|slot`: what says another thing (a comment, an assignment, an edit) has a slot of its own.

    Accept, suppress, false positive, true positive and reopen share the slot `standing`: of them the last one counts.
    """
    from schemas.events.findings import DecisionKind

    apart = decision.kind in (DecisionKind.ASSIGN, DecisionKind.COMMENT, DecisionKind.EDIT)
    return f"{decision.finding_id}|{decision.kind.value if apart else 'standing'}"


def murmur2(data: bytes) -> int:
    """Kafka's own 32-bit murmur2 (org.apache.kafka.common.utils.Utils.murmur2), so that Java producers agree with us."""
    mask, m, length = 0xFFFFFFFF, 0x5BD1E995, len(data)
    h = 0x9747B28C ^ length
    whole = length & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = h * m & mask ^ k
    if length > whole:
        h = (h ^ int.from_bytes(data[whole:], "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


def partition_of(key: str, partitions: int) -> int:
    """The partition of a key, as Kafka's default partitioner for Java computes it."""
    return (murmur2(key.encode()) & 0x7FFFFFFF) % partitions
