"""Who may replace a grant, and which forms of an address are none."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.scope import Ask, GrantBook
from schemas.signing import TrustedSigner, sign
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


@pytest.mark.parametrize("address", ["::ffff:198.18.0.1", "::ffff:c612:1", "fe80::1%eth0"])
def test_ipv4_in_ipv6_and_interface_ids_are_never_covered(address: str) -> None:
    book = GrantBook((WIDE,))
    assert book.learn(grant("c", ("::/0",), exclusions=())) is None
    assert "own form" in (book.refusal("default", "c", address, Ask("tcp", 80), NOW) or "")
