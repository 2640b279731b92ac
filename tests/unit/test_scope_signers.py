"""Who may replace a grant, how many must sign one, and which forms of an address are none."""

from __future__ import annotations

import base64
import ipaddress
import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from infra.core.errors import BadInput
from infra.core.settings import Settings
from infra.core.trust import load_signers
from processors.scan.scope.mask import column_of, compile_mask
from schemas.events.grants import Grant, Signature
from schemas.scope import Ask, GrantBook
from schemas.signing import TrustedSigner, cosign, distrust, sign
from tests.grant_examples import KEY, NOW, PUBLIC, grant

OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
OTHER_PUBLIC = base64.b64encode(OTHER_KEY.public_key().public_bytes_raw()).decode()
WIDE = TrustedSigner("tester", PUBLIC, ("198.18.0.0/15", "203.0.113.0/24", "::/0"))
NARROW = TrustedSigner("other", OTHER_PUBLIC, ("198.18.0.0/16",))


def test_a_signer_cannot_take_over_a_grant_that_he_could_not_have_given() -> None:
    book = GrantBook((WIDE, NARROW))
    assert book.learn(grant("a", ("203.0.113.0/24",), exclusions=("203.0.113.8/32",))) is None
    taken = sign(grant("a", ("198.18.0.0/24",), revision=9).model_copy(update={"signer": "other", "signature": ""}), OTHER_KEY)
    assert "may not replace" in (book.learn(taken) or "")
    assert book.known["a"].grant.revision == 1
    assert book.refusal("default", "a", "203.0.113.1", Ask("tcp", 22), NOW) is None
    assert book.learn(grant("a", ("203.0.113.0/24",), revision=2, revoked=True, key=KEY)) is None


def test_a_signer_may_revoke_what_he_could_have_granted() -> None:
    book = GrantBook((WIDE, NARROW))
    assert book.learn(grant("b", ("198.18.1.0/24",))) is None
    revoked = sign(
        grant("b", ("198.18.1.0/24",), revision=2, revoked=True).model_copy(update={"signer": "other", "signature": ""}), OTHER_KEY
    )
    assert book.learn(revoked) is None
    assert "revoked" in (book.refusal("default", "b", "198.18.1.1", Ask("tcp", 22), NOW) or "")


def refusal(book: GrantBook, port: int = 22) -> str | None:
    return book.refusal("default", "lab", "198.18.0.1", Ask("tcp", port), NOW)


def by_two(revision: int = 1, ports: str = "22") -> Grant:
    return cosign(grant(revision=revision, ports=ports), "other", OTHER_KEY)


def test_where_two_must_sign_a_grant_counts_with_its_second_signature_and_not_before() -> None:
    book = GrantBook((WIDE, NARROW), required=2)
    assert book.learn(grant(ports="22")) == "it waits for a second signature beside that of 'tester'"
    assert refusal(book) == "no trusted grant has the id lab"
    assert book.learn(by_two()) is None
    assert refusal(book) is None
    assert book.learn(grant(ports="22")) is None  # the record with one signature comes again: it takes nothing away
    assert refusal(book) is None


def test_an_amendment_waits_for_its_second_signature_while_the_revision_before_it_stands() -> None:
    book = GrantBook((WIDE, NARROW), required=2)
    assert book.learn(by_two()) is None
    assert "second signature" in (book.learn(grant(revision=2, ports="80")) or "")
    assert (refusal(book, 22), refusal(book, 80) is None) == (None, False)
    assert book.learn(by_two(2, "80")) is None
    assert (refusal(book, 22) is None, refusal(book, 80)) == (False, None)


