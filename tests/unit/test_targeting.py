"""Targets as people write them."""

from __future__ import annotations

import ipaddress

import pytest

from schemas.targeting import HostName, Span, parse_target, show, span_of, too_many


def span(first: str, last: str) -> Span:
    low, high = ipaddress.ip_address(first), ipaddress.ip_address(last)
    return Span(low.version, int(low), int(high))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("198.18.0.7", span("198.18.0.7", "198.18.0.7")),
        (" 198.18.0.7 ", span("198.18.0.7", "198.18.0.7")),
        ("198.18.0.0/24", span("198.18.0.0", "198.18.0.255")),
        ("198.18.0.9/24", span("198.18.0.0", "198.18.0.255")),
        ("198.18.0.1-198.18.1.9", span("198.18.0.1", "198.18.1.9")),
        ("198.18.0.1 - 198.18.0.9", span("198.18.0.1", "198.18.0.9")),
        ("198.18.0.1-9", span("198.18.0.1", "198.18.0.9")),
        ("0.0.0.0/0", span("0.0.0.0", "255.255.255.255")),
        ("2001:db8::7", span("2001:db8::7", "2001:db8::7")),
        ("2001:DB8::/120", span("2001:db8::", "2001:db8::ff")),
        ("2001:db8::1-2001:db8::9", span("2001:db8::1", "2001:db8::9")),
        ("WWW.Example.org.", HostName("www.example.org")),
        ("a-b", HostName("a-b")),
        ("_sip.example.org", HostName("_sip.example.org")),
        ("münchen.example", HostName("xn--mnchen-3ya.example")),
        ("localhost", HostName("localhost")),
    ],
)
def test_what_people_write_is_understood(text: str, expected: object) -> None:
    assert parse_target(text) == expected


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "names nothing"),
        ("   ", "names nothing"),
        ("198.18.0.0/33", "is not a network"),
        ("https://example.org/", "is not a network"),
        ("198.18.0.9-198.18.0.1", "runs backwards"),
        ("198.18.0.9-1", "runs backwards"),
        ("198.18.0.1-2001:db8::1", "is not a range"),
        ("198.18.0.1-foo", "is not a range"),
        ("198.18.0.1-300", "is not a range"),
        ("fe80::1%eth0", "interface"),
        ("::ffff:198.18.0.7", "write 198.18.0.7"),
        ("::ffff:0:0/97", "IPv4 address in IPv6 dress"),
        ("198.18.0.300", "is not an address"),
        ("198.18.0.007", "is not an address"),
        ("127.1", "is not an address"),
        ("0x7f.1", "is not an address"),
        ("3323068423", "is not an address"),
        ("0x7f000001", "is not an address"),
        ("-a.example", "is not an address"),
        ("a..b", "is not an address"),
        ("a b", "is not an address"),
        ("x" * 64 + ".example", "is not an address"),
        ("$(reboot)", "is not an address"),
        ("host\x00name", "is not an address"),
        ("\ud800", "is not an address"),
    ],
)
def test_anything_else_gets_a_sentence(text: str, part: str) -> None:
    with pytest.raises(ValueError, match=part.replace("(", r"\(")):
        parse_target(text)


def test_a_message_never_repeats_a_long_text() -> None:
    with pytest.raises(ValueError, match="…") as caught:
        parse_target("!" * 100_000)
    assert len(str(caught.value)) < 200
    assert show("short") == "short"


def test_only_addresses_have_a_span() -> None:
    assert span_of("198.18.0.7").size == 1
    for text in ("example.org", "::ffff:1.2.3.4"):
        with pytest.raises(ValueError, match=r"address"):
            span_of(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("198.18.0.0/15", None),
        ("2001:db8::/120", None),
        ("0.0.0.0/0", "names 4294967296 addresses, the limit is 1048576; write the networks that you mean"),
        ("2001:db8::/119", "names 512 IPv6 addresses; IPv6 is never enumerated beyond 256 (a /120): write the addresses that you mean"),
        (
            "2001:db8::-2001:db8::100",
            "names 257 IPv6 addresses; IPv6 is never enumerated beyond 256 (a /120): write the addresses that you mean",
        ),
    ],
)
def test_what_is_too_large_is_told_how_large_it_is(text: str, reason: str | None) -> None:
    parsed = parse_target(text)
    assert isinstance(parsed, Span)
    assert too_many(parsed, 1 << 20) == reason
