"""What commands mean, and that the disk remembers revisions."""

from __future__ import annotations

import base64
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.core.errors import BadInput, MissingPrerequisite
from infra.core.settings import ScopeSettings, Settings, Signer
from infra.core.trust import load_signers, signers_stamp
from processors.scan.scope.floors import Floors, load_floors, save_floors
from processors.scan.scope.orders import Orders, frozen_networks
from schemas.events.grants import Command, CommandKind
from tests.scan_samples import make_grant


def told(*commands: tuple[str, CommandKind, tuple[str, ...]]) -> Orders:
    orders = Orders()
    for agent, kind, networks in commands:
        command = Command(agent_id=agent, kind=kind, networks=networks, issued_by="test", issued_at=datetime.now(UTC))
        orders = orders.after(command, "me")
    return orders


def test_the_latest_command_for_me_or_for_all_counts() -> None:
    assert told(("me", CommandKind.DRAIN, ())).draining
    assert not told(("other", CommandKind.DRAIN, ())).draining
    assert not told(("*", CommandKind.DRAIN, ()), ("me", CommandKind.RESUME, ())).draining


@pytest.mark.parametrize("networks", [(), ("198.18.0.0/15",), ("198.18.4.9/32",), ("not a network",), ("2001:db8::/32", "198.18.4.0/24")])
def test_a_freeze_reaches_every_unit_that_it_touches(networks: tuple[str, ...]) -> None:
    assert told(("*", CommandKind.FREEZE, networks)).freezes("198.18.4.0/24")


def test_a_freeze_of_other_networks_leaves_a_unit_alone() -> None:
    orders = told(("*", CommandKind.FREEZE, ("198.18.5.0/24", "2001:db8::/32")))
    assert not orders.freezes("198.18.4.0/24")
    assert orders.freezes("2001:db8::/64")


FREEZE_TWO = (("*", CommandKind.FREEZE, ("198.18.4.0/24",)), ("me", CommandKind.FREEZE, ("198.18.5.0/24",)))


@pytest.mark.parametrize(
    "order",
    [
        ("*", CommandKind.RESUME, ()),
        ("me", CommandKind.DRAIN, ()),
        ("me", CommandKind.FREEZE, ("198.18.6.0/24",)),
        ("other", CommandKind.THAW, ()),
        ("*", CommandKind.THAW, ("198.18.4.0/25",)),
        ("*", CommandKind.THAW, ("not a network",)),
    ],
)
def test_nothing_but_a_thaw_of_it_lifts_a_freeze(order: tuple[str, CommandKind, tuple[str, ...]]) -> None:
    orders = told(*FREEZE_TWO, order)
    assert orders.freezes("198.18.4.0/24")
    assert orders.freezes("198.18.5.0/24")


@pytest.mark.parametrize("network", ["::ffff:198.18.4.9/128", "::ffff:198.18.0.0/111", "::ffff:0:0/96", "::/64"])
def test_a_freeze_written_as_ipv6_holds_for_the_ipv4_addresses_that_it_means_until_it_is_thawed(network: str) -> None:
    assert told(("*", CommandKind.FREEZE, (network,))).freezes("198.18.4.0/24")
    assert told(("*", CommandKind.FREEZE, (network,)), ("*", CommandKind.THAW, (network,))).frozen == ()


def test_a_freeze_of_all_ipv6_is_one_of_ipv6() -> None:
    assert not told(("*", CommandKind.FREEZE, ("::/0",))).freezes("198.18.4.0/24")


def test_a_thaw_lifts_the_freeze_that_it_names_or_every_one_and_leaves_a_drain_alone() -> None:
    one = told(*FREEZE_TWO, ("*", CommandKind.DRAIN, ()), ("*", CommandKind.THAW, ("198.18.4.0/24",)))
    assert (one.freezes("198.18.4.0/24"), one.freezes("198.18.5.0/24"), one.draining) == (False, True, True)
    assert told(*FREEZE_TWO, ("*", CommandKind.THAW, ())).frozen == ()


def test_floors_survive_and_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scanner-0" / "floors.json"
    assert load_floors(path) == Floors()
    floors = Floors({"lab": 3}, {"lab": make_grant(3)}, frozen_networks(("198.18.4.0/24", "2001:db8::/64")))
    save_floors(path, floors)
    assert load_floors(path) == floors
    path.write_text(json.dumps({"lab": 3}))  # as earlier versions wrote it
    assert load_floors(path) == Floors({"lab": 3})
    for text in (
        "{",
        "[]",
        json.dumps({"lab": "x"}),
        json.dumps({"revisions": {"lab": 1}, "grants": [{"grant_id": "lab"}]}),
        '{"revisions": {}, "frozen": 3}',
        "",
        "{}",
        "null",
        '{"lab": true}',
        '{"lab": -1}',
        '{"frozen": ["198.18.0.0/15"]}',
        '{"revisions": {}, "frozen": [7]}',
        '{"revisions": {}, "frozen": ["nonsense"]}',
        '{"revisions": {}, "thawed": []}',
        "[" * 200_000,
    ):
        path.write_text(text)
        with pytest.raises(MissingPrerequisite, match="revoked grant could come back"):
            load_floors(path)


def test_a_crash_while_floors_are_written_leaves_the_old_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "floors.json"
    save_floors(path, Floors({"lab": 3}))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_floors(path, Floors({"lab": 4}))
    assert load_floors(path) == Floors({"lab": 3})


KEY = base64.b64encode(bytes(32)).decode()


def test_signers_come_from_settings_and_file_and_the_settings_win(tmp_path: Path) -> None:
    own = Signer(name="boss", public_key=KEY, networks=("198.18.0.0/15",))
    settings = Settings(data_dir=tmp_path, scope=ScopeSettings(signers=(own,)))
    assert [one.name for one in load_signers(settings)] == ["boss"]
    before = signers_stamp(settings)
    (tmp_path / "signers.toml").write_text(
        f'[[signer]]\nname = "boss"\npublic_key = "{KEY}"\nnetworks = ["0.0.0.0/0"]\n'
        f'[[signer]]\nname = "other"\npublic_key = "{KEY}"\nnetworks = ["10.0.0.0/8"]\n'
    )
    assert {one.name: one.networks for one in load_signers(settings)} == {"boss": ("198.18.0.0/15",), "other": ("10.0.0.0/8",)}
    assert before is None
    assert signers_stamp(settings) is not None


@pytest.mark.parametrize(
    "text",
    [
        "[[signer]",
        '[[signer]]\nname = "x"\n',
        '[[signer]]\nname = "x"\npublic_key = "AAAA"\nnetworks = []\n',
        f'[[signer]]\nname = "x"\npublic_key = "{KEY}"\nnetworks = ["here"]\n',
        "signer = 3\n",
    ],
)
def test_a_signers_file_that_can_t_be_used_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "signers.toml").write_text(text)
    with pytest.raises(BadInput, match=r"signers\.toml"):
        load_signers(Settings(data_dir=tmp_path))
