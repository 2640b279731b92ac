"""Signatures of grants: Ed25519 (RFC 8032) over the RFC 8785 JSON of the grant without its signatures. Pure."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from schemas.events.grants import Grant, Signature


@dataclass(frozen=True, slots=True)
class TrustedSigner:
    """A public key (32 bytes, base64) of the local settings, and the networks that it may grant."""

    name: str
    public_key: str
    networks: tuple[str, ...]


def signed_bytes(grant: Grant) -> bytes:
    """What every signature covers: canonical JSON of everything but the signatures."""
    return rfc8785.dumps(grant.model_dump(mode="json", exclude={"signature", "cosignatures"}))


def sign(grant: Grant, key: Ed25519PrivateKey) -> Grant:
    """The grant with its first signature, which is the word of `grant.signer`."""
    return grant.model_copy(update={"signature": _signature(grant, key)})


def cosign(grant: Grant, name: str, key: Ed25519PrivateKey) -> Grant:
    """The same revision of a signed grant with the signature of a further signer, who is known as `name`."""
    return grant.model_copy(update={"cosignatures": (*grant.cosignatures, Signature(signer=name, signature=_signature(grant, key)))})


def distrust(grant: Grant, signers: Iterable[TrustedSigner], required: int = 1) -> str | None:
    """Why a grant is not believed, or None if `required` trusted keys signed it for networks that each of them may grant.

    One key counts once, whatever names it is trusted under. One signer is enough to revoke: who takes leave away need not be two.
    """
    trusted = tuple(signers)
    problem = flaw(grant, Signature(signer=grant.signer, signature=grant.signature), trusted)
    if problem is not None:
        return problem
    fit = [one.signer for one in grant.cosignatures if flaw(grant, one, trusted) is None]
    # Two texts of base64 may stand for the same 32 bytes: the key is what counts.
    keys = {base64.b64decode(one.public_key) for one in trusted if one.name in (grant.signer, *fit)}
    if grant.revoked or len(keys) >= required:
        return None
    wrong = next((f" ({reason})" for one in grant.cosignatures if (reason := flaw(grant, one, trusted))), "")
    return f"it waits for a second signature beside that of '{grant.signer}'{wrong}"


def flaw(grant: Grant, signature: Signature, signers: Iterable[TrustedSigner]) -> str | None:
    """Why one signature of a grant counts for nothing, or None if a trusted signer gave it for networks that he may grant."""
    signer = next((one for one in signers if one.name == signature.signer), None)
    if signer is None:
        return f"nobody here trusts a signer named '{signature.signer}'"
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(signer.public_key, validate=True))
        key.verify(base64.b64decode(signature.signature, validate=True), signed_bytes(grant))
    except (InvalidSignature, binascii.Error, ValueError):
        return f"the signature of '{signature.signer}' does not fit the grant"
    return not_grantable(grant.networks, signer)


def not_grantable(networks: Iterable[str], signer: TrustedSigner) -> str | None:
    """Why a signer may not grant all of these networks, or None if he may."""
    allowed = [ipaddress.ip_network(one, strict=False) for one in signer.networks]
    for text in networks:
        try:
            network = ipaddress.ip_network(text)
        except ValueError:
            return f"'{text}' is not a network"
        if not any(network.version == one.version and network.subnet_of(one) for one in allowed):  # type: ignore[arg-type]
            return f"'{signer.name}' may not grant {network}"
    return None


def _signature(grant: Grant, key: Ed25519PrivateKey) -> str:
    return base64.b64encode(key.sign(signed_bytes(grant))).decode()
