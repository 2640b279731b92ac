"""`driftline targets sync` and `driftline inventory` against a real Kafka: what is set, withdrawn, held, pushed and audited."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message

from infra.core.errors import BadInput, Refused
from infra.core.settings import KafkaSettings, Settings
from infra.kafka.client import read_table, read_whole, value_of
from infra.kafka.topics import TopicAdmin
from schemas.codec import Codec
from schemas.events.base import Event
from schemas.events.context import InventoryRecord
from schemas.events.operations import AuditRecord
from schemas.events.targets import TargetRequest
from tests.commands import invoke

pytestmark = pytest.mark.kafka


@pytest.fixture
def settings(kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    prefix = f"sy{uuid.uuid4().hex[:8]}."
    made = Settings(data_dir=tmp_path, kafka=KafkaSettings(bootstrap=kafka, prefix=prefix, partitions=1))
    for name, value in (
        ("DATA_DIR", str(tmp_path)),
        ("KAFKA__BOOTSTRAP", kafka),
        ("KAFKA__PREFIX", prefix),
        ("KAFKA__PARTITIONS", "1"),
    ):
        monkeypatch.setenv(f"DRIFTLINE_{name}", value)
    TopicAdmin(made).apply()
    return made


def inventory(settings: Settings) -> dict[str, InventoryRecord]:
    return {key: one for key, one in read_table(settings, "inventory").items() if isinstance(one, InventoryRecord)}


def events(settings: Settings, topic: str) -> list[Event]:
    found: list[Event] = []

    def take(message: Message) -> None:
        found.append(Codec().decode(topic, value_of(message) or b""))

    read_whole(settings, topic, take)
    return found


def targets(settings: Settings) -> list[tuple[str, ...]]:
    return [one.targets for one in events(settings, "targets") if isinstance(one, TargetRequest)]


def audited(settings: Settings) -> list[tuple[str, str]]:
    return [(one.action, one.detail) for one in events(settings, "audit") if isinstance(one, AuditRecord)]


def netbox(folder: Path, *numbers: int, tenant: str = "web") -> str:
    results = [{"id": one, "address": f"198.18.0.{one}/24", "tenant": {"name": tenant}, "status": {"value": "active"}} for one in numbers]
    file = folder / "addresses.json"
    file.write_text(json.dumps({"count": len(results), "next": None, "results": results}))
    return str(file)


def said(*arguments: str) -> dict[str, Any]:
    done = invoke("targets", "sync", *arguments, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])  # a log line may come first: in this process they go to stdout
    return found


def test_members_are_set_looked_at_once_and_withdrawn_when_they_are_gone(settings: Settings, tmp_path: Path) -> None:
    first = said("--source", "netbox", netbox(tmp_path, 1, 2, 3, 4, 5))
    assert (first["members"], len(first["set"]), first["withdrawn"], first["targets"]) == (5, 5, [], 5)
    assert {one.source for one in inventory(settings).values()} == {"netbox"}
    assert targets(settings) == [tuple(f"198.18.0.{number}" for number in range(1, 6))]
    again = said("--source", "netbox", netbox(tmp_path, 1, 2, 3, 4, 5))
    assert (again["set"], again["targets"]) == ([], 0)
    moved = said("--source", "netbox", netbox(tmp_path, 1, 2, 3, 4, 6))
    assert (moved["set"], moved["withdrawn"], moved["targets"]) == (["default|198.18.0.6"], ["default|198.18.0.5"], 1)
    assert {one.network for one in inventory(settings).values()} == {f"198.18.0.{number}" for number in (1, 2, 3, 4, 6)}
    assert targets(settings)[1:] == [("198.18.0.6",)]
    said("--source", "netbox", netbox(tmp_path, 1, 2, 3, 4, 6), "--look", "all", "--ports", "22")
    assert len(targets(settings)[2]) == 5
    assert [action for action, _ in audited(settings)] == ["targets.sync"] * 3


def test_a_source_withdraws_only_its_own_and_leaves_a_persons_word(settings: Settings, tmp_path: Path) -> None:
    mine = tmp_path / "mine.jsonl"
    mine.write_text('{"network": "198.18.0.1/32", "owner": "ada", "expected": ["TCP/22"]}\n')
    assert invoke("inventory", "push", str(mine)).exit_code == 0
    said("--source", "aws", netbox(tmp_path, 2))
    found = said("--source", "netbox", netbox(tmp_path, 1, 2, 3))
    assert found["kept_by_others"].keys() == {"198.18.0.1", "198.18.0.2"}
    assert found["members"] == 1
    said("--source", "netbox", netbox(tmp_path, 4), "--accept-shrink", "Ada")
    owners = {one.network: (one.source, one.owner) for one in inventory(settings).values()}
    assert owners == {"198.18.0.1": ("", "ada"), "198.18.0.2": ("aws", "web"), "198.18.0.4": ("netbox", "web")}
    assert inventory(settings)["default|198.18.0.1"].expected == ("tcp/22",)


def test_a_source_that_shrank_waits_for_a_person_whose_name_is_on_record(settings: Settings, tmp_path: Path) -> None:
    said("--source", "netbox", netbox(tmp_path, 1, 2, 3, 4, 5, 6))
    before = inventory(settings)
    held = invoke("targets", "sync", "--source", "netbox", netbox(tmp_path, 1, 2, 3, 4))
    assert isinstance(held.exception, Refused)
    assert "4 members where there were 6" in str(held.exception)
    dry = said("--source", "netbox", netbox(tmp_path, 1, 2, 3, 4), "--dry-run")
    assert dry["withdrawn"] == ["default|198.18.0.5", "default|198.18.0.6"]
    assert inventory(settings) == before
    said("--source", "netbox", netbox(tmp_path, 1, 2, 3, 4), "--accept-shrink", "Ada Lovelace")
    assert len(inventory(settings)) == 4
    assert "accepted by Ada Lovelace" in audited(settings)[-1][1]


def test_a_broken_snapshot_changes_nothing(settings: Settings, tmp_path: Path) -> None:
    good = netbox(tmp_path, 1, 2, 3)
    said("--source", "netbox", good)
    before = inventory(settings), targets(settings), audited(settings)
    broken = tmp_path / "broken.json"
    whole = Path(good).read_text()
    for text in (whole[:-20], whole.replace('"count": 3', '"count": 4'), whole.replace("198.18.0.2/24", "2.2"), "{}", ""):
        broken.write_text(text)
        assert isinstance(invoke("targets", "sync", "--source", "netbox", str(broken)).exception, BadInput), text
    empty = tmp_path / "empty.json"
    empty.write_text('{"count": 0, "next": null, "results": []}')
    assert isinstance(invoke("targets", "sync", "--source", "netbox", str(empty)).exception, Refused)
    assert isinstance(invoke("targets", "sync", "--source", "other", str(empty)).exception, BadInput)
    for wrong in (
        ("--source", "a/b"),
        ("--source", "a", "--zone", "x"),
        ("--source", "a", "--look", "x"),
        ("--source", "a", "--ports", "x"),
    ):
        assert isinstance(invoke("targets", "sync", *wrong, good).exception, BadInput)
    assert (inventory(settings), targets(settings), audited(settings)) == before


def test_a_persons_record_is_written_as_rules_compare_it_and_withdrawn_by_name(settings: Settings, tmp_path: Path) -> None:
    table = tmp_path / "assets.csv"
    table.write_text(
        "zone,network,owner,criticality,tags,expected\n"
        "default,2001:DB8::/32,net,high,a b,tcp/443 TCP/22\n"
        "nowhere,198.18.0.0/24,x,low,,\n"
        "default,198.18.0.0/24,x,low,,443\n"
        "default,198.18.0.1/24,x,low,,\n"
    )
    done = invoke("inventory", "push", str(table))
    assert done.exit_code == 2
    assert [f":{number}:" in done.stderr for number in (2, 3, 4, 5)] == [False, True, True, True]
    assert "1 record pushed, 3 skipped" in done.stderr
    assert "0 records pushed, 1 left as they were, 3 skipped" in invoke("inventory", "push", str(table)).stderr
    lines = tmp_path / "odd.jsonl"
    lines.write_text('{"network": "198.18.0.0/24", "owner": "\\ud800"}\n')
    assert "odd.jsonl:1:" in invoke("inventory", "push", str(lines)).stderr
    (key,) = inventory(settings)
    assert key == "default|2001:db8::/32"
    assert inventory(settings)[key].expected == ("tcp/22", "tcp/443")
    assert isinstance(invoke("inventory", "withdraw", "198.18.9.0/24").exception, BadInput)
    assert invoke("inventory", "withdraw", "2001:db8::/32").exit_code == 0
    assert inventory(settings) == {}
    assert [action for action, _ in audited(settings)] == ["inventory.set", "inventory.withdraw"]
