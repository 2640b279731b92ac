"""Versions by scheme, and what stands in words where a version should."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from univers.versions import SemverVersion

from processors.match.phrases import FORMS, SILENT, Stretch, read, series_of
from processors.match.products import cpe_parts, is_distribution, product_key, vendor_key
from processors.match.versions import compare, scheme_of

IDENTIFIER = st.one_of(st.integers(0, 20).map(str), st.from_regex(r"\A[a-z][a-z0-9-]{0,3}\Z"))
SEMVER = st.builds(
    lambda numbers, before: ".".join(map(str, numbers)) + ("-" + ".".join(before) if before else ""),
    st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 12)),
    st.lists(IDENTIFIER, max_size=3),
)

IN_ORDER = {
    "": [
        ["1.2-alpha", "1.2-beta2", "1.2-rc1", "1.2", "1.2p1", "1.2.1"],
        ["1.0.2", "1.0.2k", "1.0.2u", "1.0.2za", "1.0.3"],
        ["9.2", "9.2p1", "9.3p1", "9.3p2", "9.10p1"],
        ["21.2R1", "21.2R3", "21.2R3-S6", "21.2R3-S7", "21.2R3-S7.1", "21.4R1"],
        ["21.2-EVO", "21.2R1-EVO", "21.2R3-S7-EVO"],
        ["10.1.9", "10.1.9-h1", "10.1.9-h3", "10.1.10"],
        ["7.0", "7.0 U3", "7.0U3o", "7.0u3q", "8.0 U1"],
        ["15.0(1)SE", "15.0(2)SE11", "15.0\\(2\\)se12", "15.1(1)SY"],
        ["9.0.0-M1", "9.0.0.M2", "9.0.0", "9.0.1"],
        ["R30", "R31", "R32"],
        ["RELEASE.2023-03-20T20-16-18Z", "RELEASE.2024-01-01T00-00-00Z"],
    ],
    "semver": [["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-beta", "1.0.0-rc.2", "1.0.0-rc.11", "1.0.0", "1.0.1"], ["21.2R3-S6", "21.2R3-S7"]],
    "rpm": [["0:8.7p1-34.el9", "8.7p1-38.el9_4.1", "8.7p1-38.el9_4.4", "1:2.0-1"], ["1.0~rc1", "1.0", "1.0^git1"]],
    "deb": [["1.0~rc1-1", "1.0-1", "1.0-1+deb12u1", "1.0-1+deb12u2", "1:0.9-1"], ["3ubuntu0.9", "3ubuntu0.10"]],
    "maven": [["1.0-SNAPSHOT", "1.0.Final", "1.1"], ["2.426.1", "2.426.2"], ["1.0-alpha-1", "1.0-beta-1", "1.0-rc1", "1.0"]],
}
ALIKE = [
    ("", "2.4", "2.4.0"),
    ("", "v1.2", "1.2"),
    ("", "3.9.0.Final", "3.9"),
    ("semver", "1.2", "1.2.0"),
    ("rpm", "1.0", "1.00"),
    ("maven", "1", "1.0"),
]
NOT_COMPARED = [
    ("", "1.2b1", "1.2"),
    ("", "21.2R1", "21.2R1-EVO"),
    ("", "1.0.2k", "1.0.2.1"),
    ("", "1.2 on Linux", "1.2"),
    ("", "", "1.0"),
    ("", "latest", "1.0"),
    ("", "1, 2", "1"),
    ("", "1.2~rc1", "1.2"),
    ("semver", "1.2.3+build1", "1.2.3+build2"),
    ("deb", "first", "1.0"),
    ("rpm", "x:1", "1"),
    ("git", "3fa9c1", "77be02"),
    ("", "1" * 101, "1"),
    ("", "١.٢", "1.2"),
]


@pytest.mark.parametrize(("scheme", "versions"), [(scheme, one) for scheme, rows in IN_ORDER.items() for one in rows])
def test_versions_are_in_order(scheme: str, versions: list[str]) -> None:
    for place, left in enumerate(versions):
        for other, right in enumerate(versions):
            assert compare(left, right, scheme) == (place > other) - (place < other), (left, right)


@pytest.mark.parametrize(("scheme", "left", "right"), ALIKE)
def test_versions_that_are_the_same(scheme: str, left: str, right: str) -> None:
    assert compare(left, right, scheme) == compare(right, left, scheme) == 0


@pytest.mark.parametrize(("scheme", "left", "right"), NOT_COMPARED)
def test_what_can_not_be_compared_is_not_guessed(scheme: str, left: str, right: str) -> None:
    assert compare(left, right, scheme) is None
    assert compare(right, left, scheme) is None


@given(SEMVER, SEMVER)
def test_semver_is_as_univers_has_it(left: str, right: str) -> None:
    first, second = SemverVersion(left), SemverVersion(right)
    assert compare(left, right, "semver") == (first > second) - (first < second)


def test_names_of_schemes() -> None:
    assert [scheme_of(name) for name in ("semver", "RPM", "dpkg", "custom", "sem", "")] == ["semver", "rpm", "deb", "", "", ""]


FILLED = {"V": "1.2.3"}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_read(form: str) -> None:
    words = form.split()
    versions = iter(("1.2.3", "2.0"))
    text = " ".join(next(versions) if word == "V" else word for word in words)
    reading = FORMS[form]
    (stretch,) = read(text) or (None,)
    assert stretch is not None
    held = ("1.2.3", "2.0")
    assert stretch.start == ("" if reading.start is None else held[reading.start])
    assert stretch.end == ("" if reading.end is None else held[reading.end])
    assert (stretch.after, stretch.included) == (reading.after, reading.included)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5.7.42 and prior", Stretch(end="5.7.42", included=True)),
        ("All versions before 3.4", Stretch(end="3.4")),
        ("versions prior to 2.3.4", Stretch(end="2.3.4")),
        ("<1.5.2", Stretch(end="1.5.2")),
        (">= 1.0, < 1.5", Stretch(start="1.0", end="1.5")),
        (">=1.0 <2.0", Stretch(start="1.0", end="2.0")),
        ("1.2.3-1 and earlier versions", Stretch(end="1.2.3-1", included=True)),
        ("Exim 4.95", Stretch(start="4.95", end="4.95", included=True)),
        ("2.4.x", Stretch(start="2.4", end="2.4.*", included=True)),
        ("12.2(33)SXJ9", Stretch(start="12.2(33)SXJ9", end="12.2(33)SXJ9", included=True)),
        ("*", Stretch()),
    ],
)
def test_words_of_older_records(text: str, expected: Stretch) -> None:
    assert read(text, "Exim") == (expected,)


def test_a_list_of_ranges_with_both_ends() -> None:
    found = read("FortiOS 6.0.0 to 6.0.4, 5.6.3 to 5.6.7", "Fortinet FortiOS")
    assert found == (Stretch("6.0.0", end="6.0.4", included=True), Stretch("5.6.3", end="5.6.7", included=True))
    assert read("6.0.2, 5.6.7 and before") is None


def test_a_list_of_versions() -> None:
    assert [one.start for one in read("FortiOS 7.0.3, 7.0.2", "Fortinet FortiOS") or ()] == ["7.0.3", "7.0.2"]


@pytest.mark.parametrize(
    "text", [*SILENT, "up to 1.2", "5.0-5.3", "Fixed in OpenSSL 3.0.8", "see advisory", "1.2 on Windows", "MongoDB for VS Code"]
)
def test_what_says_nothing_or_two_things_is_not_read(text: str) -> None:
    assert read(text) is None


def test_series() -> None:
    assert [series_of(one) for one in ("2.*", "2.4.x", "24.4*", "*", "2.4", "1.x.*", "a.*")] == ["2", "2.4", "24.4", "", "", "1", ""]


@pytest.mark.parametrize(
    ("vendor", "product", "key"),
    [
        ("Apache Software Foundation", "Apache HTTP Server", "apache:httpserver"),
        ("apache", "http_server", "apache:httpserver"),
        ("Oracle Corporation", "MySQL Server", "oracle:mysql"),
        ("Juniper Networks", "Junos OS", "juniper:junos"),
        ("Palo Alto Networks", "PAN-OS", "paloaltonetworks:panos"),
        ("", "OpenSSH", "openbsd:openssh"),
        ("F5", "NGINX Open Source", "f5:nginx"),
        ("ISC", "BIND 9", "isc:bind"),
        ("Cisco", "Cisco IOS XE Software", "cisco:iosxe"),
        ("n/a", "n/a", ""),
        ("n/a", "server", ""),
        ("n/a", "Redis", "redis:redis"),
    ],
)
def test_one_key_however_a_product_is_called(vendor: str, product: str, key: str) -> None:
    assert product_key(vendor, product) == key


def test_cpe_names_of_both_forms() -> None:
    assert cpe_parts("cpe:/a:apache:http_server:2.4.49") == ("a", "apache", "http_server", "2.4.49")
    assert cpe_parts("cpe:2.3:a:openbsd:openssh:9.2:p1:*:*:*:*:*:*") == ("a", "openbsd", "openssh", "9.2p1")
    assert cpe_parts("cpe:2.3:o:cisco:ios:15.0\\(2\\)se11:*:*:*:*:*:*:*") == ("o", "cisco", "ios", "15.0(2)se11")
    assert cpe_parts("cpe:/a:isc:bind:9.11.4%2bb") == ("a", "isc", "bind", "9.11.4+b")
    assert cpe_parts("cpe:2.3:a:isc") is None
    assert cpe_parts("nonsense") is None


def test_a_distribution_is_no_product() -> None:
    assert is_distribution(product_key("debian", "debian_linux"))
    assert is_distribution(product_key("Red Hat", "Red Hat Enterprise Linux 9"))
    assert not is_distribution(product_key("redhat", "keycloak"))
    assert vendor_key("The PHP Group") == "php"
