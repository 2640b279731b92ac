"""Signatures of grants: Ed25519 (RFC 8032) over the RFC 8785 JSON of the grant without its signature. Pure."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from schemas.events.grants import Grant


@dataclass(frozen=True, slots=True)
class TrustedSigner:
    """A public key (32 bytes, base64) of the local settings, and the networks that it may grant."""

    name: str
    public_key: str
    networks: tuple[str, ...]


def signed_bytes(grant: Grant) -> bytes:
    """What a signature covers: canonical JSON of everything but the signature."""
    return rfc8785.dumps(grant.model_dump(mode="json", exclude={"signature"}))


def sign(grant: Grant, key: Ed25519PrivateKey) -> Grant:
    """The grant with its signature."""
    return grant.model_copy(update={"signature": base64.b64encode(key.sign(signed_bytes(grant))).decode()})


def distrust(grant: Grant, signers: Iterable[TrustedSigner]) -> str | None:
    """Why a grant is not believed, or None if a trusted key signed it for networks that the key may grant."""
    signer = next((one for one in signers if one.name == grant.signer), None)
    if signer is None:
        return f"nobody here trusts a signer named '{grant.signer}'"
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(signer.public_key, validate=True))
        key.verify(base64.b64decode(grant.signature, validate=True), signed_bytes(grant))
    except (InvalidSignature, binascii.Error, ValueError):
        return f"the signature of '{grant.signer}' does not fit the grant"
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
