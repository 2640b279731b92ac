"""What the probes read out of answers: greetings, HTTP, paths, certificates, and how evidence is merged."""

from __future__ import annotations

import hashlib
import time
import unicodedata
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.scan.probes.hping3 import read_flags
from processors.scan.probes.http import read_answer
from processors.scan.probes.nmap import arguments, is_open_question, read_xml
from processors.scan.probing.certificates import read_certificate
from processors.scan.probing.evidence import Evidence, clean, merge, observation
from processors.scan.probing.greetings import read_greeting
from processors.scan.probing.paths import better, read_path
from schemas.events.observations import Hop, TlsFacts
from tests.scanning import NOON, make_certificate


@pytest.mark.parametrize(
    ("data", "service", "product", "version", "extra"),
    [
        (b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u10\r\n", "ssh", "OpenSSH", "9.2p1", "Debian-2+deb12u10"),
        (b"SSH-2.0-dropbear_2022.83\r\n", "ssh", "dropbear", "2022.83", ""),
        (b"SSH-2.0-Cisco-1.25\r\n", "ssh", "", "", "Cisco-1.25"),
        (b"220 (vsFTPd 3.0.3)\r\n", "ftp", "vsFTPd", "3.0.3", ""),
        (b"220 ProFTPD 1.3.8 Server ready\r\n", "ftp", "ProFTPD", "1.3.8", ""),
        (b"220 mail.example ESMTP Postfix (Debian/GNU)\r\n", "smtp", "Postfix", "", ""),
        (b"220 mail.example ESMTP Exim 4.96 Fri, 01 May 2026\r\n", "smtp", "Exim", "4.96", ""),
        (b"* OK [CAPABILITY IMAP4rev1] Dovecot ready.\r\n", "imap", "Dovecot", "", ""),
        (b"RFB 003.008\n", "vnc", "", "", "003.008"),
        (b"Y\x00\x00\x00\x0a5.5.5-10.11.6-MariaDB-0+deb12u1\x00salt", "mysql", "MariaDB", "10.11.6", ""),
        (b"J\x00\x00\x00\x0a8.0.36\x00\x08\x00\x00\x00salt", "mysql", "MySQL", "8.0.36", ""),
        (b"-NOAUTH Authentication required.\r\n", "redis", "Redis", "", ""),
        (b"\x00\x01\x02", "", "", "", ""),
    ],
)
def test_greetings(data: bytes, service: str, product: str, version: str, extra: str) -> None:
    found = read_greeting(data)
    assert (found.service, found.product, found.version, found.extra) == (service, product, version, extra)


def test_the_salt_of_a_greeting_is_not_in_the_banner() -> None:
    one, other = (read_greeting(b"J\x00\x00\x00\x0a8.0.36\x00\x08\x00\x00\x00" + salt) for salt in (b"abcdefgh", b"12345678"))
    assert one == other


@pytest.mark.parametrize(
    "data", [b"abc\0\n" + b"1." * 2045, b"220-" + b"E" * 60_000, b"SSH-2-OpenSSH_" + b"1" * 60_000, b"* OK" + b"Dove" * 15_000]
)
def test_no_greeting_takes_long(data: bytes) -> None:
    took = []
    for _ in range(5):
        began = time.process_time()
        read_greeting(data)
        took.append(time.process_time() - began)
    assert min(took) < 0.005


@given(st.binary(max_size=2000))
def test_no_greeting_breaks_the_reader_or_leaves_control_characters(data: bytes) -> None:
    seen = observation(80, merge(Evidence(), read_greeting(data), "banner"))
    assert len(seen.banner) <= 512
    assert all(unicodedata.category(char)[0] != "C" for char in seen.banner + seen.version + seen.extra + seen.product)


def test_http_keeps_only_what_stays_the_same() -> None:
    found = read_answer(
        b"HTTP/1.1 401 Unauthorized\r\nServer: Apache/2.4.57 (Debian)\r\nDate: now\r\nSet-Cookie: id=1\r\n"
        b'WWW-Authenticate: Digest realm="r", nonce="abc"\r\nContent-Security-Policy: script-src \'nonce-Zm9v\'\r\n\r\n'
        b"<TITLE lang=en>\n A &lt;b&gt; </TITLE>",
        secure=False,
    )
    assert found is not None
    assert found.http is not None
    assert (found.product, found.version, found.extra) == ("Apache", "2.4.57", "(Debian)")
    assert found.http.title == "A <b>"
    assert found.http.headers == {"www-authenticate": 'Digest realm="r", nonce', "content-security-policy": "script-src 'nonce'"}


@given(st.binary(max_size=500))
def test_no_answer_breaks_the_http_reader(data: bytes) -> None:
    read_answer(data, secure=True)
    read_answer(b"HTTP/1.1 200 OK\r\n" + data, secure=False)


def test_what_is_not_http_is_nothing() -> None:
    assert read_answer(b"SSH-2.0-x\r\n", secure=False) is None
    assert read_answer(b"", secure=False) is None


@pytest.mark.parametrize(
    ("text", "hops"),
    [
        (" 1  198.18.0.1  0.160 ms  0.2 ms\n 2  198.18.0.9  1 ms *\n", [(1, "198.18.0.1", 0.16), (2, "198.18.0.9", 1.0)]),
        (" 1  * *\n 2  198.18.0.9 [open]  0.063 ms\n 3  *\n", [(1, "", None), (2, "198.18.0.9", 0.063)]),
        (" 1  198.18.0.5  3 ms 198.18.0.4  2 ms\n", [(1, "198.18.0.4", 2.0)]),
        (" 1  2001:db8::1  0.1 ms !N\n", [(1, "2001:db8::1", 0.1)]),
        ("traceroute to 198.18.0.1 (198.18.0.1), 4 hops max\n 1  *\n", None),
        ("", None),
    ],
)
def test_paths(text: str, hops: list[tuple[int, str, float | None]] | None) -> None:
    found = read_path(text)
    assert (found and [(hop.ttl, hop.address, hop.rtt_ms) for hop in found]) == hops


@given(st.text(max_size=300))
def test_no_output_breaks_the_path_reader(text: str) -> None:
    read_path(text)
    read_path("1 " + text)


def test_the_path_that_arrives_is_the_better_one() -> None:
    short = (Hop(ttl=1, address="198.18.0.9"),)
    long = (Hop(ttl=1, address="198.18.0.1"), Hop(ttl=2, address="198.18.0.2"))
    assert better(long, short, "198.18.0.9") == short
    assert better(None, long, "198.18.0.9") == long
    assert better(None, None, "198.18.0.9") is None


def test_hping3_flags_are_read_from_the_output_of_the_right_port() -> None:
    text = "len=40 ip=198.18.0.1 ttl=64 DF id=0 sport=80 flags=SA seq=0 win=0 rtt=0.9 ms\n"
    assert read_flags(text, 80) == "SA"
    assert read_flags(text, 8) == ""


def test_nmap_gets_addresses_and_ports_and_nothing_else() -> None:
    assert arguments("198.18.0.1", [80, 22])[-3:] == ["-p", "80,22", "198.18.0.1"]
    assert "-6" in arguments("2001:db8::1", [80])
    with pytest.raises(ValueError, match="--script"):
        arguments("--script=x", [80])


@pytest.mark.parametrize("xml", ["", "<nmaprun/>", "<not xml", "<nmaprun><host/></nmaprun>"])
def test_nmap_output_that_is_cut_off_is_nothing(xml: str) -> None:
    assert read_xml(xml) == {}


def test_nmap_is_asked_only_where_it_may_know_more() -> None:
    assert is_open_question(79, Evidence())
    assert is_open_question(25, Evidence(service="smtp", product="Postfix"))
    assert not is_open_question(25, Evidence(service="smtp", product="Exim", version="4.96"))
    assert not is_open_question(6379, Evidence(service="redis", product="Redis"))
    assert not is_open_question(21, Evidence(service="ftp", banner="220 bftpd 6.1 at 198.18.0.9 ready."))  # the table of rules names it
    assert is_open_question(21, Evidence(service="ftp", banner="220 ready"))


def test_the_first_word_stays_and_a_version_needs_its_product() -> None:
    own = merge(Evidence(), Evidence(service="http", product="nginx"), "http")
    same = merge(own, Evidence(product="nginx", version="1.22.1", cpes=("cpe:/a:nginx:nginx:1.22.1",)), "nmap")
    other = merge(own, Evidence(product="lighttpd", version="1.4", cpes=("cpe:/a:lighttpd",)), "nmap")
    assert (same.product, same.version, same.cpes, same.sources) == ("nginx", "1.22.1", ("cpe:/a:nginx:nginx:1.22.1",), ("http", "nmap"))
    assert other == own


def test_what_a_tls_port_says_in_clear_text_is_forgotten() -> None:
    complaint = merge(Evidence(), Evidence(service="http", banner="HTTP/1.1 400 Bad Request"), "banner")
    found = merge(complaint, Evidence(tls=TlsFacts(version="TLSv1.3")), "tls")
    assert (found.service, found.banner, found.sources) == ("", "", ("tls",))


def test_cleaning_takes_out_what_could_mislead() -> None:
    assert clean("a\x1b[31mb\u202ec\r\n\td\x00") == "a[31mbc d"
    assert clean(b"\xff\xfeok") == "\ufffd\ufffdok"
    assert len(clean("x" * 5000)) == 512


def test_certificates(tmp_path: Path) -> None:
    der = make_certificate(tmp_path, "a.example")[2]
    found = read_certificate(der)
    assert found.sha256 == hashlib.sha256(der).hexdigest()
    assert (found.subject, found.issuer, found.self_signed) == ("CN=a.example", "CN=a.example", True)
    assert (found.not_before, found.not_after) == (NOON, NOON + timedelta(days=30))
    assert (found.key_type, found.key_bits, found.signature_hash) == ("EC", 256, "sha256")
    assert found.names == ("198.18.210.7", "a.example")


@given(st.binary(max_size=200))
def test_what_is_no_certificate_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  the text is cryptography's
        read_certificate(data)
