"""Makes the lab's certificates, and keeps them between runs: a second demo must not look like a changed certificate."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.x509.oid import NameOID

from infra.local.lab.plan import CertificateSpec


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM texts, and the SHA-256 of the DER form in lower-case hex."""

    pem: str
    key_pem: str
    sha256: str


def certificate(folder: Path, spec: CertificateSpec, now: datetime) -> Certificate:
    """Read the certificate from `folder`, or make it there where it is missing or too old. `now` is timezone-aware."""
    path = folder / f"{spec.name}.pem"
    if path.exists():
        pem = path.read_text()
        found = x509.load_pem_x509_certificate(pem.encode())
        if now - (found.not_valid_before_utc - timedelta(days=spec.from_days)) < timedelta(days=spec.keep_days):
            return Certificate(pem, (folder / f"{spec.name}.key").read_text(), found.fingerprint(hashes.SHA256()).hex())
    made, key = _make(spec, now)
    pem = made.public_bytes(serialization.Encoding.PEM).decode()
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    ).decode()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / f"{spec.name}.key").write_text(key_pem)
    path.write_text(pem)
    return Certificate(pem, key_pem, made.fingerprint(hashes.SHA256()).hex())


def _make(spec: CertificateSpec, now: datetime) -> tuple[x509.Certificate, rsa.RSAPrivateKey]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    signer = key if spec.self_signed else rsa.generate_private_key(public_exponent=65537, key_size=2048)
    issuer = spec.common_name if spec.self_signed else "Driftline lab authority"
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, spec.common_name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=spec.from_days))
        .not_valid_after(now + timedelta(days=spec.to_days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(spec.common_name)]), critical=False)
        .sign(signer, hashes.SHA256())
    )
    return made, key


def host_key(folder: Path, host: str) -> str:
    """The SSH host key of a lab host in OpenSSH's format, made on the first call and kept."""
    path = folder / f"{host}.ssh"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = ed25519.Ed25519PrivateKey.generate()
        path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()))
    return path.read_text()
