"""What was seen of a service, as it is matched: products with versions, the distribution that built them, the operating system. Pure."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass

from processors.match.generic import SPACED
from processors.match.packages import Package, distribution_of, version_with
from processors.match.products import cpe_parts, is_distribution, package_key, packages_of, product_key
from schemas.events.observations import ServiceObservation

MENDERS = re.compile(r"debian|raspbian|ubuntu|red ?hat|centos|rocky|alma|suse|amazon|fedora|freebsd|netbsd|\bel\d|mariadb", re.IGNORECASE)
"""Who builds packages of versions and mends them in place."""
SYSTEMS = {"windows": "windows", "linux": "linux", "macos": "macos", "mac os": "macos", "freebsd": "freebsd", "darwin": "macos"}
WHOLE = {"apache:httpserver": 3}
"""How many numbers a version has, of products that may show the branch alone: httpd does with `ServerTokens Major` (2) or `Minor` (2.4)."""
FAMILIES = frozenset(SYSTEMS.values())
MOST_TEXT = 1024  # characters of a banner that are looked at


@dataclass(frozen=True, slots=True)
class Seen:
    """Products (key, version, '' unknown) of one service; who built them, in its own word, and the package; operating systems."""

    products: tuple[tuple[str, str], ...] = ()
    builder: str = ""
    package: Package | None = None
    systems: frozenset[str] = frozenset()

    @property
    def keys(self) -> tuple[str, ...]:
        """What the CVE records of interest stand under: the products, by any vendor too, and the distribution's package."""
        own = [key for key, _ in self.products]
        anyone = [f"*:{key.partition(':')[2]}" for key in own]
        distribution = self.package.distribution if self.package else distribution_of(self.builder)
        named = [package_key(distribution, name) for key in own for name in packages_of(key)] if distribution else []
        return tuple(dict.fromkeys((*own, *anyone, *named)))


Terms = tuple[tuple[str, ...], str, str, str, str]
"""What `seen` is given: CPE names, version, builder, revision, and text that may name the operating system."""


def terms_of(service: ServiceObservation) -> Terms:
    """What of an observed service counts: services with equal terms have equal verdicts."""
    facts = service.facts
    builder, revision = facts.get("package.distribution", ""), facts.get("package.revision", "")
    words = service.version.split()
    if not builder and len(words) == 3 and distribution_of(words[1]):
        builder, revision = words[1], words[2]  # as nmap writes it: 9.2p1 Debian 2+deb12u3
    builder = builder or builder_in(f"{service.version} {service.extra} {service.banner}")
    return service.cpes, service.version, builder, revision, " ".join(sorted(systems_in(f"{service.extra} {' '.join(service.cpes)}")))


def seen_in(service: ServiceObservation) -> Seen:
    """What an observed service shows."""
    return seen(*terms_of(service))


@functools.lru_cache(maxsize=1 << 13)
def seen(cpes: tuple[str, ...], version: str = "", builder: str = "", revision: str = "", systems: str = "") -> Seen:
    """CPE names with what a banner says besides; `version` stands in for a product whose CPE name has none."""
    found: dict[str, str] = {}
    for name in cpes:
        parts = cpe_parts(name)
        key = product_key(parts[1], parts[2]) if parts else ""
        if parts and key and not is_distribution(key):
            own = parts[3] or (upstream(version) if parts[0] == "a" else "")
            found[key] = (own if whole(key, own) else "") or found.get(key, "")
    if "mariadb" in builder.lower() and "oracle:mysql" in found:
        del found["oracle:mysql"]  # MariaDB calls itself MySQL 5.5.5 for old clients
    distribution = distribution_of(builder)
    first = next(((key, text) for key, text in found.items() if text), None)
    package = None
    if distribution and revision and first:
        names = tuple(dict.fromkeys(name for key in found for name in packages_of(key)))
        package = Package(distribution, names, version_with(first[1], revision))
    return Seen(tuple(sorted(found.items())), builder, package, systems_in(systems, distribution))


def builder_in(text: str) -> str:
    """Who built the package, where a text names one who mends versions in place; '' otherwise."""
    found = MENDERS.search(text[:MOST_TEXT])
    return found[0] if found else ""


def whole(key: str, version: str) -> bool:
    """Whether it is a version, and not the branch that a product shows in its place: of that nobody can say which ranges hold it."""
    return len([one for one in version.split(".") if one]) >= WHOLE.get(key, 0)


def upstream(version: str) -> str:
    """The maker's version out of what a banner says: `9.2p1` of `9.2p1 Debian 2+deb12u3`, but all of `8.0 U3`; '' of `3.X - 4.X`."""
    words = version.split()
    if " - " in version or (words and words[0].lower().endswith(".x")):
        return ""
    if len(words) < 2 or words[1].rstrip("0123456789").lower() in SPACED:
        return " ".join(words[:3])
    return words[0]


def systems_in(text: str, distribution: str = "") -> frozenset[str]:
    """The operating systems that a text names."""
    low = text[:MOST_TEXT].lower()
    return frozenset([name for word, name in SYSTEMS.items() if word in low] + (["linux"] if distribution else []))


def limits(platforms: Iterable[str], product: str = "") -> frozenset[str]:
    """The systems that a statement is limited to, by name, or in its own words; empty where it holds on all that matter.

    NVD names the hardware of a firmware: who sees the firmware need not ask what it runs on.
    """
    bare = product.lower().endswith("firmware")
    words = [one.strip() for one in platforms if not (bare and one.startswith(("cpe:2.3:h:", "cpe:/h:")))]
    low = [one.lower() for one in words]
    if not words or any(
        one in ("", "unknown", "all", "any", "n/a") or one.startswith(("x64", "x86", "32-bit", "64 bit", "64-bit")) for one in low
    ):
        return frozenset()
    named = frozenset(name for one in low for word, name in SYSTEMS.items() if word in one)
    if {"windows", "linux"} <= named:
        return frozenset()
    return named or frozenset(words)
