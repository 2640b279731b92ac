"""How a new agent gets a password that only it knows, from a token that works once. Pure, but for the keys and passwords it makes.

The operator's command makes a key pair and a user whose only right is to write `enrolments`, and waits; both are in the token, and both
end with it. The agent makes its password itself and sends it sealed for that key (HPKE, RFC 9180: X25519, HKDF-SHA256,
ChaCha20-Poly1305). Why so: docs/adr/0014-one-time-enrolment.md.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from typing import Literal

import tomli_w
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from infra.core.errors import BadInput
from infra.core.settings import Signer

PREFIX = "driftline1."
NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


class Token(BaseModel):
    """All that a new machine needs. Whoever holds it within its time can become this agent, once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    agent: str
    zone: str
    zones: tuple[str, ...]
    bootstrap: str
    prefix: str
    partitions: int
    protocol: Literal["SASL_PLAINTEXT", "SASL_SSL"]
    ca: str = ""
    registry: str | None = None
    signers: tuple[Signer, ...]
    signers_required: int = 1
    password: SecretStr
    public_key: str

    def text(self) -> str:
        """As it is handed on."""
        fields = self.model_dump(mode="json") | {"password": self.password.get_secret_value()}
        return PREFIX + base64.urlsafe_b64encode(json.dumps(fields, separators=(",", ":")).encode()).decode().rstrip("=")

    @classmethod
    def read(cls, text: str) -> Token:
        """Raises BadInput for what is no token; it is not repeated."""
        body = text.strip().removeprefix(PREFIX)
        try:
            if body == text.strip():
                raise ValueError
            return cls.model_validate_json(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        except (ValueError, ValidationError):
            raise BadInput(
                "This is no enrolment token, or not all of it.", "Copy the whole line that 'driftline agents enrol' printed."
            ) from None


def agent_user(prefix: str, agent: str) -> str:
    """The agent's user on the cluster."""
    return f"{prefix}agent.{agent}"


def joining_user(prefix: str, agent: str) -> str:
    """The user that lives as long as the token."""
    return f"{prefix}joining.{agent}"


def check_name(agent: str) -> None:
    """Raises BadInput for a name that can't be part of a user's name and of an id."""
    if not NAME.fullmatch(agent):
        raise BadInput(f"'{agent[:80]}' is no name for an agent.", "Use up to 63 small letters, digits, dots and dashes.")


def new_password() -> str:
    """256 bits."""
    return secrets.token_hex(32)


def public_text(key: X25519PrivateKey) -> str:
    """The half that goes into the token."""
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def seal(password: str, agent: str, public_key: str) -> bytes:
    """A password that only the holder of the private key can read, and only for this agent."""
    theirs = X25519PublicKey.from_public_bytes(base64.b64decode(public_key))
    return SUITE.encrypt(password.encode(), theirs, _purpose(agent))


def unseal(sealed: bytes, agent: str, key: X25519PrivateKey) -> str | None:
    """The password; None if this was not sealed for this key and agent, or is no password."""
    try:
        password = SUITE.decrypt(sealed, key, _purpose(agent)).decode()
    except (InvalidTag, ValueError):
        return None
    return password if re.fullmatch(r"[0-9a-f]{64}", password) else None


def _purpose(agent: str) -> bytes:
    return f"driftline enrolment 1 {agent}".encode()


def settings_text(token: Token, password_file: str, ca_file: str | None) -> str:
    """The agent's driftline.toml. The password stands in a file of its own."""
    kafka = {
        "bootstrap": token.bootstrap,
        "prefix": token.prefix,
        "partitions": token.partitions,
        "security_protocol": token.protocol,
        "sasl_username": agent_user(token.prefix, token.agent),
        "sasl_password_file": password_file,
    }
    signers = [{"name": one.name, "public_key": one.public_key, "networks": list(one.networks)} for one in token.signers]
    settings = {
        "zones": list(token.zones),
        "scanner": {"zone": token.zone, "agent_id": token.agent},
        "kafka": kafka | ({"ca_file": ca_file} if ca_file else {}),
        **({"registry": {"url": token.registry}} if token.registry else {}),
        "scope": {"signers_required": token.signers_required, "signers": signers},
    }
    return "# Written by 'driftline agents join'. Start the agent with: driftline run scanner\n" + tomli_w.dumps(settings)
