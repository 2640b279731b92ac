"""X.509 certificates (RFC 5280) as events. Pure: bytes in, facts out; nothing is verified."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa

from processors.scan.probing.evidence import clean
from schemas.events.observations import Certificate

MOST_NAMES = 100
EARLIEST = datetime(1950, 1, 1, tzinfo=UTC)
"""What comes before can't be written as RFC 5280, 4.1.2.5 wants it: whoever presents it means to break what reckons with it."""


def read_certificate(der: bytes) -> Certificate:
    """The facts of a certificate in DER form. Raises ValueError if it can't be read, or holds a date before 1950."""
    try:
        found = x509.load_der_x509_certificate(der)
        if min(found.not_valid_before_utc, found.not_valid_after_utc) < EARLIEST:
            raise ValueError("the certificate holds a date before 1950")
        key_type, key_bits = _key(found)
        return Certificate(
            sha256=hashlib.sha256(der).hexdigest(),
            subject=clean(found.subject.rfc4514_string()),
            issuer=clean(found.issuer.rfc4514_string()),
            names=_names(found),
            not_before=found.not_valid_before_utc,
            not_after=found.not_valid_after_utc,
            key_type=key_type,
            key_bits=key_bits,
            signature_hash=_signature_hash(found),
            self_signed=_self_signed(found),
        )
    except (x509.UnsupportedGeneralNameType, UnsupportedAlgorithm, TypeError, OverflowError) as error:
        raise ValueError(f"the certificate can't be read: {error}") from None


def _key(found: x509.Certificate) -> tuple[str, int]:
    try:
        key = found.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return "unknown", 0
    match key:
        case rsa.RSAPublicKey():
            return "RSA", key.key_size
        case ec.EllipticCurvePublicKey():
            return "EC", key.key_size
        case dsa.DSAPublicKey():
            return "DSA", key.key_size
        case ed25519.Ed25519PublicKey():
            return "Ed25519", 256
        case ed448.Ed448PublicKey():
            return "Ed448", 456
    return "unknown", 0


def _names(found: x509.Certificate) -> tuple[str, ...]:
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return ()
    texts = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
    return tuple(sorted({clean(text, 255) for text in texts})[:MOST_NAMES])


def _signature_hash(found: x509.Certificate) -> str:
    try:
        return found.signature_hash_algorithm.name if found.signature_hash_algorithm else ""
    except UnsupportedAlgorithm:
        return "unknown"


def _self_signed(found: x509.Certificate) -> bool:
    if found.subject != found.issuer:
        return False
    try:
        found.verify_directly_issued_by(found)
    except InvalidSignature:
        return False
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return True  # it says so itself, and the algorithm can't be checked
    return True
