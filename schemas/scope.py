"""The rules of scope: which packet some grant covers. Pure; planner, scanner and the code that builds packets all ask here.

Deny by default. A packet is covered when the grant that its unit names is trusted, not revoked, valid now, in a window, of the
zone, and holds the address and the port (or `icmp`, or `path`), and when no valid grant of the zone excludes the address.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from schemas.events.grants import Grant, Window
from schemas.ids import Address, Network
from schemas.portset import holds
from schemas.signing import TrustedSigner, distrust, not_grantable

Kind = Literal["tcp", "udp", "icmp", "path"]
MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
"""IPv4 addresses written as IPv6."""
TRANSLATED = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "2002::/16", "::/96", "::ffff:0:0:0/96")))
"""IPv6 that leads to IPv4: its address follows the prefix (NAT64, RFC 6052; 6to4, RFC 3056; RFC 4291, 2.5.5.1; SIIT, RFC 2765)."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What a packet is: TCP or UDP to a port, an ICMP echo, or a traceroute probe."""

    kind: Kind
    port: int = 0


@dataclass(frozen=True, slots=True)
class KnownGrant:
    """A trusted grant with its networks parsed once."""

    grant: Grant
    networks: tuple[Network, ...]
    exclusions: tuple[Network, ...]

    @property
    def gentleness(self) -> tuple[bool, int, int, str]:
        """Sorts the gentlest grant first: not intrusive, fewest packets a second."""
        intensity = self.grant.intensity
        return intensity.intrusive, intensity.packets_per_second, intensity.per_host_per_second, self.grant.grant_id

    def valid(self, now: datetime) -> bool:
        """Whether it counts at all now, windows apart."""
        return not self.grant.revoked and self.grant.valid_from <= now < self.grant.expires_at


@dataclass(slots=True)
class GrantBook:
    """The fold of the `grants` topic: the highest trusted revision of each grant. Lower revisions and tombstones change nothing.

    `floors` are the highest revisions ever seen (kept on a scanner's disk), below which nothing is believed even if the topic was emptied.
    `required` is how many signers a grant needs. A grant that lacks one changes nothing, and counts once its cosigned record comes.
    """

    signers: tuple[TrustedSigner, ...]
    floors: dict[str, int] = field(default_factory=dict)
    known: dict[str, KnownGrant] = field(default_factory=dict)
    required: int = 1

    def learn(self, grant: Grant) -> str | None:
        """Take in one record of `grants`. Returns the reason if it is not believed, None if it is or was already."""
        current = self.known.get(grant.grant_id)
        if current and _same_but_for_cosignatures(grant, current.grant) and len(grant.cosignatures) <= len(current.grant.cosignatures):
            return None
        if grant.revision < self.floors.get(grant.grant_id, 0) or (current and not _newer(grant, current.grant)):
            known = max(self.floors.get(grant.grant_id, 0), current.grant.revision if current else 0)
            fate = ", which revokes it" if current and current.grant.revoked else ""
            if current and grant.revision == known and grant != current.grant and not fate:
                return f"revision {known} is known with other content: it was altered, or needs a higher revision"
            return f"revision {grant.revision} is not newer than the one that is known: {known}{fate}"
        reason = distrust(grant, self.signers, self.required) or self._foreign(grant, current)
        if reason:
            return reason
        try:
            networks = networks_of(grant.networks) if grant.revoked else granted_networks(grant.networks)
            parsed = KnownGrant(grant, networks, barred_networks(grant.exclusions))
        except ValueError as error:
            return str(error)
        self.known[grant.grant_id] = parsed
        self.floors[grant.grant_id] = grant.revision
        return None

    def _foreign(self, grant: Grant, current: KnownGrant | None) -> str | None:
        """Why a signer may not replace or revoke the grant that is known by this id: he must be one who could have given it."""
        signer = next(one for one in self.signers if one.name == grant.signer)
        if current is None or not_grantable(current.grant.networks, signer) is None:
            return None
        return f"'{signer.name}' may not replace a grant of '{current.grant.signer}'"

    def of_zone(self, zone: str, now: datetime) -> list[KnownGrant]:
        """The valid grants of a zone, gentlest first."""
        return sorted((one for one in self.known.values() if zone in one.grant.zones and one.valid(now)), key=lambda one: one.gentleness)

    def zones_at(self, addresses: Iterable[Address], now: datetime) -> int:
        """How many zones may look at one of these addresses now, at most; 1 where none may."""
        valid = [one for one in self.known.values() if one.valid(now)]
        zones = {zone for one in valid for zone in one.grant.zones}
        of_zone = {zone: [one for one in valid if zone in one.grant.zones] for zone in zones}

        def reached(address: Address) -> int:
            return sum(any(contains(one.networks, address) for one in some) and not excluded(address, some) for some in of_zone.values())

        return max((reached(one) for one in addresses), default=1) or 1 if len(zones) > 1 else 1

    def refusal(self, zone: str, grant_id: str, address: str, ask: Ask, now: datetime) -> str | None:
        """Why this packet may not leave, or None if it may."""
        entry = self.known.get(grant_id)
        if entry is None:
            return f"no trusted grant has the id {grant_id}"
        problem = standing(entry, zone, now)
        if problem:
            return problem
        parsed = parsed_address(address)
        if isinstance(parsed, ipaddress.IPv6Address) and (parsed.ipv4_mapped or parsed.scope_id):
            return f"{address} is not an address in its own form"
        if excluded(parsed, (one for one in self.known.values() if zone in one.grant.zones and one.valid(now))):
            return f"{address} is excluded by a grant of the zone"
        return outside(entry, parsed, ask)


