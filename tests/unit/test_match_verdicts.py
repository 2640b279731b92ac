"""Verdicts: the schema's own rules for ranges, sources that differ, platforms, and packages that distributions mend in place."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from infra.app.commands.match import _evidence
from processors.match.evidence import Seen, seen, seen_in
from processors.match.matcher import LEAST, Matcher, telling
from processors.match.matching import Match, keys_of, known, match
from processors.match.rulings import Verdict
from schemas.events.intel import AffectedProduct, IntelRecord, VersionChange, VersionRange, VersionStatus
from schemas.events.observations import ServiceObservation

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
AFFECTED, POSSIBLE, NOT = Verdict.AFFECTED, Verdict.POSSIBLE, Verdict.NOT_AFFECTED
GOOD, BAD, UNKNOWN = VersionStatus.UNAFFECTED, VersionStatus.AFFECTED, VersionStatus.UNKNOWN


def record(*products: AffectedProduct) -> IntelRecord:
    return IntelRecord(cve="CVE-2026-1", affected=products, as_of=AS_OF)


def product(*versions: VersionRange, **over: Any) -> AffectedProduct:
    return AffectedProduct(**{"vendor": "Acme", "product": "Server X", "source": "cna", "versions": versions, **over})


def verdict(version: str, *products: AffectedProduct) -> Verdict | None:
    found = judge(seen((f"cpe:2.3:a:acme:server_x:{version}:*:*:*:*:*:*:*",)), *products)
    return found.verdict if found else None


def judge(shown: Seen, *products: AffectedProduct) -> Match | None:
    return match(shown, known(record(*products)))


def span(
    version: str = "", less_than: str = "", *, to: str = "", scheme: str = "semver", status: VersionStatus = BAD, **over: Any
) -> VersionRange:
    return VersionRange(status=status, version=version, less_than=less_than, less_than_or_equal=to, scheme=scheme, **over)


# The examples of CVE 5.0's own text on versions (CVEProject/cve-schema, versions.md)
CHANGED = span("2.0.0", "2.*", changes=(VersionChange(at="2.5.2", status=GOOD),))
TWICE = span(
    "2.0.0",
    "2.*",
    changes=(VersionChange(at="2.6.3", status=GOOD), VersionChange(at="2.5.2", status=GOOD), VersionChange(at="2.6.0", status=BAD)),
)


@pytest.mark.parametrize(
    ("versions", "default", "expected"),
    [
        ((span("2.0.0", to="2.5.1"),), GOOD, {"1.9.9": NOT, "2.0.0": AFFECTED, "2.5.1": AFFECTED, "2.5.2": NOT}),
        ((span("2.0.0", "2.5.2"),), GOOD, {"2.5.1": AFFECTED, "2.5.2": NOT}),
        ((span("2.5.2", "*", status=GOOD),), BAD, {"1.0.0": AFFECTED, "2.5.1": AFFECTED, "2.5.2": NOT, "9.0.0": NOT}),
        ((span("1.0", "2.*"),), GOOD, {"0.9.0": NOT, "1.5.0": AFFECTED, "2.99.1": AFFECTED, "3.0.0": NOT}),
        ((span("0", "*"),), GOOD, {"0.0.1": AFFECTED, "99": AFFECTED}),
        ((CHANGED,), UNKNOWN, {"1.9.0": NOT, "2.0.0": AFFECTED, "2.5.1": AFFECTED, "2.5.2": NOT, "2.9.0": NOT}),
        ((TWICE,), GOOD, {"2.5.1": AFFECTED, "2.5.2": NOT, "2.6.0": AFFECTED, "2.6.2": AFFECTED, "2.6.3": NOT, "3.0.0": NOT}),
        ((VersionRange(version="2.4"), VersionRange(version="2.5")), GOOD, {"2.4": AFFECTED, "2.5": AFFECTED, "2.4.1": NOT, "2.6": NOT}),
        ((VersionRange(version="2.4"), VersionRange(version="2.6", status=GOOD)), UNKNOWN, {"2.4": AFFECTED, "2.6": NOT}),
        ((VersionRange(version="2.4", status=UNKNOWN),), GOOD, {"2.4": POSSIBLE, "2.5": NOT}),
        ((), GOOD, {"1.0": NOT}),
        ((), BAD, {"1.0": AFFECTED}),
        ((), UNKNOWN, {"1.0": POSSIBLE}),
        ((span("0", "1.0", status=GOOD),), UNKNOWN, {"0.9": NOT, "2.0": POSSIBLE}),
        ((span("1.2.*", "1.4"),), GOOD, {"1.2.0": AFFECTED, "1.1.9": NOT}),
        ((span("1.0", "2.0", scheme="custom"),), GOOD, {"1.5p1": AFFECTED, "1.0b1": POSSIBLE}),
        ((span("next of 1.0", "2.0", scheme="custom"),), GOOD, {"1.0": NOT, "1.0.1": AFFECTED}),
        ((span("2.0", "1.0"),), GOOD, {"1.5": POSSIBLE}),
        ((span("3fa9", "*", scheme="git"),), UNKNOWN, {"1.5": POSSIBLE}),
        ((VersionRange(version="n/a"),), UNKNOWN, {"1.5": POSSIBLE}),
        ((span("1.0", "2.0"),), BAD, {"1.5": AFFECTED, "2.5": POSSIBLE}),
    ],
)
def test_ranges_as_the_schema_has_them(versions: tuple[VersionRange, ...], default: VersionStatus, expected: dict[str, Verdict]) -> None:
    found = {version: verdict(version, product(*versions, default_status=default)) for version in expected}
    assert found == expected


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ((span("1.0", "2.0", after=True),), {"1.0": NOT, "1.0.1": AFFECTED, "2.0": NOT}),
        ((span("1.0", to="2.0", after=True),), {"1.0": NOT, "2.0": AFFECTED, "2.0.1": NOT}),
        ((span("1.0", after=True),), {"1.0": NOT, "7.0": AFFECTED}),
        ((span("", "2.0"),), {"0.1": AFFECTED, "2.0": NOT}),
    ],
)
def test_ends_of_nvds_configurations(versions: tuple[VersionRange, ...], expected: dict[str, Verdict]) -> None:
    said = product(*versions, source="nvd", default_status=GOOD, cpes=("cpe:2.3:a:acme:server_x:*:*:*:*:*:*:*:*",))
    assert {version: verdict(version, said) for version in expected} == expected


def test_ranges_without_a_start_are_branches() -> None:
    said = product(VersionRange(version="5.7.42 and prior"), VersionRange(version="8.0.33 and prior"))
    found = {version: verdict(version, said) for version in ("5.6.1", "5.7.42", "5.7.44", "8.0.33", "8.0.34")}
    assert found == {"5.6.1": AFFECTED, "5.7.42": AFFECTED, "5.7.44": POSSIBLE, "8.0.33": AFFECTED, "8.0.34": NOT}


def test_of_endless_ranges_the_last_one_speaks() -> None:
    said = product(span("17.1.0", "*", status=GOOD), span("16.1.0", "16.1.4"), span("14.1.0", "*"))
    found = {version: verdict(version, said) for version in ("17.1.2", "16.1.3", "16.1.4", "14.1.9")}
    assert found == {"17.1.2": NOT, "16.1.3": AFFECTED, "16.1.4": POSSIBLE, "14.1.9": AFFECTED}


def test_a_product_that_the_record_does_not_name() -> None:
    assert verdict("1.0", product(span("0", "2.0"), product="Server Y")) is None
    assert verdict("1.0", product(span("0", "2.0"), vendor="Other")) is None


def test_a_record_without_a_vendor_counts_a_little_less() -> None:
    shown = seen(("cpe:2.3:a:acme:server_x:1.0:*:*:*:*:*:*:*",))
    named, unnamed = judge(shown, product(span("0", "2.0"))), judge(shown, product(span("0", "2.0"), vendor="n/a"))
    assert named is not None
    assert unnamed is not None
    assert (named.verdict, unnamed.verdict) == (AFFECTED, AFFECTED)
    assert unnamed.confidence < named.confidence


def test_sources_that_contradict_each_other_make_it_possible() -> None:
    maker = product(span("0", "2.0"), default_status=GOOD)
    other = product(span("0", "3.0"), source="CISA-ADP")
    assert [verdict(one, maker, other) for one in ("1.0", "2.5", "3.5")] == [AFFECTED, POSSIBLE, NOT]
    assert [verdict(one, other, maker) for one in ("1.0", "2.5", "3.5")] == [AFFECTED, POSSIBLE, NOT]


def test_a_source_that_can_be_read_speaks_for_one_that_can_not() -> None:
    maker, other = product(VersionRange(version="n/a")), product(span("0", "3.0"), source="CISA-ADP")
    assert [verdict(one, maker, other) for one in ("1.0", "3.5")] == [AFFECTED, NOT]


def test_a_source_that_names_a_product_alone_changes_nothing() -> None:
    kev = product(source="kev")
    assert [verdict(one, kev, product(span("0", "3.0"))) for one in ("1.0", "3.5")] == [AFFECTED, NOT]
    found = judge(seen(("cpe:/a:acme:server_x:1.0",)), kev)
    assert found is not None
    assert (found.verdict, telling([found])) == (POSSIBLE, ())


def test_the_hardware_of_a_firmware_need_not_be_seen() -> None:
    said = product(span("0", "2.0"), product="server_x_firmware", platforms=("cpe:2.3:h:acme:server_x:-:*:*:*:*:*:*:*",))
    found = judge(seen(("cpe:/o:acme:server_x_firmware:1.0",)), said)
    assert found is not None
    assert found.verdict is AFFECTED


@pytest.mark.parametrize("shown", ["2", "2.4", "2."])
def test_a_branch_that_httpd_shows_in_place_of_its_version_says_nothing(shown: str) -> None:
    said = product(span("2.4.0", "2.4.50"), vendor="apache", product="http_server", default_status=VersionStatus.UNAFFECTED)
    late = product(span("2.4.30", "2.4.50"), vendor="apache", product="http_server", default_status=VersionStatus.UNAFFECTED)
    for one in (said, late):
        found = judge(seen((f"cpe:2.3:a:apache:http_server:{shown}:*:*:*:*:*:*:*",)), one)
        assert found is not None
        assert (found.verdict, found.confidence < LEAST) == (Verdict.POSSIBLE, True)
    exact = judge(seen(("cpe:2.3:a:apache:http_server:2.4.49:*:*:*:*:*:*:*",)), late)
    assert exact is not None
    assert exact.verdict is Verdict.AFFECTED


def test_openssh_for_windows_is_microsofts_build() -> None:
    shown = _evidence(b'{"banner": "SSH-2.0-OpenSSH_for_Windows_9.5"}', 1).seen()
    said = product(span("8.5p1", to="9.7p1"), vendor="openbsd", product="openssh", default_status=VersionStatus.UNAFFECTED)
    found = judge(shown, said)
    assert found is not None
    assert (found.verdict, "Microsoft mends versions in place" in found.reason) == (Verdict.POSSIBLE, True)


def test_without_a_version_it_is_hardly_possible_and_no_finding() -> None:
    found = judge(seen(("cpe:/a:acme:server_x",)), product(span("0", "2.0")))
    assert found is not None
    assert (found.verdict, found.reason) == (POSSIBLE, "no version was seen")
    assert telling([found]) == ()


@pytest.mark.parametrize(
    ("platforms", "system", "expected"),
    [
        (("Windows",), "", POSSIBLE),
        (("Windows",), "Windows", AFFECTED),
        (("Windows",), "linux", NOT),
        (("Windows", "Linux", "MacOS"), "", AFFECTED),
        (("x64-based Systems",), "", AFFECTED),
        (("cpe:2.3:o:microsoft:windows:-:*:*:*:*:*:*:*",), "Linux", NOT),
        (("SRX5000 Series",), "", POSSIBLE),
        (("Unknown",), "", AFFECTED),
    ],
)
def test_platforms(platforms: tuple[str, ...], system: str, expected: Verdict) -> None:
    shown = seen(("cpe:/a:acme:server_x:1.0",), systems=system)
    found = judge(shown, product(span("0", "2.0"), platforms=platforms))
    assert found is not None
    assert found.verdict is expected


OPENSSH = AffectedProduct(
    vendor="", product="", package="OpenSSH", source="cna", default_status=GOOD, versions=(span("8.5p1", to="9.7p1", scheme="custom"),)
)


def redhat(name: str, fixed: str, **over: Any) -> AffectedProduct:
    versions = (span(fixed, "*", scheme="rpm", status=GOOD),)
    values = {
        "vendor": "Red Hat",
        "product": name,
        "package": "openssh",
        "collection": "https://access.redhat.com/downloads/",
        "versions": versions,
    }
    return AffectedProduct(**{**values, "source": "cna", "default_status": BAD, **over})


def debian(fixed: str) -> AffectedProduct:
    return AffectedProduct(
        vendor="Debian",
        product="openssh",
        package="openssh",
        source="debian",
        default_status=GOOD,
        versions=(span("0", fixed, scheme="deb"),),
    )


RHEL = (
    OPENSSH,
    redhat("Red Hat Enterprise Linux 9", "0:8.7p1-38.el9_4.1"),
    redhat("Red Hat Enterprise Linux 9.2 Extended Update Support", "0:8.7p1-30.el9_2.4"),
    redhat("Red Hat Enterprise Linux 8", "", versions=(), default_status=GOOD),
)


@pytest.mark.parametrize(
    ("cpe", "builder", "revision", "products", "expected", "words"),
    [
        ("9.2:p1", "", "", (OPENSSH,), AFFECTED, "8.5p1 ≤ version ≤ 9.7p1"),
        ("9.8:p1", "", "", (OPENSSH,), NOT, "others are unaffected"),
        ("9.2:p1", "Debian", "2+deb12u3", (OPENSSH,), POSSIBLE, "does not give its fixed version"),
        ("9.8:p1", "Debian", "2+deb12u3", (OPENSSH,), NOT, "others are unaffected"),
        ("9.2:p1", "Debian", "2+deb12u3", (OPENSSH, debian("1:9.2p1-2+deb12u3")), NOT, "mended it"),
        ("9.2:p1", "Debian", "2+deb12u2", (OPENSSH, debian("1:9.2p1-2+deb12u3")), AFFECTED, "its package is affected"),
        ("8.9:p1", "Ubuntu", "3ubuntu0.10", (OPENSSH,), POSSIBLE, "Ubuntu mends versions in place"),
        ("9.2:p1", "Debian", "2+deb12u3", (OPENSSH, debian("1:8.4p1-5+deb11u3")), POSSIBLE, "does not give"),
        ("8.7:p1", "Red Hat", "38.el9_4.1", RHEL, NOT, "mended it"),
        ("8.7:p1", "Red Hat", "34.el9", RHEL, AFFECTED, "its package is affected"),
        ("8.7:p1", "Red Hat", "30.el9_2.4", (OPENSSH, RHEL[2]), NOT, "mended it"),
        ("8.7:p1", "Red Hat", "34.el8", RHEL, NOT, "never had it"),
        ("8.7:p1", "Red Hat", "", RHEL, POSSIBLE, "does not show which revision"),
        ("8.7:p1", "", "", RHEL, AFFECTED, "8.5p1 ≤ version ≤ 9.7p1"),
    ],
)
def test_back_ports(cpe: str, builder: str, revision: str, products: tuple[AffectedProduct, ...], expected: Verdict, words: str) -> None:
    shown = seen((f"cpe:2.3:a:openbsd:openssh:{cpe}:*:*:*:*:*:*",), "", builder, revision)
    found = judge(shown, *products)
    assert found is not None
    assert (found.verdict, words in found.reason) == (expected, True), found.reason
    assert bool(found.confirm) is (expected is POSSIBLE)


def test_what_only_a_distribution_has_is_nothing_to_others() -> None:
    own = redhat("Red Hat Enterprise Linux 9", "0:8.7p1-38.el9_4.1")
    assert judge(seen(("cpe:/a:openbsd:openssh:8.7p1",)), own) is None
    assert judge(seen(("cpe:/a:openbsd:openssh:8.7p1",), "", "Red Hat", "34.el9"), own) is not None


def test_what_a_service_shows() -> None:
    nmap = ServiceObservation(port=22, version="9.2p1 Debian 2+deb12u3", cpes=("cpe:/a:openbsd:openssh:9.2p1", "cpe:/o:linux:linux_kernel"))
    found = seen_in(nmap)
    assert found.products == (("openbsd:openssh", "9.2p1"),)
    assert found.package is not None
    assert (found.builder, found.package.version, found.systems) == ("Debian", "9.2p1-2+deb12u3", frozenset({"linux"}))
    assert (
        seen_in(ServiceObservation(port=80, cpes=("cpe:/a:apache:http_server:2.4.57",), banner="Apache/2.4.57 (Red Hat)")).builder
        == "Red Hat"
    )
    bind = seen(("cpe:2.3:a:isc:bind:9.11.4-p2:*:*:*:*:*:*:*",), "", "Red Hat", "9.11.4-26.P2.el7_9.10")
    assert bind.package is not None
    assert bind.package.version == "9.11.4-26.P2.el7_9.10"
    assert seen(("cpe:/a:mysql:mysql:5.5.5",), builder="mariadb").products == ()
    assert seen(("cpe:/o:debian:debian_linux:12",)).products == ()


def test_every_match_is_found_by_the_index() -> None:
    one = record(*RHEL)
    assert keys_of(one) == {"openbsd:openssh", "redhat/openssh"}
    shown = seen(("cpe:/a:openbsd:openssh:8.7p1",), "", "Red Hat", "34.el9")
    assert set(shown.keys) & keys_of(one) == {"openbsd:openssh", "redhat/openssh"}


def test_a_matcher_forgets_what_a_record_said_before() -> None:
    matcher, shown = Matcher(), seen(("cpe:/a:acme:server_x:1.0",))
    first, second = record(product(span("0", "2.0"))), record(product(span("0", "0.5")))
    found = [matcher.match(shown, one) for one in (first, first, second, first)]
    assert [one.verdict for one in found if one] == [AFFECTED, AFFECTED, NOT, AFFECTED]
    assert found[0] is found[1]
