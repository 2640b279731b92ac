"""Signing keys: Ed25519 in PEM files that only their owner can read, and the list of public keys that this machine trusts."""

from __future__ import annotations

import base64
import ipaddress
import json
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from infra.core.errors import BadInput, MissingPrerequisite
from infra.core.settings import Settings
from infra.core.trust import load_signers, signers_path

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key and the name that signers are known by."""

    name: str
    private: Ed25519PrivateKey

    @property
    def public(self) -> str:
        """The public key, 32 bytes, base64."""
        return base64.b64encode(self.private.public_key().public_bytes_raw()).decode()


def key_path(settings: Settings, name: str) -> Path:
    """Where the private key of this name is kept."""
    return settings.data_dir / "keys" / f"{name}.pem"


def create_key(settings: Settings, name: str, networks: tuple[str, ...]) -> SigningKey:
    """Make a key and trust it here to grant these networks. Raises BadInput for a name that is taken."""
    _check(name, networks)
    path = key_path(settings, name)
    if path.exists():
        raise BadInput(f"There is a key named '{name}' already: {path}.", "Choose another name.")
    private = Ed25519PrivateKey.generate()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
    key = SigningKey(name, private)
    trust_key(settings, name, key.public, networks)
    return key


def ensure_key(settings: Settings, name: str, networks: tuple[str, ...]) -> SigningKey:
    """The key of this name, made and trusted if it is not there yet."""
    if not key_path(settings, name).exists():
        return create_key(settings, name, networks)
    key = load_key(settings, name)
    trust_key(settings, name, key.public, networks)
    return key


def load_key(settings: Settings, name: str) -> SigningKey:
    """The key of this name. Raises MissingPrerequisite if there is none, BadInput if others can read it or it is no Ed25519 key."""
    path = key_path(settings, name)
    try:
        mode, pem = path.stat().st_mode, path.read_bytes()
    except FileNotFoundError:
        raise MissingPrerequisite(
            f"There is no signing key named '{name}'.", f"Make one with 'driftline grant keygen {name} --network …'."
        ) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise BadInput(f"Others can read the signing key {path}.", f"Run: chmod 600 {path}")
    try:
        private = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise BadInput(f"{path} is not a private key: {error}.", "Restore it, or make another one.") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise BadInput(f"{path} is not an Ed25519 key.", "Make another one with 'driftline grant keygen'.")
    return SigningKey(name, private)


def trust_key(settings: Settings, name: str, public_key: str, networks: tuple[str, ...]) -> None:
    """Add a public key to this machine's signers file, unless it is there. Raises BadInput if the name has another key."""
    _check(name, networks)
    known = next((one for one in load_signers(settings) if one.name == name), None)
    if known is not None:
        if known.public_key != public_key:
            raise BadInput(f"The name '{name}' is trusted with another key.", f"Choose another name, or mend {signers_path(settings)}.")
        return
    path = signers_path(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_text() if path.exists() else "# Whom this machine trusts to grant probing, and for which networks.\n"
    # JSON strings and arrays of them are TOML as well.
    entry = f"\n[[signer]]\nname = {json.dumps(name)}\npublic_key = {json.dumps(public_key)}\nnetworks = {json.dumps(list(networks))}\n"
    fresh = path.with_suffix(".new")
    fresh.write_text(before + entry)
    fresh.replace(path)


def _check(name: str, networks: tuple[str, ...]) -> None:
    if not NAME.fullmatch(name):
        raise BadInput(f"'{name}' is not a name for a key.", "Use small letters, digits, '.', '_' and '-', e.g. 'network-team'.")
    if not networks:
        raise BadInput(
            "A key that may grant no network is of no use.", "Name the networks that it may grant, e.g. --network 198.18.0.0/15."
        )
    for text in networks:
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            raise BadInput(f"{error}.", "Write networks as 198.18.0.0/15 or 2001:db8::/64.") from None
