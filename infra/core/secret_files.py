"""Secrets that this machine makes for itself: a file each, for its owner's eyes only."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from infra.core.errors import MissingPrerequisite

ADMIN = "admin"
"""The embedded broker's superuser: whoever may read its password file, which is the user who runs Driftline."""


def admin_password_file(data_dir: Path) -> Path:
    """Where the embedded broker's administrator's password is kept."""
    return data_dir / "kafka" / "admin.password"


def store_token_file(data_dir: Path) -> Path:
    """Where the local store keeps its writer's token."""
    return data_dir / "store.token"


def make_secret(path: Path) -> str:
    """The secret of this file; a new one of 256 bits where there is none yet. Raises OSError; MissingPrerequisite if it can't be read."""
    if path.exists():
        path.chmod(0o600)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_secret(path, secrets.token_hex(32))
    return read_secret(path)


def write_secret(path: Path, secret: str) -> None:
    """Put a secret into a file of mode 0600, whole or not at all. Raises OSError."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{secret}\n")
    draft.replace(path)


def read_secret(path: Path) -> str:
    """The secret that `driftline up` made for its servers. Raises MissingPrerequisite if the file can't be read or is empty."""
    try:
        secret = path.read_text().strip()
    except OSError as error:
        raise MissingPrerequisite(
            f"The secret in {path} can't be read: {error.strerror}.",
            "Start the servers once (driftline up), as the same user and with the same DRIFTLINE_DATA_DIR.",
        ) from None
    if not secret:
        raise MissingPrerequisite(f"{path} is empty.", "Remove it and start the servers (driftline up): they make a new one.")
    return secret
