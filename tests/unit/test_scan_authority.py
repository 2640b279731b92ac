"""What the scanner believes after restarts, while a change of its signers is taken in, and where two must sign."""

from __future__ import annotations

import base64
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from confluent_kafka import Consumer, Message, TopicPartition
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from infra.core.settings import ScopeSettings, Settings
from infra.core.trust import load_signers
from processors.scan.scope.authority import Authority
from schemas.codec import Codec
from schemas.events.grants import Command, CommandKind, Grant
from schemas.signing import cosign, sign
from tests.scan_samples import make_grant, scan_settings

OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
SIGNERS = f'''[[signer]]
name = "other"
public_key = "{base64.b64encode(OTHER.public_key().public_bytes_raw()).decode()}"
networks = ["198.18.0.0/15"]
'''


def others(revision: int = 1, **over: object) -> Grant:
    return sign(make_grant(revision, grant_id="others", signer="other", **over), OTHER)


def authority(settings: Settings) -> Authority:
    return Authority(settings, "agent-0", Codec())


def messages(*grants: Grant, first: int = 0) -> list[Message]:
    codec = Codec()
    return [Message(topic="t.grants", partition=0, offset=first + at, value=codec.encode("grants", one)) for at, one in enumerate(grants)]


class Tape:
    """As much of a consumer as a change of signers needs."""

    def __init__(self) -> None:
        self.sought: list[int] = []

    def seek(self, where: TopicPartition) -> None:
        self.sought.append(where.offset)


def test_exclusions_survive_a_restart_though_the_topic_lost_them(tmp_path: Path) -> None:
    settings = scan_settings("127.0.0.1:1", tmp_path, "t.")
    shield = make_grant(2, grant_id="shield", exclusions=("198.18.1.1/32",))
    authority(settings).learn([make_grant(), shield])
    again = authority(settings)
    assert set(again.book.known) == {"lab", "shield"}
    assert again.book.known["shield"].grant == shield
    again.learn([make_grant(1, grant_id="shield")])  # replayed: revives nothing
    assert again.book.known["shield"].grant == shield


def test_what_is_on_the_disk_is_believed_only_for_its_signature(tmp_path: Path) -> None:
    settings = scan_settings("127.0.0.1:1", tmp_path, "t.")
    authority(settings).learn([make_grant()])
    path = tmp_path / "scanner-0" / "floors.json"
    path.write_text(path.read_text().replace("198.18.0.0/15", "198.18.0.0/16"))
    assert authority(settings).book.known == {}
    authority(settings).learn([make_grant()])
    untrusting = settings.model_copy(update={"scope": ScopeSettings()})
    assert authority(untrusting).book.known == {}


def test_the_old_form_of_the_file_still_counts(tmp_path: Path) -> None:
    settings = scan_settings("127.0.0.1:1", tmp_path, "t.")
    (tmp_path / "scanner-0").mkdir()
    (tmp_path / "scanner-0" / "floors.json").write_text(json.dumps({"lab": 3}))
    book = authority(settings)
    book.learn([make_grant(2)])
    assert book.book.known == {}
    book.learn([make_grant(3)])
    assert set(authority(settings).book.known) == {"lab"}


def test_while_the_topic_is_read_again_for_new_signers_nothing_of_it_counts_in_part(tmp_path: Path) -> None:
    settings = scan_settings("127.0.0.1:1", tmp_path, "t.")
    one, tape = authority(settings), Tape()
    history = messages(others(1), make_grant(), others(2, revoked=True))
    one._take(history)
    assert set(one.book.known) == {"lab"}
    one._loaded.set()
    (tmp_path / "signers.toml").write_text(SIGNERS)
    one._watch_signers(cast("Consumer", tape))
    assert (tape.sought, len(load_signers(settings))) == ([0], 2)
    one._question.ends = {"t.grants": 3, "t.commands": 0}
    one._take(history[:1])
    one._judge()
    assert set(one.book.known) == {"lab"}
    assert one.fresh_at == float("-inf")
    one._take(history[1:])
    one._judge()
    assert one.book.known["others"].grant.revoked


def test_signers_that_are_no_longer_trusted_end_at_once_and_come_back_from_the_disk(tmp_path: Path) -> None:
    settings = scan_settings("127.0.0.1:1", tmp_path, "t.")
    (tmp_path / "signers.toml").write_text(SIGNERS)
    one = authority(settings)
    one.learn([make_grant(), others()])
    own = load_signers(settings.model_copy(update={"data_dir": tmp_path / "none"}))
    one.trust(own)
    assert set(one.book.known) == {"lab"}
    one.trust(load_signers(settings))
    assert set(one.book.known) == {"lab", "others"}


def orders(*commands: tuple[CommandKind, str]) -> list[Message]:
    made = [Command(agent_id="*", kind=kind, networks=(one,), issued_by="x", issued_at=datetime.now(UTC)) for kind, one in commands]
    values = [Codec().encode("commands", one) for one in made]
    return [Message(topic="t.commands", partition=0, offset=at, value=value) for at, value in enumerate(values)]


def test_a_freeze_survives_a_restart_though_the_topic_lost_it_and_a_thaw_ends_it(tmp_path: Path) -> None:
    settings = scan_settings("127.0.0.1:1", tmp_path, "t.")
    one = authority(settings)
    one._take(orders((CommandKind.FREEZE, "198.18.4.0/24"), (CommandKind.FREEZE, "198.18.5.0/24")))
    one.learn([make_grant()])
    again = authority(settings)
    assert again.orders.freezes("198.18.4.0/24")
    again._take(orders((CommandKind.THAW, "198.18.4.0/24")))
    last = authority(settings)
    assert (last.orders.freezes("198.18.4.0/24"), last.orders.freezes("198.18.5.0/24")) == (False, True)
    assert set(last.book.known) == {"lab"}


def test_a_scanner_that_wants_two_signers_believes_no_other_grant_not_even_from_its_disk(tmp_path: Path) -> None:
    settings = scan_settings("127.0.0.1:1", tmp_path, "t.")
    (tmp_path / "signers.toml").write_text(SIGNERS)
    single, double = make_grant(grant_id="single"), cosign(make_grant(grant_id="double"), "other", OTHER)
    authority(settings).learn([single, double])
    strict = settings.model_copy(update={"scope": settings.scope.model_copy(update={"signers_required": 2})})
    one = authority(strict)
    assert set(one.book.known) == {"double"}
    one.learn([make_grant(2, grant_id="double"), cosign(single, "other", OTHER)])
    assert {name: known.grant.revision for name, known in one.book.known.items()} == {"single": 1, "double": 1}
    one.trust(load_signers(strict))
    one.learn([make_grant(2, grant_id="single"), make_grant(2, grant_id="double", revoked=True)])
    assert {name: known.grant.revision for name, known in one.book.known.items()} == {"single": 1, "double": 2}


def test_a_revocation_counts_though_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = authority(scan_settings("127.0.0.1:1", tmp_path, "t."))
    one.learn([make_grant()])

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        one.learn([make_grant(2, revoked=True)])
    assert one.book.known["lab"].grant.revoked
