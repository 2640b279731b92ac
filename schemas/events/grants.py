"""Authorisation: what may be probed, where, when, how hard, and by whose word. The rules over it are in `schemas.scope`."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from schemas.events.base import Event, PortRange, Timestamp


class Intensity(Event):
    """How hard a grant lets us probe. Lower is gentler."""

    packets_per_second: int = Field(ge=1, le=100_000_000)
    per_host_per_second: int = Field(ge=1, le=100_000_000)
    intrusive: bool = False


class Window(Event):
    """A weekly span in UTC in which probing is allowed, e.g. weekdays 0–4 (Monday is 0), minutes 1320–1440 of the day."""

    weekdays: tuple[int, ...]
    from_minute: int = Field(ge=0, le=1440)
    to_minute: int = Field(ge=0, le=1440)


class Signature(Event):
    """A further signer's word for a grant: Ed25519 over the same bytes as the first signature, base64."""

    signer: str
    signature: str


class Grant(Event):
    """A signed authorisation. `signature` is Ed25519 over the RFC 8785 JSON of all fields but the two of signatures, base64.

    `cosignatures` are those of further signers, where the settings of planner and scanner demand two. They are added to the same revision.
    """

    grant_id: str = Field(min_length=1, max_length=128)
    revision: int = Field(ge=1)
    zones: tuple[str, ...]
    networks: tuple[str, ...]
    exclusions: tuple[str, ...] = ()
    tcp_ports: tuple[PortRange, ...] = ()
    udp_ports: tuple[PortRange, ...] = ()
    icmp: bool = False
    path: bool = False
    intensity: Intensity
    windows: tuple[Window, ...] = ()
    valid_from: Timestamp
    expires_at: Timestamp
    revoked: bool = False
    reason: str = ""
    issued_by: str
    signer: str
    signature: str = ""
    cosignatures: tuple[Signature, ...] = Field((), max_length=8)


class CommandKind(StrEnum):
    """What an agent is told: to finish and take no more work, to take work again, to send nothing to networks, to lift that."""

    DRAIN = "drain"
    RESUME = "resume"
    FREEZE = "freeze"
    THAW = "thaw"


class Command(Event):
    """An order to one agent, or to all (`*`). A freeze stands until a thaw of the same network, or of all (no networks)."""

    agent_id: str
    kind: CommandKind
    networks: tuple[str, ...] = ()
    issued_by: str
    issued_at: Timestamp
