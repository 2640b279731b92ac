"""Commands that write, against a real Kafka: what is on the topics afterwards, and what they refuse."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka import Message, Producer

from infra.core.settings import KafkaSettings, Settings
from infra.kafka.client import Publisher, prefixed, producer_config, read_whole, value_of
from infra.kafka.topics import TopicAdmin
from processors.scan.scope.orders import Orders, key_of_order
from schemas.codec import Codec
from schemas.events.base import Event
from schemas.events.findings import Finding
from schemas.events.grants import Command, CommandKind, Grant
from schemas.events.operations import AuditRecord
from schemas.events.targets import CadenceKind, Campaign, TargetRequest
from schemas.examples import EXAMPLES
from tests.shell import Done, Shell, running_shell

pytestmark = pytest.mark.kafka


@dataclass(frozen=True, slots=True)
class Desk:
    """A data folder and a prefix of its own on the shared Kafka."""

    settings: Settings
    environment: dict[str, str]
    shell: Shell

    def __call__(self, *arguments: str, code: int = 0) -> Done:
        done = self.shell.run(*arguments, folder=self.settings.data_dir, **self.environment)
        assert done.code == code, done.err
        return done

    def events(self, topic: str) -> list[Event]:
        """Every record of a topic."""
        found: list[Event] = []

        def take(message: Message) -> None:
            found.append(Codec().decode(topic, value_of(message) or b""))

        read_whole(self.settings, topic, take)
        return found

    def publish(self, topic: str, key: str, event: Event) -> None:
        outlet = Publisher(self.settings, Codec())
        outlet.publish(topic, key, event)
        outlet.flush()


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    with running_shell(tmp_path_factory.mktemp("shell")) as made:
        yield made


@pytest.fixture
def desk(kafka: str, shell: Shell, tmp_path: Path) -> Desk:
    prefix = f"cli{uuid4().hex[:8]}."
    settings = Settings(data_dir=tmp_path, kafka=KafkaSettings(bootstrap=kafka, prefix=prefix, partitions=1))
    environment = {
        "DRIFTLINE_DATA_DIR": str(tmp_path),
        "DRIFTLINE_KAFKA__BOOTSTRAP": kafka,
        "DRIFTLINE_KAFKA__PREFIX": prefix,
        "DRIFTLINE_KAFKA__PARTITIONS": "1",
    }
    TopicAdmin(settings).apply()
    return Desk(settings, environment, shell)


def audited(desk: Desk) -> list[str]:
    return [one.action for one in desk.events("audit") if isinstance(one, AuditRecord)]


def test_a_replayed_lower_revision_does_not_lower_the_next(desk: Desk) -> None:
    desk("grant", "keygen", "--network", "198.18.0.0/15")
    create = ("grant", "create", "--id", "lab", "--network", "198.18.0.0/24")
    desk(*create)
    assert "already" in desk(*create, code=2).err
    desk(*create, "--amend", "--ports", "22")
    first = next(one for one in desk.events("grants") if isinstance(one, Grant) and one.revision == 1)
    desk.publish("grants", "lab", first)
    assert json.loads(desk("grant", "list", "--json").out)[0]["revision"] == 2
    desk("grant", "revoke", "lab", "--reason", "over")
    desk.publish("grants", "lab", first)
    shown = json.loads(desk("grant", "show", "lab", "--json").out)
    assert (shown["revision"], shown["standing"]) == (3, "grant lab was revoked")
    assert "revoked already" in desk("grant", "revoke", "lab", "--reason", "again", code=2).err
    assert audited(desk) == ["grant.create", "grant.amend", "grant.revoke"]


def test_a_grant_that_a_stranger_signed_is_listed_as_not_believed(desk: Desk) -> None:
    desk("grant", "keygen", "--network", "198.18.0.0/15")
    desk("grant", "create", "--id", "lab", "--network", "198.18.0.0/24")
    (real,) = desk.events("grants")
    assert isinstance(real, Grant)
    desk.publish("grants", "lab", real.model_copy(update={"revision": 9, "signer": "stranger"}))
    desk.publish("grants", "other", real.model_copy(update={"grant_id": "other", "signer": "stranger"}))
    rows = {row["grant_id"]: row for row in json.loads(desk("grant", "list", "--json").out)}
    assert (rows["lab"]["revision"], rows["lab"]["standing"]) == (1, "counts")
    assert "stranger" in rows["other"]["standing"]
    desk("grant", "create", "--network", "10.0.0.0/8", code=4)


def believed(desk: Desk) -> set[str]:
    """What a scanner that starts now holds for frozen."""
    orders = Orders()

    def take(message: Message) -> None:
        nonlocal orders
        if (value := value_of(message)) is not None:
            command = Codec().decode("commands", value)
            assert isinstance(command, Command)
            orders = orders.after(command, "a-0")

    read_whole(desk.settings, "commands", take)
    return {str(one) for one in orders.frozen}


def shown(desk: Desk) -> set[str]:
    return set(json.loads(desk("freeze", "--show", "--json").out)["frozen"])


def test_freezes_add_up_and_only_a_thaw_by_name_takes_one_back(desk: Desk) -> None:
    desk("freeze", "198.18.0.0/24")
    assert json.loads(desk("freeze", "2001:db8::/64", "--json").out) == {"frozen": ["198.18.0.0/24", "2001:db8::/64"]}
    assert "not frozen" in desk("thaw", "198.18.9.0/24", "--as", "Ann Lee", code=2).err
    for words in (("drain",), ("resume",), ("resume", "a-0")):
        desk(*words)
        assert believed(desk) == shown(desk) == {"198.18.0.0/24", "2001:db8::/64"}
    desk("thaw", "198.18.0.0/24", "--as", "Ann Lee")
    assert believed(desk) == shown(desk) == {"2001:db8::/64"}
    desk("freeze")
    assert believed(desk) == shown(desk) == {"0.0.0.0/0", "::/0", "2001:db8::/64"}
    desk("thaw", "--as", "Bob")
    assert believed(desk) == shown(desk) == set()
    thawed = [one for one in desk.events("audit") if isinstance(one, AuditRecord) and one.action == "scanners.thaw"]
    assert [(one.actor, one.detail) for one in thawed] == [("Ann Lee", "198.18.0.0/24"), ("Bob", "")]
    assert [one.issued_by for one in desk.events("commands") if isinstance(one, Command) and one.kind is CommandKind.THAW] == [
        "Ann Lee",
        "Bob",
    ]


def test_a_tombstone_or_junk_lifts_no_freeze_neither_for_scanners_nor_on_show(desk: Desk) -> None:
    desk("freeze", "198.18.0.0/24")
    producer = Producer(producer_config(desk.settings))
    for key, value in (("*|198.18.0.0/24", None), ("*", None), ("*|198.18.0.0/24", b"junk")):
        producer.produce(prefixed(desk.settings, "commands"), value, key.encode())
    assert producer.flush(10) == 0
    assert shown(desk) == {"198.18.0.0/24"}


def test_a_freeze_of_one_agent_is_shown_and_thawed_too(desk: Desk) -> None:
    one = Command(agent_id="a-0", kind=CommandKind.FREEZE, networks=("198.18.7.0/24",), issued_by="console", issued_at=datetime.now(UTC))
    desk.publish("commands", key_of_order(one), one)
    desk("freeze", "198.18.0.0/24")
    assert shown(desk) == {"198.18.0.0/24", "198.18.7.0/24"}
    desk("thaw", "198.18.7.0/24", "--as", "Ann")
    assert believed(desk) == shown(desk) == {"198.18.0.0/24"}


def test_where_two_signers_are_required_the_second_word_makes_the_grant_count(desk: Desk) -> None:
    desk.environment["DRIFTLINE_SCOPE__SIGNERS_REQUIRED"] = "2"
    for name, network in (("ann", "198.18.0.0/15"), ("bob", "198.18.0.0/15"), ("eve", "198.18.9.0/24")):
        desk("grant", "keygen", name, "--network", network)

    def standing() -> dict[int, str]:
        return {row["revision"]: row["standing"] for row in json.loads(desk("grant", "list", "--json").out)}

    create = ("grant", "create", "--id", "lab", "--network", "198.18.0.0/24", "--key", "ann")
    assert "grant sign lab --as NAME" in desk(*create).err
    assert standing() == {1: "it waits for a second signature beside that of 'ann'"}
    assert "signed grant 'lab' already" in desk("grant", "sign", "lab", "--as", "ann", code=2).err
    assert "'eve' may not grant 198.18.0.0/24" in desk("grant", "sign", "lab", "--as", "eve", code=4).err
    desk("grant", "sign", "lab", "--as", "bob")
    assert standing() == {1: "counts"}
    assert "Two have signed" in desk("grant", "sign", "lab", "--as", "bob", code=2).err

    desk(*create, "--amend", "--ports", "22")
    assert standing() == {1: "counts", 2: "it waits for a second signature beside that of 'ann'"}
    assert json.loads(desk("grant", "show", "lab", "--json").out)["standing"].endswith("of 'ann'; until then revision 1 stands")
    (desk.settings.data_dir / "lab.json").write_text(desk("grant", "show", "lab", "--json").out)
    desk(*create, "--amend", "--ports", "23")
    assert "another revision 3" in desk("grant", "sign", str(desk.settings.data_dir / "lab.json"), "--as", "bob", code=2).err
    (desk.settings.data_dir / "lab.json").write_text(desk("grant", "show", "lab", "--json").out)
    desk("grant", "sign", str(desk.settings.data_dir / "lab.json"), "--as", "bob")
    assert standing() == {3: "counts"}
    desk("grant", "revoke", "lab", "--reason", "enough", "--key", "bob")
    assert standing() == {4: "grant lab was revoked"}
    assert "Nothing is left" in desk("grant", "sign", "lab", "--as", "ann", code=2).err
    assert audited(desk) == ["grant.create", "grant.sign", "grant.amend", "grant.amend", "grant.sign", "grant.revoke"]


def test_pushing_targets_obeys_the_planners_limit_and_leaves_an_audit_record(desk: Desk) -> None:
    desk.environment["DRIFTLINE_PLANNER__MAX_ADDRESSES"] = "256"
    done = desk("targets", "push", "--id", "mine", "--json", "198.18.0.0/24", "198.18.0.0/16", "no such", "198.18.1.7", code=2)
    assert json.loads(done.out) == {"accepted": 2, "requests": 2, "rejected": 2, "push_id": "mine"}
    assert "line 2:" in done.err
    assert "line 3:" in done.err
    requests = [one for one in desk.events("targets") if isinstance(one, TargetRequest)]
    assert sorted(one for request in requests for one in request.targets) == ["198.18.0.0/24", "198.18.1.7"]
    (record,) = [one for one in desk.events("audit") if isinstance(one, AuditRecord)]
    assert (record.action, record.subject, record.detail) == ("targets.push", "mine", "2 targets in 2 requests, zone default")


def test_inventory_reports_each_bad_line_and_goes_on(desk: Desk) -> None:
    lines = ['{"network": "198.18.0.0/24", "owner": "web"}', "[1]", "{", '{"network": "x", "owner": "y"}', '{"network": "198.18.1.0/24"}']
    (desk.settings.data_dir / "inventory.jsonl").write_text("\n".join(lines))
    done = desk("inventory", "push", "inventory.jsonl", code=2)
    assert "2 records pushed, 3 skipped." in done.err
    assert [f"inventory.jsonl:{number}:" in done.err for number in (1, 2, 3, 4, 5)] == [False, True, True, True, False]
    (desk.settings.data_dir / "wide.csv").write_text("network,owner\n198.18.2.0/24,db,too,many\n198.18.3.0/24,db\n")
    assert "wide.csv:2:" in desk("inventory", "push", "wide.csv", code=2).err
    networks = {row["network"] for row in json.loads(desk("inventory", "list", "--json").out)}
    assert networks == {"198.18.0.0/24", "198.18.1.0/24", "198.18.3.0/24"}


def test_topics_apply_shows_changes_once(desk: Desk) -> None:
    desk.environment["DRIFTLINE_KAFKA__PREFIX"] += "b."
    planned = json.loads(desk("topics", "apply", "--dry-run", "--json").out)
    assert json.loads(desk("topics", "apply", "--json").out) == planned
    assert {row["change"].split()[0] for row in planned} == {"create"}
    assert json.loads(desk("topics", "apply", "--json").out) == []
    desk.environment["DRIFTLINE_KAFKA__PARTITIONS"] = "2"
    assert "keys would move" in desk("topics", "apply", code=2).err


def test_follow_prints_what_stands_then_what_changes_and_ends_on_ctrl_c(desk: Desk) -> None:
    example = next(one for _, one in EXAMPLES if isinstance(one, Finding))
    hostile = example.model_copy(update={"finding_id": "f1", "status": "open", "title": "\x1b[31m[bold]old", "risk": 50.0})
    desk.publish("findings", "f1", hostile)
    command = [sys.executable, "-m", "infra.app.cli", "findings", "list", "--follow", "--json"]
    environment = os.environ | desk.environment
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        with _killed_after(60, process.kill):
            first = process.stdout.readline()
            desk.publish("findings", "f2", hostile.model_copy(update={"finding_id": "f2", "title": "new"}))
            second = process.stdout.readline()
            process.send_signal(signal.SIGINT)
            rest, said = process.communicate()
    assert (json.loads(first)["finding_id"], json.loads(second)["finding_id"]) == ("f1", "f2")
    assert "\x1b" not in first
    assert (process.returncode, rest, said) == (0, "", "")


class _killed_after:  # noqa: N801  reads as a phrase
    """Bounds a block that waits for another process."""

    def __init__(self, seconds: float, kill: Callable[[], None]) -> None:
        self._timer = threading.Timer(seconds, kill)

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        with suppress(RuntimeError):
            self._timer.cancel()


def test_a_campaign_with_a_rhythm_that_is_none_is_marked_and_hides_no_other(desk: Desk) -> None:
    desk("campaign", "create", "good", "--target", "198.18.0.0/24", "--every", "60")
    (good,) = (one for one in desk.events("campaigns") if isinstance(one, Campaign))
    for number, cron in enumerate(("* * * * * * * banana", None)):
        name = f"bad{number}"
        cadence = good.cadence.model_copy(update={"kind": CadenceKind.CRON, "cron": cron, "every_seconds": None})
        desk.publish("campaigns", name, good.model_copy(update={"campaign_id": name, "cadence": cadence}))
    rows = {row["campaign_id"]: row for row in json.loads(desk("campaign", "list", "--json").out)}
    assert set(rows) == {"good", "bad0", "bad1"}
    assert str(rows["bad0"]["next"]).startswith("never: ")
    assert str(rows["bad1"]["next"]).startswith("never: ")
    assert "never" in desk("campaign", "show", "bad0").out
