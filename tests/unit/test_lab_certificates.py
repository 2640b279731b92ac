"""The lab's certificates are kept between runs, and made anew when they no longer show what they are for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from infra.local.lab.certificates import certificate, host_key
from infra.local.lab.plan import CERTIFICATES

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize("name", sorted(CERTIFICATES))
def test_a_certificate_has_the_validity_of_its_description(tmp_path: Path, name: str) -> None:
    spec = CERTIFICATES[name]
    made = x509.load_pem_x509_certificate(certificate(tmp_path, spec, NOW).pem.encode())
    assert made.not_valid_before_utc == NOW + timedelta(days=spec.from_days)
    assert made.not_valid_after_utc == NOW + timedelta(days=spec.to_days)
    assert (made.issuer == made.subject) == spec.self_signed


def test_it_is_kept_until_it_is_too_old(tmp_path: Path) -> None:
    spec = CERTIFICATES["expiring"]
    first = certificate(tmp_path, spec, NOW)
    assert certificate(tmp_path, spec, NOW + timedelta(days=1)) == first
    later = certificate(tmp_path, spec, NOW + timedelta(days=3))
    assert later.sha256 != first.sha256
    assert certificate(tmp_path, spec, NOW + timedelta(days=4)) == later


def test_a_host_key_is_kept(tmp_path: Path) -> None:
    assert host_key(tmp_path, "bastion") == host_key(tmp_path, "bastion")
    assert host_key(tmp_path, "bastion") != host_key(tmp_path, "other")
