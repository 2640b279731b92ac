"""What rules look up in tables rather than decide: our own, and what a user's file puts over them (`own_rules.py`)."""

from __future__ import annotations

import fnmatch
import ipaddress
from dataclasses import dataclass

MANAGEMENT_WORDS = ("mgmt", "management", "admin", "bastion", "jump")


@dataclass(frozen=True, slots=True)
class EndOfLife:
    """Product (in the words of the service's banner) whose versions below `below` get no more fixes, since when, and who says so."""

    product: str
    below: str
    since: str
    source: str


# Only what no supported distribution still maintains, so that the rule stays silent on mended old versions. Dates lie before the release.
ENDED = (
    EndOfLife("Apache httpd", "2.4", "2017-12-31", "httpd.apache.org"),
    EndOfLife("Apache Tomcat", "9.0", "2024-03-31", "tomcat.apache.org"),
    EndOfLife("Microsoft IIS httpd", "10.0", "2023-10-10", "learn.microsoft.com/lifecycle"),
    EndOfLife("MySQL", "8.0", "2023-10-25", "mysql.com/support/eol-notice"),
    EndOfLife("MongoDB", "5.0", "2024-02-29", "mongodb.com/legal/support-policy"),
    EndOfLife("PostgreSQL DB", "12", "2023-11-09", "postgresql.org/support/versioning"),
    EndOfLife("Elasticsearch REST API", "7.0", "2022-02-10", "elastic.co/support/eol"),
    EndOfLife("OpenSSH", "7.4", "2016-12-19", "openssh.com/releasenotes"),
    EndOfLife("Redis key-value store", "6.0", "2022-04-27", "redis.io/docs/about/releases"),
    EndOfLife("nginx", "1.14", "2018-04-17", "nginx.org/en/CHANGES"),
)


@dataclass(frozen=True, slots=True)
class Expected:
    """Services that should be in a network as a zone sees it: `tcp/443`; the only word `none`: no service should be."""

    zone: str
    network: str
    services: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tables:
    """All of them. `management_zones`: patterns of the zones from which administrators work; empty: by the zone's name."""

    ended: tuple[EndOfLife, ...] = ENDED
    expected: tuple[Expected, ...] = ()
    management_zones: tuple[str, ...] = ()

    def manages(self, zone: str) -> bool:
        """Whether administrators work from this zone."""
        name = zone.lower()
        if self.management_zones:
            return any(fnmatch.fnmatchcase(name, pattern.lower()) for pattern in self.management_zones)
        return any(word in name for word in MANAGEMENT_WORDS)

    def expected_at(self, zone: str, address: str) -> Expected | None:
        """What is expected at an address: of the longest network that holds it."""
        here = ipaddress.ip_address(address)
        networks = [(ipaddress.ip_network(one.network), one) for one in self.expected if one.zone == zone]
        holding = [(network.prefixlen, one) for network, one in networks if network.version == here.version and here in network]
        return max(holding, key=lambda one: one[0])[1] if holding else None
