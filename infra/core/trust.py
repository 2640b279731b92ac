"""Whom this machine trusts to grant: the keys in the settings and in the local signers file. Never anything from Kafka.

The file is TOML: `[[signer]]` tables with `name`, `public_key` (Ed25519, 32 bytes, base64) and `networks`.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from infra.core.errors import BadInput
from infra.core.settings import Settings, Signer
from schemas.signing import TrustedSigner
from schemas.wording import what_is_wrong


def signers_path(settings: Settings) -> Path:
    """Where the signers file is, or would be."""
    return settings.scope.signers_file or settings.data_dir / "signers.toml"


def signers_stamp(settings: Settings) -> tuple[int, int] | None:
    """Changes whenever the signers file does (time of change in ns, size); None: there is no file."""
    try:
        found = signers_path(settings).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def load_signers(settings: Settings) -> tuple[TrustedSigner, ...]:
    """All trusted signers, the settings' own first; a name counts once. Raises BadInput for a file that can't be used."""
    signers: dict[str, Signer] = {}
    for one in (*settings.scope.signers, *_from_file(signers_path(settings))):
        signers.setdefault(one.name, one)
    return tuple(_checked(one, settings) for one in signers.values())


def _from_file(path: Path) -> list[Signer]:
    try:
        document: dict[str, Any] = tomllib.loads(path.read_text())
        return [Signer.model_validate(one) for one in document.get("signer", [])]
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError, TypeError) as error:
        reason = what_is_wrong(error) if isinstance(error, ValidationError) else str(error)
        raise BadInput(
            f"The signers file {path} can't be used: {reason}.", "Mend it, or move it away and make it anew with 'driftline grant keygen'."
        ) from None


def _checked(one: Signer, settings: Settings) -> TrustedSigner:
    try:
        key = base64.b64decode(one.public_key, validate=True)
        if len(key) != 32:
            raise ValueError("its key is not 32 bytes long")
        if base64.b64encode(key).decode() != one.public_key:
            raise ValueError(f"its key is not in base64's own form, which is {base64.b64encode(key).decode()}")
        for network in one.networks:
            ipaddress.ip_network(network, strict=False)
    except (binascii.Error, ValueError) as error:
        raise BadInput(f"The trusted signer '{one.name}' is wrong: {error}.", f"See the settings and {signers_path(settings)}.") from None
    return TrustedSigner(one.name, one.public_key, one.networks)
