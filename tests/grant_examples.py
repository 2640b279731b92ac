"""Signed grants for tests, by a key that exists only there."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.events.base import PortRange
from schemas.events.grants import Grant, Intensity, Window
from schemas.portset import parse_ports
from schemas.scope import GrantBook
from schemas.signing import TrustedSigner, sign

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = base64.b64encode(KEY.public_key().public_bytes_raw()).decode()
SIGNER = TrustedSigner("tester", PUBLIC, ("198.18.0.0/15", "2001:db8::/32"))
NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)  # a Wednesday
NIGHTS = Window(weekdays=(0, 1, 2, 3, 4, 5, 6), from_minute=0, to_minute=300)
ALL_PORTS = (PortRange(first=1, last=65535),)


def grant(
    grant_id: str = "lab",
    networks: tuple[str, ...] = ("198.18.0.0/16",),
    *,
    exclusions: tuple[str, ...] = (),
    ports: str = "1-65535",
    packets: int = 1000,
    revision: int = 1,
    revoked: bool = False,
    zones: tuple[str, ...] = ("default",),
    windows: tuple[Window, ...] = (),
    expires_at: datetime = NOW + timedelta(days=1),
    key: Ed25519PrivateKey = KEY,
) -> Grant:
    """A grant that is valid at NOW unless the arguments say otherwise."""
    made = Grant(
        grant_id=grant_id,
        revision=revision,
        zones=zones,
        networks=networks,
        exclusions=exclusions,
        tcp_ports=parse_ports(ports),
        intensity=Intensity(packets_per_second=packets, per_host_per_second=min(40, packets)),
        windows=windows,
        valid_from=NOW - timedelta(days=1),
        expires_at=expires_at,
        revoked=revoked,
        issued_by="someone",
        signer="tester",
    )
    return sign(made, key)


def book(*grants: Grant) -> GrantBook:
    """A book that has learnt these grants."""
    found = GrantBook((SIGNER,))
    for one in grants:
        assert found.learn(one) is None
    return found
