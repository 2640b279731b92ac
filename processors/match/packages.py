"""Distributions mend old versions in place: the package's own revision says whether a fix is in it. Pure.

`9.2p1` with Debian's revision `2+deb12u3` is compared with what Debian says of `openssh`, for the same release of Debian only: another
release's fixed version says nothing, since each has its own upstream version. A banner has no epoch, so epochs are left out.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace

from processors.match.products import package_key, vendor_key
from processors.match.ranges import Range, Stated
from schemas.events.intel import AffectedProduct, VersionStatus

NAMES = {
    "debian": "debian",
    "raspbian": "debian",
    "ubuntu": "ubuntu",
    "canonical": "ubuntu",
    "redhat": "redhat",
    "redhatenterpriselinux": "redhat",
    "rhel": "redhat",
    "centos": "redhat",
    "rockylinux": "redhat",
    "almalinux": "redhat",
    "suse": "suse",
    "opensuse": "suse",
    "fedora": "fedora",
    "fedoraproject": "fedora",
    "amazon": "amazon",
}
"""Distributions by the names of banners and of records; those that rebuild another's packages count as that one."""
HOSTS = {
    "debian.org": "debian",
    "ubuntu.com": "ubuntu",
    "launchpad.net": "ubuntu",
    "redhat.com": "redhat",
    "suse.com": "suse",
    "fedoraproject.org": "fedora",
}
"""Where distributions' package collections are (`collectionURL`)."""
TAGS = re.compile(r"deb(\d{1,3})|el(\d{1,3})|(\d{2}\.\d{2})(?:\.|$)|(1[25]0[0-9]00)\.|fc(\d{2,3})|amzn(\d{1,4})")
"""Releases as revisions name them: Debian's deb12, Red Hat's el9, Ubuntu's 22.04, SUSE's 150500, Fedora's fc40, Amazon's amzn2023."""
MINOR = re.compile(r"el\d{1,3}_(\d{1,3})")
KEPT_LONGER = ("update", "support", "eus", "e4s", "tus", "aus")
"""Words of products that are a minor release kept alive longer, whose fixed versions count for that minor release alone."""
DIGITS = re.compile(r"(\d{1,3})(?:\.(\d{1,3}))?(?!\d)")
MOST = 100


@dataclass(frozen=True, slots=True)
class Package:
    """A distribution's package as a banner names it: `debian`, what it may be called, version and revision without an epoch."""

    distribution: str
    names: tuple[str, ...]
    version: str

    @property
    def command(self) -> str:
        """What shows the package's version on the host."""
        return f"dpkg -l '{self.names[0]}*'" if self.distribution in ("debian", "ubuntu") else f"rpm -qa '{self.names[0]}*'"


def distribution_of(name: str) -> str:
    """The distribution that a word means; '' for none that is known."""
    return NAMES.get(vendor_key(name), "") if name else ""


def version_with(upstream: str, revision: str) -> str:
    """Version and revision as one; Red Hat's revisions in BIND's banners hold the version already."""
    bare = upstream.partition("-")[0]
    return revision if revision.startswith(f"{bare}-") else f"{bare}-{revision}"


def packaged(product: AffectedProduct) -> str:
    """The key of the distribution's package that a statement is about; '' where it is about a product."""
    distribution = hosted_by(product.collection.partition("://")[2].partition("/")[0]) or distribution_of(product.vendor)
    if not distribution or not (product.package or any(one.scheme.lower() in ("rpm", "deb", "dpkg") for one in product.versions)):
        return ""
    return package_key(distribution, (product.package or product.product).rpartition("/")[2])


@functools.lru_cache(maxsize=1024)
def hosted_by(host: str) -> str:
    """The distribution whose package collection is at a host; '' for none."""
    return next((name for end, name in HOSTS.items() if host == end or host.endswith(f".{end}")), "")


def may_be(version: str, said: Stated) -> bool:
    """Whether a package of this upstream version, whose revision is not known, may be one that a statement is about."""
    return any(_upstream(_bare(bound)) == version for one in said.ranges for bound in (one.start, one.end) if bound)


def release_of(version: str) -> str:
    """The release that a package's version names; '' for none."""
    found = TAGS.search(version[:MOST])
    return found[0].rstrip(".") if found else ""


def status_for(package: Package, product: AffectedProduct, said: Stated) -> tuple[VersionStatus, str] | None:
    """What a distribution's statement says of a package, and of what range; None where it is about another release."""
    scheme = "deb" if package.distribution in ("debian", "ubuntu") else "rpm"
    ranges = [replace(one, scheme=scheme, start=_bare(one.start), end=_bare(one.end)) for one in said.ranges]
    bounds = [bound for one in ranges for bound in (one.start, one.end) if bound]
    if not _same_minor(package.version, product.product, bounds):
        return None
    mine = release_of(package.version)
    same = _names_release(product, mine) if not bounds else any(release_of(bound) == mine != "" for bound in bounds)
    alike = any(_upstream(bound) == _upstream(package.version) and "" in (mine, release_of(bound)) for bound in bounds)
    if not (same or alike) or said.unread:
        return None
    status, why = _status(ranges, said.default, package.version)
    if status is VersionStatus.AFFECTED and not same and mine:
        return None  # the fix of another release; this one's may have another number
    return None if status is VersionStatus.UNKNOWN else (status, why)


def _status(ranges: list[Range], default: VersionStatus, version: str) -> tuple[VersionStatus, str]:
    for one in ranges:
        held = one.holds(version)
        if held is None:
            return VersionStatus.UNKNOWN, ""
        if held:
            return one.status_of(version) or VersionStatus.UNKNOWN, f"{version} is in {one}"
    shown = " and ".join(map(str, ranges[:2]))
    return default, f"{version} is not in {shown}" if shown else "it says so of all its versions"


def _same_minor(version: str, product: str, bounds: list[str]) -> bool:
    if not any(word in product.lower() for word in KEPT_LONGER):
        return True
    mine, theirs = MINOR.search(version[:MOST]), {found[1] for bound in bounds if (found := MINOR.search(bound[:MOST]))}
    return mine is not None and mine[1] in theirs


def _names_release(product: AffectedProduct, release: str) -> bool:
    """Whether the statement's product is this release: `Red Hat Enterprise Linux 9` and el9."""
    if not release or not product.product:
        return False
    found = DIGITS.search(product.product)
    return found is not None and release in (f"el{found[1]}", f"deb{found[1]}", found[0])


def _bare(version: str) -> str:
    epoch, colon, rest = version.partition(":")
    return rest if colon and epoch.isdigit() else version


def _upstream(version: str) -> str:
    return version.rpartition("-")[0] or version
