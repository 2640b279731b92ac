"""How this process logs in at the cluster: as the settings say, else as the administrator of the embedded broker."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

from infra.core.secret_files import ADMIN, admin_password_file, read_secret
from infra.core.settings import Settings


@dataclass(frozen=True, slots=True)
class Login:
    """Security protocol, SASL mechanism, user and password; the last three count only where the protocol is SASL."""

    protocol: str
    mechanism: str = ""
    username: str = ""
    password: str = field(default="", repr=False)

    @property
    def sasl(self) -> bool:
        """Whether there is a user and a password."""
        return self.protocol.startswith("SASL")

    @property
    def encrypted(self) -> bool:
        """Whether connections are encrypted."""
        return self.protocol.endswith("SSL")


def login(settings: Settings) -> Login:
    """The login. Raises MissingPrerequisite where the embedded broker wants one and its administrator's password can't be read."""
    kafka = settings.kafka
    if kafka.bootstrap is None and settings.broker.sasl and kafka.sasl_username is None:
        return Login("SASL_PLAINTEXT", "PLAIN", ADMIN, read_secret(admin_password_file(settings.data_dir)))
    if not kafka.security_protocol.startswith("SASL"):
        return Login(kafka.security_protocol)
    password = kafka.sasl_password.get_secret_value() if kafka.sasl_password else ""
    return Login(kafka.security_protocol, kafka.sasl_mechanism, kafka.sasl_username or "", password)


def client_context(settings: Settings) -> ssl.SSLContext:
    """The same for clients that use Python's TLS (Faust's). Raises OSError for files that can't be read."""
    kafka = settings.kafka
    context = ssl.create_default_context(cafile=str(kafka.ca_file) if kafka.ca_file else None)
    if kafka.certificate_file is not None:
        password = kafka.key_password.get_secret_value() if kafka.key_password else None
        context.load_cert_chain(str(kafka.certificate_file), str(kafka.key_file), password)
    return context