@functools.lru_cache(maxsize=65_536)
def parsed_address(text: str) -> Address:
    """An address from text, kept: the same hosts are asked about for each packet. Raises ValueError."""
    return ipaddress.ip_address(text)


def _newer(grant: Grant, known: Grant) -> bool:
    """Whether a record may take the place of what is known: a higher revision, or the same with more signatures."""
    return grant.revision > known.revision or _same_but_for_cosignatures(grant, known)


def _same_but_for_cosignatures(grant: Grant, other: Grant) -> bool:
    return grant.model_copy(update={"cosignatures": ()}) == other.model_copy(update={"cosignatures": ()})


def standing(entry: KnownGrant, zone: str, now: datetime) -> str | None:
    """Why a grant allows nothing in this zone now, or None if it stands."""
    grant = entry.grant
    if grant.revoked:
        return f"grant {grant.grant_id} was revoked"
    if zone not in grant.zones:
        return f"grant {grant.grant_id} is not for zone {zone}"
    if now < grant.valid_from:
        return f"grant {grant.grant_id} is not valid before {grant.valid_from.isoformat()}"
    if now >= grant.expires_at:
        return f"grant {grant.grant_id} expired at {grant.expires_at.isoformat()}"
    if not in_window(grant.windows, now):
        return f"grant {grant.grant_id} allows no probing at this hour"
    return None


def outside(entry: KnownGrant, address: Address, ask: Ask) -> str | None:
    """Why this grant does not cover the address and port, or None if it does."""
    grant = entry.grant
    if not contains(entry.networks, address):
        return f"{address} is in no network of grant {grant.grant_id}"
    if ask.kind == "icmp" and not grant.icmp:
        return f"grant {grant.grant_id} allows no ICMP"
    if ask.kind == "path" and not grant.path:
        return f"grant {grant.grant_id} allows no path probes"
    if ask.kind in ("tcp", "udp") and not holds(grant.tcp_ports if ask.kind == "tcp" else grant.udp_ports, ask.port):
        return f"{ask.kind}/{ask.port} is not among the ports of grant {grant.grant_id}"
    return None


def in_window(windows: Iterable[Window], now: datetime) -> bool:
    """Whether `now` (UTC) is in one of the weekly windows; without windows it always is."""
    spans = tuple(windows)
    minute = now.hour * 60 + now.minute
    return not spans or any(now.weekday() in span.weekdays and span.from_minute <= minute < span.to_minute for span in spans)


def excluded(address: Address, grants: Iterable[KnownGrant]) -> bool:
    """Whether any of these valid grants excludes the address."""
    return any(contains(one.exclusions, address) for one in grants)


def contains(networks: Iterable[Network], address: Address) -> bool:
    """Whether one of the networks holds the address."""
    return any(address.version == one.version and address in one for one in networks)


def granted_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """A grant's networks from text. Raises ValueError for what is none, and for IPv4 in IPv6's clothes, to which nothing is ever sent."""
    found = networks_of(texts)
    for one in found:
        if one.version == 6 and one.subnet_of(MAPPED):
            raise ValueError(f"'{one}' is IPv4 in IPv6's clothes: write it as {barred(one)[0]}.")
    return found


def barred_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """All that an exclusion holds for, from text. Raises ValueError for what is not a network."""
    return tuple(dict.fromkeys(each for one in networks_of(texts) for other in barred(one) for each in translated(other)))


@functools.lru_cache(maxsize=8192)
def translated(network: Network) -> tuple[Network, ...]:
    """The network, and of an IPv4 one the IPv6 ones too by which a translator leads to it: not to be touched means in no way."""
    if network.version == 6:
        return (network,)
    low = int(network.network_address)
    spots = ((int(one.network_address) | low << 96 - one.prefixlen, one.prefixlen + network.prefixlen) for one in TRANSLATED)
    return network, *map(ipaddress.IPv6Network, spots)


def barred(network: Network) -> tuple[Network, ...]:
    """What a "keep out" written as this network holds for. Who writes IPv4 as IPv6 (RFC 4291, 2.5.5.2) means the IPv4 addresses.

    A wider network holds for all of IPv4 too if it takes those in. Only ::/0 does not: it is how all of IPv6 is written.
    """
    if network.version == 6 and network.subnet_of(MAPPED):
        low = int(network.network_address) & 0xFFFFFFFF
        return (ipaddress.IPv4Network((low, network.prefixlen - MAPPED.prefixlen)),)
    if network.version == 6 and network.prefixlen and MAPPED.subnet_of(network):
        return network, ipaddress.IPv4Network("0.0.0.0/0")
    return (network,)


def networks_of(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks from text. Raises ValueError with a sentence for what is not one."""
    found = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text, strict=True))
        except ValueError:
            raise ValueError(f"'{text}' is not a network such as 198.18.0.0/24 or 2001:db8::/64.") from None
    return tuple(found)
