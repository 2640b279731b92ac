"""Certificates instead of passwords: who has one that the broker's authority signed is the user that it names; no other gets in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from infra.app.people import require_kafka
from infra.core.errors import Refused
from infra.core.settings import KafkaSettings, Settings
from infra.kafka.access import AccessAdmin
from infra.kafka.client import connection, prefixed, producer_config
from infra.kafka.topics import TopicAdmin
from infra.local.broker import Broker
from tests.brokers import secure_settings
from tests.ports import free_ports

pytestmark = pytest.mark.kafka
KEY_PASSWORD = "key-password"
Signed = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def certificate(name: str, issuer: Signed | None, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """Of an authority where nobody issues it, else for a server and client of this name."""
    subject, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if issuer:
        made = made.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        made = made.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
    return made.sign(issuer[1] if issuer else key, hashes.SHA256())


def pem(key: ec.EllipticCurvePrivateKey, password: str | None = None) -> bytes:
    hidden = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden)


def write_pair(folder: Path, name: str, issuer: Signed, password: str | None = None) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    crt, secret = folder / f"{name}.crt", folder / f"{name}.key"
    crt.write_bytes(certificate(name, issuer, key).public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(pem(key, password))
    return crt, secret


def authority(name: str) -> Signed:
    key = ec.generate_private_key(ec.SECP256R1())
    return certificate(name, None, key), key


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mtls")


@pytest.fixture(scope="module")
def admin(folder: Path) -> Iterator[Settings]:
    ours = authority("ours")
    (folder / "ca.pem").write_bytes(ours[0].public_bytes(serialization.Encoding.PEM))
    crt, key = write_pair(folder, "broker", ours)
    (folder / "broker.pem").write_bytes(key.read_bytes() + crt.read_bytes())
    write_pair(folder, "scan-dmz", ours, KEY_PASSWORD)
    write_pair(folder, "nobody", ours)
    write_pair(folder, "stranger", authority("theirs"))
    (port,) = free_ports(1)
    base = secure_settings(folder, listen=f"127.0.0.1:{port}", certificate_file=folder / "broker.pem", client_ca_file=folder / "ca.pem")
    kafka = KafkaSettings(prefix="blue.", partitions=2, principals={"scan-dmz": ("scanner@dmz",)})
    settings = base.model_copy(update={"zones": ("default", "dmz"), "kafka": kafka})
    broker = Broker(settings)
    try:
        broker.start(timeout=60)
        TopicAdmin(settings).apply()
        access = AccessAdmin(settings)
        access.give(access.plan()[0])
        yield settings
    finally:
        broker.stop()


def client(admin: Settings, folder: Path, name: str | None, password: str | None = None) -> Settings:
    """The settings of another machine that has a certificate of this name, or none."""
    kafka = {"bootstrap": admin.broker.listen, "prefix": "blue.", "partitions": 2, "security_protocol": "SSL", "ca_file": folder / "ca.pem"}
    if name:
        kafka |= {"certificate_file": folder / f"{name}.crt", "key_file": folder / f"{name}.key", "key_password": password}
    return Settings(data_dir=folder / "other", kafka=KafkaSettings.model_validate(kafka))


def write(settings: Settings, topic: str) -> str:
    said: list[str] = []
    producer = Producer(producer_config(settings, **{"message.timeout.ms": 10_000}))
    producer.produce(prefixed(settings, topic), b"x", b"k", 0, on_delivery=lambda error, _: said.append(error.str() if error else ""))
    producer.flush(15)
    return said[0]


def test_a_certificate_is_the_login_and_its_name_has_the_rights(admin: Settings, folder: Path) -> None:
    scanner = client(admin, folder, "scan-dmz", KEY_PASSWORD)
    require_kafka(scanner)
    assert write(scanner, "probes") == ""
    assert "authorization failed" in write(scanner, "grants").lower()
    assert "blue.work.dmz" in AdminClient(connection(scanner)).list_topics(timeout=15).topics
    nobody = client(admin, folder, "nobody")
    assert "authorization failed" in write(nobody, "probes").lower()
    assert list(AdminClient(connection(nobody)).list_topics(timeout=15).topics) == []


@pytest.mark.parametrize("name", ["stranger", None])
def test_a_certificate_of_another_authority_or_none_is_refused(admin: Settings, folder: Path, name: str | None) -> None:
    other = {**connection(client(admin, folder, name)), "log_level": 0}
    with pytest.raises(KafkaException):
        AdminClient(other).list_topics(timeout=2)
    with pytest.raises(Refused, match="refuses the login"):
        require_kafka(client(admin, folder, name))


def test_a_broker_whose_certificate_another_authority_signed_is_not_believed(admin: Settings, folder: Path) -> None:
    (folder / "wrong.pem").write_bytes(authority("wrong")[0].public_bytes(serialization.Encoding.PEM))
    settings = client(admin, folder, "nobody")
    mistaken = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"ca_file": folder / "wrong.pem"})})
    with pytest.raises(Refused, match="refuses the login"):
        require_kafka(mistaken)
