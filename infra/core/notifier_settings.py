"""The notifier's branch of the settings: webhooks and how they are told."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from infra.core.section import Section


class Webhook(Section):
    """Whom to tell of findings by HTTP, and of which."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$", description="what it is called: part of its consumer group and of its messages")
    url: str = Field(description="http(s)://… that takes a POST; a redirect is not followed")
    secret: SecretStr | None = Field(None, description="signs each message: `whsec_` and base64, or text of at least 24 characters")
    secret_file: Path | None = Field(None, description="a file that holds the secret")
    rules: tuple[str, ...] = Field((), description="rules to tell of, `*` allowed; none: all")
    min_rank: Literal["critical", "high", "medium", "low", "info"] = Field("high", description="least rank to tell of")
    zones: tuple[str, ...] = Field((), description="zones to tell of; none: all")
    baseline: bool = Field(False, description="also tell of what was there already when it was looked at for the first time")

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("url is not http(s)://host…")
        if "@" in parts.netloc:
            raise ValueError("url holds a password, which is shown in places: let the receiver check the signature instead")
        if self.secret is None:
            raise ValueError("secret or secret_file is missing: without it nobody can tell our messages from forged ones")
        signing_key(self.secret.get_secret_value())
        return self


def signing_key(secret: str) -> bytes:
    """The key of a webhook's secret (Standard Webhooks: `whsec_` and base64 of 24 to 64 bytes). Raises ValueError with a sentence."""
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True) if secret.startswith("whsec_") else secret.encode()
    except binascii.Error:
        raise ValueError("secret begins with whsec_ and is no base64") from None
    if len(key) < 24:
        raise ValueError("secret is too short: at least 24 bytes, e.g. `openssl rand -base64 32` behind whsec_")
    return key


class NotifierSettings(Section):
    """How findings are told to others. Each webhook has a queue of its own: one that is away holds up nobody else."""

    webhooks: tuple[Webhook, ...] = Field(
        (), description="[[notifier.webhooks]]: `name`, `url`, `secret` or `secret_file`, `rules`, `min_rank`, `zones`, `baseline`"
    )
    group_seconds: float = Field(2.0, ge=0, le=60, description="what comes within so long of the first goes out as one message")
    group_most: int = Field(1000, ge=1, le=10_000, description="most findings of one message")
    timeout: float = Field(10.0, gt=0, le=60, description="seconds that a receiver may take to answer, all in all")
    attempts: int = Field(12, ge=1, le=100, description="a message that failed so often goes to `dlq.pages`")
    backoff_seconds: float = Field(1.0, gt=0, description="wait before the second attempt; it doubles with each")
    backoff_most_seconds: float = Field(60.0, gt=0, description="longest wait between two attempts")

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        names = [one.name for one in self.webhooks]
        if len(names) != len(set(names)):
            raise ValueError("two webhooks have the same name")
        return self
