"""Two installations on one broker, the prefix of one being the beginning of the other's: neither sees or disturbs the other.

Both run the same roles with the same agent id, slot, grant id and network, so that any name without its prefix would clash.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient

from infra.core.settings import Settings
from infra.kafka.client import Publisher, connection, read_table, read_whole
from infra.kafka.topics import TopicAdmin, wanted_topics
from processors.plan import role as planner
from processors.scan.scope.orders import key_of_order
from schemas.codec import Codec
from schemas.events.base import Event
from schemas.events.grants import Command, CommandKind
from schemas.events.targets import TargetRequest
from tests.scan_bench import in_thread, wait_for
from tests.scan_samples import Wire, make_grant, scan_settings

pytestmark = pytest.mark.kafka
WATCHED = (
    "grants",
    "commands",
    "targets",
    "runs",
    "work.default",
    "probes",
    "touches",
    "agents",
    "audit",
    "dlq.targets",
    "dlq.work.default",
)


class Installation:
    """Planner and scanner behind a prefix, and hands to push and to read."""

    def __init__(self, bootstrap: str, folder: Path, prefix: str) -> None:
        folder.mkdir()
        self.settings = scan_settings(bootstrap, folder, prefix)
        TopicAdmin(self.settings).apply()
        self.wire = folder / "wire.txt"

    def say(self, topic: str, key: str, event: Event) -> None:
        publisher = Publisher(self.settings, Codec())
        publisher.publish(topic, key, event)
        publisher.flush()

    def count(self, topic: str) -> int:
        found: list[object] = []
        read_whole(self.settings, topic, found.append)
        return len(found)

    def counts(self) -> dict[str, int]:
        return {topic: self.count(topic) for topic in WATCHED}

    def look(self, name: str) -> None:
        """Have one host looked at, from the request to its SweepResult."""
        before = self.count("probes")
        self.say("targets", name, TargetRequest(request_id=name, targets=("198.18.3.1",), ports="1-3"))
        wait_for(lambda: self.count("probes") > before)


@contextmanager
def planning(settings: Settings) -> Iterator[None]:
    stop, ready, failures = threading.Event(), threading.Event(), list[Exception]()

    def work() -> None:
        try:
            planner.run(settings, stop, ready.set)
        except Exception as error:  # noqa: BLE001  shown below
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        wait_for(lambda: ready.is_set() or failures)
        yield
    finally:
        stop.set()
        thread.join(30)
    assert not failures, failures


def test_neither_sees_nor_disturbs_the_other(kafka: str, tmp_path: Path) -> None:
    first = f"two{uuid4().hex[:8]}."
    one, other = Installation(kafka, tmp_path / "one", first), Installation(kafka, tmp_path / "other", f"{first}more.")
    with ExitStack() as stack:
        for each in (one, other):
            stack.enter_context(planning(each.settings))
            stack.enter_context(in_thread(each.settings, Wire(each.wire)))
        one.say("grants", "lab", make_grant())
        one.look("r1")
        seen = one.counts()
        assert seen["runs"] == seen["work.default"] == seen["probes"] == 1
        assert [name for name, count in other.counts().items() if count] == ["agents"]
        assert not other.wire.exists() or other.wire.read_text() == ""

        # A freeze of everything here stops nothing there; with its own grant the other works while this one stands.
        order = Command(agent_id="*", kind=CommandKind.FREEZE, networks=("0.0.0.0/0",), issued_by="test", issued_at=datetime.now(UTC))
        one.say("commands", key_of_order(order), order)
        other.say("grants", "lab", make_grant())
        other.look("r1")
        assert other.count("commands") == 0
        assert set(read_table(one.settings, "agents")) == set(read_table(other.settings, "agents")) == {"agent-0"}

    # Everything that they made on the cluster carries a prefix, and the longer one's is not taken for the shorter one's.
    admin = AdminClient(connection(one.settings))
    mine = {name for name in admin.list_topics(timeout=15).topics if name.startswith(first)}
    assert mine == {topic.name for each in (one, other) for topic in wanted_topics(each.settings)}
    groups = {group.group_id for group in admin.list_consumer_groups().result(15).valid}
    for each in (one, other):
        prefix = each.settings.kafka.prefix
        assert {f"{prefix}planner", f"{prefix}scanner.default"} <= groups
