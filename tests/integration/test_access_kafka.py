"""Rights on a real Kafka (KRaft, StandardAuthorizer): what a role may do works under its own user, what it may not is refused.

That every role can do all of its work under its own user is shown by the whole pipeline, in tests/e2e/test_secured.py.
"""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from infra.app.people import require_kafka
from infra.core.errors import MissingPrerequisite, Refused
from infra.core.settings import KafkaSettings, Settings
from infra.kafka.access import AccessAdmin, permissions
from infra.kafka.client import connection, consumer_config, prefixed, producer_config, transactional_producer
from infra.kafka.topics import TopicAdmin
from infra.local.broker import Broker
from schemas.access import rights
from tests.brokers import logged_in, secure_settings
from tests.commands import invoke

pytestmark = pytest.mark.kafka
ZONES = ("default", "dmz")
PRINCIPALS = {"scan": ("scanner@dmz",), "diff": ("differ",), "desk": ("operator",)}
PASSWORDS = {"scan": "scan-password", "diff": "diff-password", "desk": "desk-password", "other": "other-password"}


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A broker with logins, its topics made twice (two installations), its users given their rights; settings of its administrator."""
    base = secure_settings(tmp_path_factory.mktemp("secured"))
    settings = base.model_copy(update={"zones": ZONES, "kafka": KafkaSettings(prefix="blue.", partitions=2, principals=PRINCIPALS)})
    broker = Broker(settings)
    try:
        broker.start(timeout=60)
        TopicAdmin(settings).apply()
        access = AccessAdmin(settings)
        access.set_passwords(PASSWORDS)
        access.give(access.plan()[0])
        yield settings
    finally:
        broker.stop()


def of(admin: Settings, user: str) -> Settings:
    return logged_in(admin, user, PASSWORDS[user])


def write(settings: Settings, topic: str) -> str:
    """Write a record; '' or why that was refused."""
    said: list[str] = []
    producer = Producer(producer_config(settings, **{"message.timeout.ms": 10_000}))
    producer.produce(prefixed(settings, topic), b"x", b"key", 0, on_delivery=lambda error, _: said.append(error.str() if error else ""))
    assert producer.flush(15) == 0
    return said[0]


def read(settings: Settings, topic: str, group: str = "scanner.authority") -> str:
    """Read a partition to its end; '' or why that was refused."""
    consumer = Consumer(consumer_config(settings, group, **{"enable.partition.eof": True, "fetch.wait.max.ms": 20}))
    try:
        name = prefixed(settings, topic)
        unseen = consumer.list_topics(name, 15.0).topics[name].error
        if unseen is not None:
            return str(unseen.str())
        consumer.assign([TopicPartition(name, 0, 0)])
        while (message := consumer.poll(15.0)) is not None:
            error = message.error()
            if error is not None:
                return "" if error.code() == -191 else str(error.str())  # -191: the partition's end
        return "no answer"
    finally:
        consumer.close()


def join(settings: Settings, group: str, topic: str) -> str:
    """Join a group and read the topic with it; '' or why that was refused."""
    consumer, joined = Consumer(consumer_config(settings, group)), list[TopicPartition]()
    consumer.subscribe([prefixed(settings, topic)], on_assign=lambda _, places: joined.extend(places))
    try:
        deadline = time.monotonic() + 30.0
        while not joined and time.monotonic() < deadline:
            message = consumer.poll(0.2)
            error = message.error() if message is not None else None
            if error is not None:
                return str(error.str())
        return "" if joined else "no answer"
    finally:
        consumer.close()


def transact(settings: Settings, role: str) -> str:
    try:
        transactional_producer(settings, role)
    except Refused as error:
        return str(error)
    return ""


def test_a_scanner_does_its_work_under_its_own_user(admin: Settings) -> None:
    scanner = of(admin, "scan")
    for topic in ("probes", "agents", "touches", "targets", "dlq.work.dmz"):
        assert write(scanner, topic) == "", topic
    for topic in ("work.dmz", "grants", "commands"):
        assert read(scanner, topic) == "", topic
    assert join(scanner, "scanner.dmz", "work.dmz") == ""
    assert transact(scanner, "scanner.dmz/") == ""


@pytest.mark.parametrize(
    "topic", ["grants", "commands", "decisions", "work.dmz", "work.default", "findings", "assets", "audit", "dlq.targets"]
)
def test_a_scanner_may_not_write_elsewhere(admin: Settings, topic: str) -> None:
    assert "authorization failed" in write(of(admin, "scan"), topic).lower()


@pytest.mark.parametrize("topic", ["work.default", "findings", "probes", "targets", "decisions", "audit"])
def test_a_scanner_may_not_read_elsewhere(admin: Settings, topic: str) -> None:
    assert "authorization failed" in read(of(admin, "scan"), topic).lower()


def test_a_scanner_may_use_no_other_group_and_no_other_transactional_id(admin: Settings) -> None:
    scanner = of(admin, "scan")
    for group in ("scanner.default", "differ", "scanner", "mine"):
        assert "authorization failed" in join(scanner, group, "work.dmz").lower(), group
    for role in ("differ", "scanner.default/", "scanner.dmz", "planner"):
        assert "authorization failed" in transact(scanner, role).lower(), role


def test_a_scanner_may_change_nothing_of_the_cluster(admin: Settings) -> None:
    client = AdminClient(connection(of(admin, "scan")))
    with pytest.raises(KafkaException, match=r"(?i)authorization failed"):
        client.create_topics([NewTopic("blue.mine", 1, 1)])["blue.mine"].result(15)
    with pytest.raises(KafkaException, match=r"(?i)authorization failed"):
        client.delete_topics(["blue.grants"])["blue.grants"].result(15)
    with pytest.raises(Refused, match="manage others"):
        AccessAdmin(of(admin, "scan")).set_passwords({"desk": "mine now"})
    with pytest.raises(Refused, match="manage others"):
        AccessAdmin(of(admin, "scan")).give(permissions(admin, "scan", rights("operator", ZONES)))


def test_a_user_without_a_role_may_do_nothing(admin: Settings) -> None:
    other = of(admin, "other")
    assert list(AdminClient(connection(other)).list_topics(timeout=15).topics) == []
    assert "authorization failed" in write(other, "targets").lower()
    assert "authorization failed" in read(other, "findings").lower()


def test_a_wrong_password_and_none_at_all_are_refused_in_a_sentence(admin: Settings) -> None:
    wrong = logged_in(admin, "scan", "a-wrong-password")
    with pytest.raises(Refused, match="refuses the login") as caught:
        require_kafka(wrong)
    assert "a-wrong-password" not in str(caught.value)
    open_door = Settings(data_dir=admin.data_dir, kafka=KafkaSettings(bootstrap=admin.bootstrap))
    client = AdminClient({**connection(open_door), "log_level": 0})
    with pytest.raises(KafkaException):
        client.list_topics(timeout=2)


def test_the_controller_is_behind_a_login_too(admin: Settings) -> None:
    client = AdminClient({"bootstrap.servers": f"127.0.0.1:{admin.broker.controller_port}", "log_level": 0})
    with pytest.raises(KafkaException):
        client.list_topics(timeout=2)


def test_apply_shows_gives_and_takes_rights_and_a_second_time_does_nothing(admin: Settings) -> None:
    access = AccessAdmin(admin)
    assert access.plan() == ([], [])
    more = admin.model_copy(update={"kafka": admin.kafka.model_copy(update={"principals": {**PRINCIPALS, "scan": ("scanner",)}})})
    lacking, beside = AccessAdmin(more).plan()
    assert beside == []
    named = {"work.default", "dlq.work.default", "scanner.default", "scanner.default/"}
    assert {one.right.name.removeprefix("blue.") for one in lacking} == named
    AccessAdmin(more).give(lacking)
    assert AccessAdmin(more).plan() == ([], [])
    assert access.plan() == ([], lacking), "what the settings no longer name is told, not taken"
    access.take(lacking)
    assert access.plan() == ([], [])


def test_the_command_says_what_it_would_do_and_does_it_once(admin: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "DRIFTLINE_DATA_DIR": str(admin.data_dir),
        "DRIFTLINE_BROKER__PORT": str(admin.broker.port),
        "DRIFTLINE_BROKER__SASL": "true",
        "DRIFTLINE_ZONES": json.dumps(ZONES),
        "DRIFTLINE_KAFKA__PARTITIONS": "2",
        "DRIFTLINE_KAFKA__PREFIX": "blue.",
        "DRIFTLINE_KAFKA__PRINCIPALS": json.dumps({"late": ["notifier"]}),
    }.items():
        monkeypatch.setenv(name, value)

    def apply(*options: str) -> list[dict[str, str]]:
        done = invoke("topics", "apply", "--json", *options)
        assert done.exit_code == 0, done.exception
        rows: list[dict[str, str]] = json.loads(done.stdout)
        return rows

    shown = apply("--dry-run")
    assert {"what": "user late", "change": "allow: read topic blue.findings"} in shown
    assert apply() == shown
    assert apply("--dry-run") == []
    monkeypatch.setenv("DRIFTLINE_KAFKA__PRINCIPALS", json.dumps({"late": []}))
    assert {row["change"].split(":")[0] for row in apply("--dry-run")} == {"not needed, left (see --prune)"}
    assert len(apply("--prune")) == len(shown)
    assert apply() == []


def test_the_administrators_password_is_for_this_machines_owner_only(admin: Settings) -> None:
    for name in ("admin.password", "server.properties"):
        assert stat.S_IMODE((admin.data_dir / "kafka" / name).stat().st_mode) == 0o600
    written = (admin.data_dir / "logs" / "broker.log").read_text(errors="replace")
    assert (admin.data_dir / "kafka" / "admin.password").read_text().strip() not in written
    assert not any(password in written for password in PASSWORDS.values())


def test_a_broker_without_logins_says_that_it_can_keep_nobody_out(kafka: str, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, kafka=KafkaSettings(bootstrap=kafka, prefix="open.", principals={"scan": ("scanner",)}))
    access = AccessAdmin(settings)
    with pytest.raises(MissingPrerequisite, match="no authoriser"):
        access.give(access.plan()[0])
