"""What the embedded Kafka is told where clients must log in. Pure. Sources: Apache Kafka 4.3, "Security"; KIP-684, KIP-651 (PEM files).

Two listeners. On loopback each role logs in with a SCRAM password of its own, the administrator by PLAIN with a password that stands in a
file of this machine: so a broker that ran without logins can be given them without being formatted anew. Scanners on other machines
come in at `listen`: SCRAM, encrypted where there is a certificate, or by a certificate of their own. The KRaft controller is behind a
login too, else any user of this machine could change its metadata.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from infra.core.secret_files import ADMIN

HOST = "127.0.0.1"
REAUTHENTICATE_MS = 30_000
"""A connection from outside must log in again so often: that is how long one outlives its password (its rights end at once)."""
_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"


@dataclass(frozen=True, slots=True)
class BrokerAccess:
    """The administrator's password, and the way in from other machines (`listen` is address:port)."""

    password: str = field(repr=False)
    listen: str | None = None
    certificate: Path | None = None
    client_ca: Path | None = None

    @property
    def outside(self) -> str:
        """The security protocol of `listen`."""
        return "SSL" if self.client_ca else "SASL_SSL" if self.certificate else "SASL_PLAINTEXT"


def access_properties(access: BrokerAccess, port: int, controller_port: int) -> dict[str, object]:
    """Listeners, logins and the authoriser; they take the place of the open listener's properties."""
    admin = f'{_PLAIN} required username="{ADMIN}" password="{access.password}" user_{ADMIN}="{access.password}";'
    local = f"LOCAL://{HOST}:{port}"
    ways = {"LOCAL": "SASL_PLAINTEXT", "CONTROLLER": "SASL_PLAINTEXT"}
    found: dict[str, object] = {
        "listeners": f"{local},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": local,
        "inter.broker.listener.name": "LOCAL",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "sasl.mechanism.controller.protocol": "PLAIN",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.local.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        "listener.name.local.plain.sasl.jaas.config": admin,
        "listener.name.local.scram-sha-512.sasl.jaas.config": f"{_SCRAM} required;",
        "listener.name.controller.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.controller.plain.sasl.jaas.config": admin,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "false",
        "super.users": f"User:{ADMIN}",
    }
    if access.listen is not None:
        ways["REMOTE"] = access.outside
        found["listeners"] = f"{found['listeners']},REMOTE://{access.listen}"
        found["advertised.listeners"] = f"{local},REMOTE://{access.listen}"
        found |= _remote(access)
    return found | {"listener.security.protocol.map": ",".join(f"{name}:{way}" for name, way in ways.items())}


def _remote(access: BrokerAccess) -> dict[str, object]:
    name = "listener.name.remote"
    found: dict[str, object] = {}
    if access.outside != "SSL":
        found |= {
            f"{name}.scram-sha-512.sasl.jaas.config": f"{_SCRAM} required;",
            f"{name}.scram-sha-512.connections.max.reauth.ms": REAUTHENTICATE_MS,
        }
    if access.certificate is not None:
        found |= {f"{name}.ssl.keystore.type": "PEM", f"{name}.ssl.keystore.location": access.certificate}
    if access.client_ca is not None:
        found |= {
            f"{name}.ssl.client.auth": "required",
            f"{name}.ssl.truststore.type": "PEM",
            f"{name}.ssl.truststore.location": access.client_ca,
            # The name on the certificate is the user's name on the cluster.
            "ssl.principal.mapping.rules": "RULE:^(?:.*,)?CN=([^,]+)(?:,.*)?$/$1/,DEFAULT",
        }
    return found
