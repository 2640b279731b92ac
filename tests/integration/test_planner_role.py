"""The planner on the real broker: requests in any form become units and runs; bad records are set aside and block nothing."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from confluent_kafka import Message, Producer

from infra.core.settings import KafkaSettings, Settings
from infra.core.trust import load_signers
from infra.kafka.client import Publisher, producer_config, read_table, read_whole, value_of
from infra.kafka.topics import TopicAdmin
from processors.plan import role
from producers.auditing import local_actor
from producers.grants.issuing import Desk, GrantForm, create_grant, revoke_grant
from producers.grants.keys import SigningKey, ensure_key
from schemas.codec import Codec
from schemas.events.base import Event
from schemas.events.grants import Grant
from schemas.events.targets import Cadence, CadenceKind, Campaign, Run, TargetRequest, WorkUnit
from schemas.ids import partition_of

pytestmark = pytest.mark.kafka


@pytest.fixture
def settings(kafka: str, tmp_path: Path) -> Settings:
    made = Settings(data_dir=tmp_path, kafka=KafkaSettings(bootstrap=kafka, prefix=f"t{uuid.uuid4().hex[:8]}.", partitions=3))
    TopicAdmin(made).apply()
    return made


@contextmanager
def running(settings: Settings) -> Iterator[None]:
    stop, ready = threading.Event(), threading.Event()
    thread = threading.Thread(target=role.run, args=(settings, stop, ready.set))
    thread.start()
    try:
        assert ready.wait(30)
        yield
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()


def events(settings: Settings, topic: str) -> list[tuple[Message, Event]]:
    found: list[tuple[Message, Event]] = []
    read_whole(settings, topic, lambda message: found.append((message, Codec().decode(topic, value_of(message) or b""))))
    return found


def runs(settings: Settings) -> dict[str, Run]:
    return {event.request_id: event for _, event in events(settings, "runs") if isinstance(event, Run)}


def run_of(settings: Settings, request_id: str) -> Run:
    deadline = time.monotonic() + 30
    while request_id not in (found := runs(settings)):
        assert time.monotonic() < deadline, "the run did not come"
        time.sleep(0.05)
    return found[request_id]


def desk(settings: Settings, publisher: Publisher) -> Desk:
    grants = {key: event for key, event in read_table(settings, "grants").items() if isinstance(event, Grant)}
    return Desk(local_actor(), load_signers(settings), settings.zones, grants, publisher.publish)


def issue(settings: Settings) -> SigningKey:
    key, publisher, now = ensure_key(settings, "ops", ("198.18.0.0/15",)), Publisher(settings, Codec()), datetime.now(UTC)
    form = GrantForm(("198.18.0.0/23",), now + timedelta(hours=1), exclusions=("198.18.0.66/32",), grant_id="lab", tcp_ports="22,80,443")
    create_grant(form, key, desk(settings, publisher), now)
    publisher.flush()
    return key


def push(settings: Settings, request_id: str, *targets: str, **more: str) -> None:
    publisher = Publisher(settings, Codec())
    publisher.publish("targets", request_id, TargetRequest.model_validate({"request_id": request_id, "targets": targets} | more))
    publisher.flush()


def test_a_request_becomes_units_on_the_partition_of_their_subnet_and_one_run(settings: Settings) -> None:
    issue(settings)
    with running(settings):
        push(settings, "r1", "198.18.0.0/23", "10.0.0.1")
        run = run_of(settings, "r1")
    work = [(message, unit) for message, unit in events(settings, "work.default") if isinstance(unit, WorkUnit)]
    assert (run.units, run.addresses, run.excluded) == (len(work), 511, 1)
    assert [one.target for one in run.refused] == ["10.0.0.1"]
    assert {(message.key(), message.partition()) for message, _ in work} == {
        (key.encode(), partition_of(key, 3)) for key in ("default|198.18.0.0/24", "default|198.18.1.0/24")
    }
    planned = [address for _, unit in work for address in unit.addresses]
    assert "198.18.0.66" not in planned
    assert len(set(planned)) == len(planned) == 511
    audits = [event.model_dump()["action"] for _, event in events(settings, "audit")]
    assert audits == ["grant.create"]


def test_bad_input_is_refused_or_set_aside_and_the_planner_goes_on(settings: Settings) -> None:
    issue(settings)
    producer = Producer(producer_config(settings))
    topic = f"{settings.kafka.prefix}targets"
    wrong_schema = Codec().encode("campaigns", _campaign())
    for value in (
        b"\xff\xfe",
        b"",
        b"{",
        b'{"request_id": "x"}',
        b'{"request_id": "x", "targets": ["198.18.0.7"], "extra": 1}',
        wrong_schema,
    ):
        producer.produce(topic, value, partition=1)
    for number, (target, ports) in enumerate((("0.0.0.0/0", None), ("198.18.0.7", "70000"), ("no.invalid", None))):
        producer.produce(topic, json.dumps({"request_id": f"bad{number}", "targets": [target], "ports": ports}).encode(), partition=1)
    producer.produce(topic, json.dumps({"request_id": "good", "targets": ["198.18.0.7"]}).encode(), partition=1)
    assert producer.flush(20) == 0
    with running(settings):
        assert run_of(settings, "good").units == 1
    found = runs(settings)
    assert [found[f"bad{number}"].refused[0].reason for number in range(3)] == [
        "names 4294967296 addresses, the limit is 1048576; write the networks that you mean",
        "Port 70000 does not exist: ports go from 1 to 65535.",
        "the name does not resolve",
    ]
    dead: list[Message] = []
    read_whole(settings, "dlq.targets", dead.append)
    assert len(dead) == 6
    assert all(dict(one.headers() or [])["error.reason"] for one in dead)


def test_a_revocation_and_a_new_key_count_at_once(settings: Settings) -> None:
    with running(settings):
        push(settings, "before", "198.18.0.7")
        assert run_of(settings, "before").units == 0
        key = issue(settings)
        wait_until_planned(settings, "granted", units=1)
        publisher = Publisher(settings, Codec())
        revoke_grant("lab", key, desk(settings, publisher), "done", datetime.now(UTC))
        publisher.flush()
        wait_until_planned(settings, "revoked", units=0)
        assert runs(settings)["revoked-0"].refused[0].reason == "grant lab was revoked"


def wait_until_planned(settings: Settings, name: str, units: int) -> None:
    """Push until a run has so many units: the grant and the request travel through different topics."""
    deadline = time.monotonic() + 20
    attempt = 0
    while True:
        push(settings, f"{name}-{attempt}", "198.18.0.7")
        if run_of(settings, f"{name}-{attempt}").units == units:
            return
        assert time.monotonic() < deadline
        attempt += 1


@pytest.mark.parametrize("forged", ["tombstone", "another signer", "junk", "an old revision"])
def test_what_others_write_over_a_grant_takes_nothing_from_a_planner_that_starts(settings: Settings, forged: str) -> None:
    issue(settings)
    publisher = Publisher(settings, Codec())
    ((_, grant),) = events(settings, "grants")
    assert isinstance(grant, Grant)
    if forged == "tombstone":
        publisher.publish("grants", "lab", None)
    elif forged == "another signer":
        publisher.publish("grants", "lab", grant.model_copy(update={"revision": 9, "signer": "mallory"}))
    elif forged == "an old revision":
        publisher.publish("grants", "lab", grant.model_copy(update={"revision": 0, "revoked": True}))
    else:
        producer = Producer(producer_config(settings))
        producer.produce(f"{settings.kafka.prefix}grants", b"junk", b"lab", 0)
        producer.flush()
    publisher.flush()
    with running(settings):
        push(settings, "r1", "198.18.0.7")
        assert (run_of(settings, "r1").units, run_of(settings, "r1").refused) == (1, ())


def test_the_same_request_twice_has_the_same_ids(settings: Settings) -> None:
    issue(settings)
    with running(settings):
        for _ in range(2):
            push(settings, "r1", "198.18.0.0/24")
        push(settings, "last", "198.18.0.9")
        run_of(settings, "last")
        deadline = time.monotonic() + 20
        while len(events(settings, "runs")) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    twice = [event.unit_id for _, event in events(settings, "work.default") if isinstance(event, WorkUnit) and len(event.addresses) > 1]
    assert len(twice) == 2 * len(set(twice)) > 0


def _campaign() -> Event:
    cadence = Cadence(kind=CadenceKind.ONCE)
    return Campaign(campaign_id="c", targets=("198.18.0.7",), cadence=cadence, changed_by="x", changed_at=datetime(2026, 1, 1, tzinfo=UTC))
