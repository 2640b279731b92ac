"""Certificates whose dates nothing can reckon with."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from processors.scan.probes.tls import read
from processors.scan.probing.certificates import read_certificate

LATE = b"20600101000000Z"


def certificate(not_after: bytes) -> bytes:
    """A certificate in DER form whose GeneralizedTime is replaced, as only a hostile host writes it."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    made = builder.not_valid_before(datetime(2026, 1, 1, tzinfo=UTC)).not_valid_after(datetime(2060, 1, 1, tzinfo=UTC))
    der = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    assert der.count(LATE) == 1
    return der.replace(LATE, not_after)


@pytest.mark.parametrize("not_after", [b"00010102000000Z", b"19491231235959Z"])
def test_a_date_before_1950_makes_a_certificate_unusable(not_after: bytes) -> None:
    der = certificate(not_after)
    with pytest.raises(ValueError, match="before 1950"):
        read_certificate(der)
    assert read(der) == (None, {"tls.certificate": "unreadable"})


@pytest.mark.parametrize("not_after", [b"19500101000000Z", LATE, b"99991231235959Z"])
def test_dates_that_rfc_5280_allows_are_read(not_after: bytes) -> None:
    assert f"{read_certificate(certificate(not_after)).not_after:%Y%m%d%H%M%SZ}".encode() == not_after
