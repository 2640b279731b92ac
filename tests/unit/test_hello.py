"""The question for old TLS versions, against OpenSSL in memory: what it accepts, refuses, and what is no answer at all."""

from __future__ import annotations

import contextlib
import ssl
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.scan.probing.hello import ANSWER_BYTES, NUMBERS, client_hello, version_in
from tests.scanning import make_certificate

OLD = {"TLSv1": ssl.TLSVersion.TLSv1, "TLSv1.1": ssl.TLSVersion.TLSv1_1, "TLSv1.2": ssl.TLSVersion.TLSv1_2}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    certificate, key, _ = make_certificate(tmp_path_factory.mktemp("tls"), "hello.example")
    return str(certificate), str(key)


def answer(pair: tuple[str, str], lowest: str, highest: str, hello: bytes) -> bytes:
    """What an OpenSSL server that speaks lowest..highest says to a first message."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version, context.maximum_version = OLD[lowest], OLD[highest]
    heard, said = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(heard, said, server_side=True)
    heard.write(hello)
    with contextlib.suppress(ssl.SSLError):
        server.do_handshake()
    return said.read()


@pytest.mark.parametrize(
    ("lowest", "highest", "most", "expected"),
    [
        ("TLSv1", "TLSv1.2", "TLSv1.1", "TLSv1.1"),
        ("TLSv1", "TLSv1.2", "TLSv1", "TLSv1"),
        ("TLSv1", "TLSv1", "TLSv1.1", "TLSv1"),
        ("TLSv1.1", "TLSv1.2", "TLSv1", ""),
        ("TLSv1.2", "TLSv1.2", "TLSv1.1", ""),
        ("TLSv1.2", "TLSv1.2", "TLSv1", ""),
    ],
)
@pytest.mark.parametrize("name", ["", "hello.example", "198.18.0.7"])
def test_a_server_says_the_highest_old_version_that_it_has(
    pair: tuple[str, str], lowest: str, highest: str, most: str, expected: str, name: str
) -> None:
    said = answer(pair, lowest, highest, client_hello(NUMBERS[most], name))
    assert said, "OpenSSL says something to a sound message, if only no"
    assert version_in(said[:ANSWER_BYTES]) == expected


@given(st.binary(max_size=64))
def test_whatever_comes_back_is_a_known_version_or_none(data: bytes) -> None:
    assert version_in(data) in ("", *NUMBERS)
