"""A grant that is signed without a broker is one that this machine believes."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from infra.core.errors import Refused
from infra.core.settings import load_settings
from infra.core.trust import load_signers
from schemas.events.grants import Grant
from schemas.scope import GrantBook
from tests.commands import invoke


def test_it_is_printed_and_believed_and_its_revocation_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLINE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("DRIFTLINE_KAFKA__BOOTSTRAP", "127.0.0.1:1")
    assert invoke("grant", "keygen", "--network", "198.18.0.0/16").exit_code == 0
    made = invoke("grant", "create", "-n", "198.18.4.0/24", "--expires", "1h", "--offline")
    grant = Grant.model_validate_json(made.stdout)
    book = GrantBook(load_signers(load_settings()))
    assert book.learn(grant) is None
    assert grant.networks == ("198.18.4.0/24",)
    forged = grant.model_copy(update={"expires_at": grant.expires_at + timedelta(days=9), "revision": 2})
    assert book.learn(forged) is not None
    assert "known with other content" in (book.learn(forged.model_copy(update={"revision": 1})) or "")
    outside = invoke("grant", "create", "-n", "203.0.113.0/24", "--expires", "1h", "--offline")
    assert isinstance(outside.exception, Refused)