def test_one_signer_is_enough_to_revoke() -> None:
    book = GrantBook((WIDE, NARROW), required=2)
    book.learn(by_two())
    assert book.learn(grant(revision=2, revoked=True)) is None
    assert refusal(book) == "grant lab was revoked"
    assert "second signature" in (book.learn(grant(revision=3)) or "")
    assert refusal(book) == "grant lab was revoked"


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (Signature(signer="stranger", signature="AAAA"), "nobody here trusts"),
        (Signature(signer="other", signature="AAAA"), "does not fit"),
        (Signature(signer="other", signature=by_two(2).cosignatures[0].signature), "does not fit"),
        (Signature(signer="tester", signature=grant().signature), "second signature"),
        (Signature(signer="tester-again", signature=grant().signature), "second signature"),
        (Signature(signer="elsewhere", signature=cosign(grant(), "", OTHER_KEY).cosignatures[0].signature), "may not grant"),
    ],
)
def test_what_is_no_second_signature(second: Signature, reason: str) -> None:
    again = TrustedSigner("tester-again", PUBLIC, WIDE.networks)
    elsewhere = TrustedSigner("elsewhere", OTHER_PUBLIC, ("203.0.113.0/24",))
    signers = (WIDE, NARROW, again, elsewhere)
    told = distrust(grant().model_copy(update={"cosignatures": (second,)}), signers, 2)
    assert told is not None
    assert "second signature" in told
    assert reason in told
    assert distrust(cosign(grant(), "other", OTHER_KEY), signers, 2) is None


def other_text(public: str) -> str:
    """The same 32 bytes in another text: base64 leaves two bits of its last sign unused."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return f"{public[:42]}{letters[letters.index(public[42]) | 1]}="


def test_one_key_counts_once_however_its_base64_is_spelled(tmp_path: Path) -> None:
    text = other_text(PUBLIC)
    assert (text != PUBLIC, base64.b64decode(text)) == (True, base64.b64decode(PUBLIC))
    again = TrustedSigner("tester-again", text, WIDE.networks)
    assert "second signature" in (distrust(cosign(grant(), "tester-again", KEY), (WIDE, again), 2) or "believed")
    (tmp_path / "signers.toml").write_text(f'[[signer]]\nname = "x"\npublic_key = "{text}"\nnetworks = ["198.18.0.0/15"]\n')
    with pytest.raises(BadInput, match=re.escape(f"own form, which is {PUBLIC}")):
        load_signers(Settings(data_dir=tmp_path))


def test_the_second_signature_alone_is_none() -> None:
    forged = by_two().model_copy(update={"signature": "AAAA"})
    assert distrust(forged, (WIDE, NARROW), 2) == "the signature of 'tester' does not fit the grant"


@pytest.mark.parametrize("address", ["::ffff:198.18.0.1", "::ffff:c612:1", "fe80::1%eth0"])
def test_ipv4_in_ipv6_and_interface_ids_are_never_covered(address: str) -> None:
    book = GrantBook((WIDE,))
    assert book.learn(grant("c", ("::/0",), exclusions=())) is None
    assert "own form" in (book.refusal("default", "c", address, Ask("tcp", 80), NOW) or "")


@pytest.mark.parametrize(
    "exclusion", ["::ffff:198.18.0.1/128", "::ffff:198.18.0.0/111", "::ffff:0:0/96", "::fffe:0:0/95", "::/64", "::/1", "::ffff:c612:0/120"]
)
def test_an_exclusion_written_as_ipv6_holds_for_the_ipv4_addresses_that_it_means(exclusion: str) -> None:
    book = GrantBook((WIDE,))
    assert book.learn(grant(exclusions=(exclusion,))) is None
    assert "excluded" in (refusal(book) or "")
    mask = compile_mask(book, "default", "lab", NOW)
    assert not mask.covers(column_of([int(ipaddress.IPv4Address("198.18.0.1"))], 4)).any()


def test_what_excludes_ipv6_alone_leaves_ipv4_alone() -> None:
    book = GrantBook((WIDE,))
    assert book.learn(grant(exclusions=("::/0", "2001:db8::/32", "::fffe:0:0/96", "::ffff:198.18.9.0/120"))) is None
    assert refusal(book) is None


def test_a_grant_of_ipv4_in_ipv6s_clothes_is_refused_and_says_how_to_write_it_but_its_revocation_is_not() -> None:
    book = GrantBook((WIDE,))
    assert "write it as 198.18.4.0/24" in (book.learn(grant(networks=("::ffff:198.18.4.0/120",))) or "")
    assert book.learn(grant(revision=2, networks=("::ffff:198.18.4.0/120",), revoked=True)) is None
