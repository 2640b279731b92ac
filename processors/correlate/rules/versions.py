"""Versions that are too old. A banner's version is a hint, not a proof: distributions mend old versions in place."""

from __future__ import annotations

import re
from dataclasses import dataclass

from processors.correlate.contract import Judgement, Rule, ServiceFacts
from schemas.events.intel import IntelRecord
from schemas.events.observations import ServiceObservation
from schemas.products import product_key

VERSION = re.compile(r"v?(\d+(?:\.\d+)*)([a-z]?)(?:p(\d+))?(?:[\s+~-].*)?", re.IGNORECASE)
# Distributions that mend old versions in place; MariaDB calls itself MySQL 5.5.5 for old clients.
BACKPORTED = re.compile(r"debian|ubuntu|red ?hat|centos|rocky|alma|suse|amazon|\bel\d|mariadb", re.IGNORECASE)
Version = tuple[tuple[int, ...], str, int]


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


def version_of(text: str) -> Version | None:
    """A version as something that compares: `9.2p1 Debian 2` is ((9, 2), '', 1). None where the text is no single version (`3.X - 4.X`)."""
    found = VERSION.fullmatch(text.strip())
    if found is None or " - " in text:
        return None
    numbers = [int(part[:9]) for part in found[1].split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers), found[2].lower(), int((found[3] or "0")[:9])


def older(left: str, right: str) -> bool | None:
    """Whether one version is older than another; None if one of them can't be read."""
    first, second = version_of(left), version_of(right)
    return None if first is None or second is None else first < second


def products_of(service: ServiceObservation) -> dict[str, str]:
    """Product keys that a service's CPE names give, with their versions ('' where unknown). CPE 2.2 URIs and 2.3 strings (NISTIR 7695)."""
    found: dict[str, str] = {}
    for cpe in service.cpes:
        parts = cpe.removeprefix("cpe:2.3:").removeprefix("cpe:/").split(":")
        if len(parts) >= 3 and parts[1] and parts[2]:
            version = parts[3] if len(parts) > 3 and parts[3] not in ("*", "-") else ""
            key = product_key(parts[1], parts[2])
            found[key] = version or found.get(key, "") or (service.version if parts[0] == "a" else "")
    return found


def affects(record: IntelRecord, service: ServiceObservation) -> bool:
    """Whether a service shows an affected product in an affected version. What can't be compared does not count."""
    products = products_of(service)
    for one in record.affected:
        version = products.get(product_key(one.vendor, one.product), "")
        for span in one.versions:
            if not version or not span.less_than or not older(version, span.less_than):
                continue
            if not span.version or older(version, span.version) is False:
                return True
    return False


def backported(service: ServiceObservation) -> bool:
    """Whether the version says little, because the banner names a distribution that mends old versions in place."""
    return bool(BACKPORTED.search(f"{service.version} {service.extra} {service.banner}"))


def end_of_life(facts: ServiceFacts) -> Judgement | None:
    """The version gets no more fixes."""
    service = facts.service
    if backported(service):
        return None
    for one in ENDED:
        if service.product == one.product and older(service.version, one.below):
            return Judgement(
                "Software that gets no more security fixes",
                f"{one.product} below {one.below} has had no fixes since {one.since}: flaws found since then stay open.",
                "Upgrade to a supported version, or take the service down.",
                base=60,
                floor=35,
                ceiling=85,
                saw=f"{facts.label}; {one.source}",
            )
    return None


def known_exploited(facts: ServiceFacts) -> Judgement | None:
    """The version is affected by what attackers are known to use."""
    if not facts.exploited:
        return None
    mended = backported(facts.service)
    cves = tuple(sorted(record.cve for record in facts.exploited))
    return Judgement(
        "A vulnerability that attackers use",
        "The version is affected by a vulnerability that is known to be exploited."
        + (" The distribution may have mended it without changing the version: check the package." if mended else ""),
        "Update now: CISA demands it of federal agencies by the date in its catalogue.",
        base=60 if mended else 88,
        floor=30 if mended else 65,
        ceiling=100,
        saw=f"{facts.label}; {', '.join(cves[:5])}{' and more' if len(cves) > 5 else ''}",
        cves=cves,
    )


RULES = (
    Rule(
        "known-exploited",
        "CISA BOD 22-01 and the Known Exploited Vulnerabilities catalogue",
        "The table `intel` knows an exploited vulnerability whose affected product and version range hold what the CPE name says; "
        "weighs less where the banner names a distribution that mends old versions in place.",
        known_exploited,
    ),
    Rule(
        "end-of-life",
        "CWE-1104; CIS Controls v8, 2.2",
        "The version is below the last one that still gets security fixes (a small table in the module).",
        end_of_life,
    ),
)
