"""What the world knows of a vulnerability: one record a CVE, joined from several feeds, each statement with its source and date."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from schemas.events.base import Event, Fraction, Timestamp
from schemas.products import keys_of


class VersionStatus(StrEnum):
    """What is said of a version (CVE JSON 5.1, `status`)."""

    AFFECTED = "affected"
    UNAFFECTED = "unaffected"
    UNKNOWN = "unknown"


class VersionChange(Event):
    """From this version of a range on, the status is another one: fixes that reached several branches at different times."""

    at: str
    status: VersionStatus


class VersionRange(Event):
    """One version, or with `less_than` or `less_than_or_equal` a range from `version` on, as CVE JSON 5.1 has it (`versions`).

    `version` '' (also `0` and `*`) is an open start. `after`: the range begins after `version` (NVD's `versionStartExcluding`). An end
    may hold a wildcard (`2.4.*`, `*`). `scheme` is how versions of it are compared (`versionType`: semver, rpm, maven, custom …).
    """

    status: VersionStatus = VersionStatus.AFFECTED
    version: str = ""
    after: bool = False
    less_than: str = ""
    less_than_or_equal: str = ""
    scheme: str = ""
    changes: tuple[VersionChange, ...] = ()


class AffectedProduct(Event):
    """A product and what one source says of its versions. A version that no range names has the `default_status`.

    `collection` and `package` name a distribution's or an ecosystem's package where the source does; `cpes` are CPE 2.3 names of the
    product; `platforms` what it must run on to be affected (words, or CPE names of NVD's `AND` configurations).
    """

    vendor: str
    product: str
    source: str = Field("", description="who says so: cna, the name of an ADP container, nvd, kev")
    collection: str = ""
    package: str = ""
    cpes: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    default_status: VersionStatus = VersionStatus.UNKNOWN
    versions: tuple[VersionRange, ...] = ()


class IntelSource(Event):
    """Who had a part in a record: its name, since when it says what it says, where that was read, and how it calls the vulnerability."""

    name: str = Field(description="kev, epss, cve, nvd, or the name of an ADP container of the CVE record, e.g. CISA-ADP")
    as_of: Timestamp
    url: str = ""
    title: str = ""
    published: Timestamp | None = None


class CvssScore(Event):
    """A CVSS base score, who gave it (as `AffectedProduct.source`), and of which version (2.0, 3.0, 3.1, 4.0)."""

    source: str
    version: str
    score: float = Field(ge=0, le=10)
    vector: str = ""


class IntelRecord(Event):
    """What feeds say of one CVE. None, and '' of a decision point, is unknown, never 0 and never no.

    `kev` False: it was in the catalogue of known exploited vulnerabilities and was taken out. `title`, `published`, `updated`, `cvss` and
    `cvss_vector` are chosen from what `sources` and `scores` say (`producers/intel/joining.py`), `as_of` is the latest of the sources'.
    What changes daily and what is looked for comes first: `schemas/intel_head.py` reads and writes it without the rest.
    """

    cve: str
    as_of: Timestamp
    kev: bool | None = None
    epss: Fraction | None = None
    products: tuple[str, ...] = Field(
        (), description="`vendor:product` of all that is affected, by names, packages and CPE names: what is not listed is not found"
    )
    epss_percentile: Fraction | None = None
    epss_model: str = ""
    sources: tuple[IntelSource, ...] = ()
    title: str = ""
    cvss: float | None = Field(None, ge=0, le=10)
    cvss_vector: str = ""
    kev_added: Timestamp | None = None
    kev_due: Timestamp | None = None
    kev_ransomware: bool | None = None
    ssvc_exploitation: str = Field("", description="none, poc, active (CISA's SSVC)")
    ssvc_automatable: str = Field("", description="no, yes")
    ssvc_technical_impact: str = Field("", description="partial, total")
    affected: tuple[AffectedProduct, ...] = ()
    scores: tuple[CvssScore, ...] = ()
    published: Timestamp | None = None
    updated: Timestamp | None = None

    @model_validator(mode="after")
    def _list_products(self) -> Self:
        """List the products where the writer did not: records are found by them."""
        if self.affected and not self.products:
            object.__setattr__(self, "products", tuple(keys_of(one.model_dump() for one in self.affected)))
        return self
