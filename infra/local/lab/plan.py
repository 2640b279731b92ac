"""What the lab consists of: hosts, addresses, services, certificates. Pure: nothing here starts or reads anything.

Addresses are RFC 2544's benchmark range (198.18.0.0/15) and RFC 3849's documentation range (2001:db8::/32), which no one routes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

Kind = Literal["http", "https", "ssh", "redis", "memcached", "ftp", "mqtt", "telnet"]


@dataclass(frozen=True, slots=True)
class Host:
    """A machine of the lab. `number` is the last part of its addresses, 2 to 14."""

    name: str
    number: int
    ipv6: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    """One daemon that listens on one TCP port, at every address of its host; `certificate` names a CertificateSpec."""

    host: str
    kind: Kind
    port: int
    certificate: str | None = None

    @property
    def name(self) -> str:
        """Names the daemon's folder and its messages."""
        return f"{self.host}-{self.kind}-{self.port}"


@dataclass(frozen=True, slots=True)
class CertificateSpec:
    """A certificate to make: days are counted from now, and one that is older than `keep_days` is made anew."""

    name: str
    common_name: str
    from_days: int
    to_days: int
    keep_days: int
    self_signed: bool = True


CERTIFICATES = {
    spec.name: spec
    for spec in (
        CertificateSpec("fine", "www.lab.example", -1, 365, keep_days=60, self_signed=False),
        CertificateSpec("expired", "legacy.lab.example", -430, -65, keep_days=3650),
        CertificateSpec("expiring", "www.lab.example", -1, 6, keep_days=2),
    )
}

HOSTS = (
    Host("web", 2, ipv6=True),
    Host("legacy", 3),
    Host("bastion", 4, ipv6=True),
    Host("cache", 5),
    Host("files", 6),
    Host("broker", 7),
    Host("silent", 8),
)

BEFORE = (
    Service("web", "http", 80),
    Service("web", "https", 443, "fine"),
    Service("legacy", "http", 8080),
    Service("legacy", "https", 443, "expired"),
    Service("bastion", "ssh", 22),
    Service("cache", "redis", 6379),
    Service("cache", "memcached", 11211),
    Service("files", "ftp", 21),
    Service("broker", "mqtt", 1883),
)


def after(services: tuple[Service, ...]) -> tuple[Service, ...]:
    """The lab after `Lab.change()`: memcached closed, a Redis without a password opened, the web host's certificate swapped."""
    kept = (replace(one, certificate="expiring") if one.certificate == "fine" else one for one in services if one.kind != "memcached")
    return (*kept, Service("files", "redis", 6379))


@dataclass(frozen=True, slots=True)
class Plan:
    """Names and addresses of one lab. Labs whose `number` (0 to 255) differs share nothing and may run at once.

    This machine ── link 198.19.n.0/30 ── router ── bridge 198.18.n.0/24 ── hosts; the same with 2001:db8:19:n and 2001:db8:18:n.
    """

    prefix: str = "dl-"
    number: int = 1
    hosts: tuple[Host, ...] = field(default=HOSTS)

    def __post_init__(self) -> None:
        if not 0 <= self.number <= 255 or not 1 <= len(self.interface) <= 15:
            raise ValueError(f"a lab's number is 0 to 255 and its interface name at most 15 characters, not {self.interface!r}")

    @property
    def interface(self) -> str:
        """The lab's end of the link on this machine; the only name that is visible outside the lab."""
        return f"{self.prefix}{self.number}"

    @property
    def network4(self) -> str:
        """The hosts' IPv4 network."""
        return f"198.18.{self.number}.0/24"

    @property
    def network6(self) -> str:
        """The hosts' IPv6 network."""
        return f"2001:db8:18:{self.number:x}::/64"

    def link4(self, end: int) -> str:
        """Address of an end of the link: 1 is this machine, 2 the router."""
        return f"198.19.{self.number}.{end}"

    def link6(self, end: int) -> str:
        """The same in IPv6."""
        return f"2001:db8:19:{self.number:x}::{end}"

    def address4(self, number: int) -> str:
        """IPv4 address of the host with this number; 1 is the router."""
        return f"198.18.{self.number}.{number}"

    def address6(self, number: int) -> str:
        """IPv6 address of the host with this number."""
        return f"2001:db8:18:{self.number:x}::{number:x}"

    def addresses(self, host: str) -> tuple[str, ...]:
        """All addresses of a host, IPv4 first."""
        found = next(one for one in self.hosts if one.name == host)
        four = self.address4(found.number)
        return (four, self.address6(found.number)) if found.ipv6 else (four,)
