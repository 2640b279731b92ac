"""How a new agent gets a password that only it knows, from a token that works once. Pure, but for the keys and passwords it makes.

The operator's command makes a key pair and a user whose only right is to write `enrolments`, and waits; both are in the token, and both
end with it. The agent makes its password itself and sends it sealed for that key (X25519, RFC 7748; HKDF-SHA256, RFC 5869;
ChaCha20-Poly1305, RFC 8439). Why so: docs/adr/0014-one-time-enrolment.md.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import tomllib
from collections.abc import Sequence
from typing import Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from infra.core.errors import BadInput
from infra.core.settings import Signer

PREFIX = "driftline1."
NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
KEY_BYTES, NONCE_BYTES = 32, 12


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


def new_key() -> X25519PrivateKey:
    """The operator's key of one enrolment; it never leaves the command's memory."""
    return X25519PrivateKey.generate()


def public_text(key: X25519PrivateKey) -> str:
    """The half that goes into the token."""
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def seal(password: str, agent: str, public_key: str) -> bytes:
    """A password that only the holder of the private key can read, and only for this agent."""
    mine = X25519PrivateKey.generate()
    theirs = X25519PublicKey.from_public_bytes(base64.b64decode(public_key))
    nonce = secrets.token_bytes(NONCE_BYTES)
    public = mine.public_key().public_bytes_raw()
    return public + nonce + _cipher(mine.exchange(theirs), public).encrypt(nonce, password.encode(), agent.encode())


def unseal(sealed: bytes, agent: str, key: X25519PrivateKey) -> str | None:
    """The password; None if this was not sealed for this key and agent, or is no password."""
    public, nonce = sealed[:KEY_BYTES], sealed[KEY_BYTES : KEY_BYTES + NONCE_BYTES]
    try:
        shared = key.exchange(X25519PublicKey.from_public_bytes(public))
        password = _cipher(shared, public).decrypt(nonce, sealed[KEY_BYTES + NONCE_BYTES :], agent.encode()).decode()
    except (InvalidTag, ValueError):
        return None
    return password if re.fullmatch(r"[0-9a-f]{64}", password) else None


def _cipher(shared: bytes, public: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(HKDF(hashes.SHA256(), 32, salt=public, info=b"driftline enrolment 1").derive(shared))


def settings_text(token: Token, password_file: str, ca_file: str | None) -> str:
    """The agent's driftline.toml. The password stands in a file of its own."""
    lines = [
        "# Written by 'driftline agents join'. Start the agent with: driftline run scanner",
        f"zones = {_list(token.zones)}",
        "",
        "[scanner]",
        f"zone = {_text(token.zone)}",
        f"agent_id = {_text(token.agent)}",
        "",
        "[kafka]",
        f"bootstrap = {_text(token.bootstrap)}",
        f"prefix = {_text(token.prefix)}",
        f"partitions = {token.partitions}",
        f"security_protocol = {_text(token.protocol)}",
        f"sasl_username = {_text(agent_user(token.prefix, token.agent))}",
        f"sasl_password_file = {_text(password_file)}",
        *([f"ca_file = {_text(ca_file)}"] if ca_file else []),
        *(["", "[registry]", f"url = {_text(token.registry)}"] if token.registry else []),
        "",
        "[scope]",
        f"signers_required = {token.signers_required}",
    ]
    for one in token.signers:
        lines += [
            "",
            "[[scope.signers]]",
            f"name = {_text(one.name)}",
            f"public_key = {_text(one.public_key)}",
            f"networks = {_list(one.networks)}",
        ]
    text = "\n".join(lines) + "\n"
    tomllib.loads(text)
    return text


def _text(value: str) -> str:
    return json.dumps(value)  # a TOML basic string has JSON's escapes


def _list(values: Sequence[str]) -> str:
    return f"[{', '.join(map(_text, values))}]"
