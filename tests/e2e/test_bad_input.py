"""Whatever comes in wrong gets a clear word or ends in a DLQ, and the pipeline goes on."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from confluent_kafka import Producer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from producers.grants.keys import ensure_key
from schemas.codec import Codec
from schemas.events.base import Event
from schemas.events.grants import Grant, Intensity
from schemas.examples import EXAMPLES
from schemas.portset import parse_ports
from schemas.signing import sign
from tests.e2e.conftest import World
from tests.pipelines import Pipeline, Row

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.store,
    pytest.mark.namespace,
    pytest.mark.slow,
    pytest.mark.timeout(400),
]


def put(pipeline: Pipeline, topic: str, value: bytes, key: str = "test", partition: int = 0) -> None:
    """Any Kafka client can write anything."""
    producer = Producer({"bootstrap.servers": pipeline.settings.bootstrap})
    producer.produce(topic, value, key.encode(), partition)
    assert producer.flush(30) == 0


def goes_on(world: World, name: str) -> None:
    """A good target afterwards is looked at as ever."""
    run = world.pipeline.push(f"good-after-{name}", [world.lab.plan.address4(5)], "6379", "full")
    sql = "SELECT 1 FROM observations FINAL WHERE run_id = {r:String} AND port = 6379 AND service = 'redis'"
    world.pipeline.until(lambda: world.pipeline.rows(sql, r=run["run_id"]), 60, "a good target to be looked at")


def example(topic: str) -> Event:
    """The first example of what a topic holds."""
    return next(event for name, event in EXAMPLES if name == topic)


def wrong_schema() -> bytes:
    """A sound record of another topic."""
    return Codec().encode("campaigns", example("campaigns"))


def altered(topic: str, **fields: object) -> bytes:
    """A sound record but for these fields, which no model would take."""
    return Codec().encode(topic, example(topic).model_copy(update=fields))


BAD_RECORDS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "neither Avro nor JSON": ("targets", lambda: b"\xff\xfe\x00 not a target"),
    "JSON of another shape": ("targets", lambda: b'{"request_id": "x", "targets": "198.18.230.5", "colour": 7}'),
    "an unknown schema": ("targets", lambda: b"\x00\x7f\x7f\x7f\x7f\x02\x02"),
    "a record of another topic": ("targets", wrong_schema),
    "JSON nested too deep": ("targets", lambda: b"[" * 100_000),
    "a number too large": ("targets", lambda: b'{"request_id": "x", "targets": ["198.18.230.5"], "not_before": ' + b"9" * 400 + b"}"),
    "random bytes": ("probes", lambda: b"\x01\x02\x03"),
    "a cut-off record": ("probes", lambda: Codec().encode("probes", example("probes"))[:40]),
    "a campaign among probes": ("probes", wrong_schema),
    "a look in the year 9999": ("probes", lambda: altered("probes", finished_at=datetime(9999, 12, 31, tzinfo=UTC))),
    "a change of no address": ("changes", lambda: altered("changes", address="")),
    "a tick before all time": ("ticks", lambda: altered("ticks", minute=datetime(1, 1, 2, tzinfo=UTC))),
    # Every worker reads these whole, each for itself; the archiver alone sets aside what can't be decoded.
    "no grant": ("grants", lambda: b"\x00\x00\x00\x00\x01no grant"),
    "no campaign": ("campaigns", lambda: b"no campaign"),
    "no inventory": ("inventory", lambda: b"no inventory"),
    "no intelligence": ("intel", lambda: b"no intelligence"),
    "no decision": ("decisions", lambda: b"no decision"),
    "no command": ("commands", lambda: b"no command"),
}
Letters = dict[str, list[dict[str, Any]]]


def letters(pipeline: Pipeline) -> Letters:
    """The dead letters by the name of the bad record, as `driftline dlq list --json` shows them."""
    listed = pipeline.json("dlq", "list")
    return {
        name: [one for one in listed if one["topic"] == topic and base64.b64decode(one["value"]) == make()]
        for name, (topic, make) in BAD_RECORDS.items()
    }


@pytest.fixture(scope="module")
def set_aside(world: World) -> Letters:
    """What became of every bad record, with a good target behind them."""
    for topic, make in BAD_RECORDS.values():
        put(world.pipeline, topic, make())
    goes_on(world, "bad-records")
    world.pipeline.until(lambda: all(letters(world.pipeline).values()), 60, "a dead letter of each bad record")
    return letters(world.pipeline)


@pytest.mark.parametrize("name", BAD_RECORDS)
def test_a_bad_record_is_set_aside_with_the_reason(set_aside: Letters, name: str) -> None:
    for letter in set_aside[name]:
        assert letter["reason"]
        assert letter["source"].startswith(f"{BAD_RECORDS[name][0]}:0:")
        assert letter["error"] in ("UndecodableError", "Poison")
        assert letter["code_version"]


@pytest.mark.parametrize("name", [name for name in BAD_RECORDS if name.startswith("no ")])
def test_a_bad_record_of_a_table_that_all_workers_read_is_set_aside_once(set_aside: Letters, name: str) -> None:
    assert len(set_aside[name]) == 1


def test_a_dead_letter_is_shown_whole(world: World, set_aside: Letters) -> None:
    shown = world.pipeline.json("dlq", "show", set_aside["random bytes"][0]["reference"])
    assert bytes.fromhex(shown["value"]) == b"\x01\x02\x03"
    assert "There is no dead letter" in world.pipeline.cli("dlq", "show", "targets:0:99999", code=2).stderr


def test_dead_letters_go_back_on_request_and_return_if_still_bad(world: World, set_aside: Letters) -> None:
    pipeline, wanted = world.pipeline, len(set_aside["neither Avro nor JSON"]) + 1
    told = pipeline.cli("dlq", "replay", "targets").stderr
    assert "went back to targets" in told
    assert not told.startswith("0 ")
    pipeline.until(lambda: len(letters(pipeline)["neither Avro nor JSON"]) == wanted, 60, "the letter to come back, once")
    assert "There is no DLQ" in pipeline.cli("dlq", "replay", "nonsense", code=2).stderr


REFUSED_BY_PUSH = [
    (["0.0.0.0/0"], "names 4294967296 addresses"),
    (["2001:db8::/32"], "IPv6 is never enumerated"),
    (["198.18.230.5", "--ports", "70000"], "70000"),
    (["198.18.230.5", "--ports", "-1"], ""),
    (["198.18.230.999"], ""),
    (["198.18.230.9-198.18.230.1"], ""),
    (["198.18.230.5", "--zone", "moon"], "There is no zone 'moon'"),
]


@pytest.mark.parametrize(("arguments", "words"), REFUSED_BY_PUSH)
def test_push_says_what_is_wrong_and_exits_with_2(world: World, arguments: list[str], words: str) -> None:
    done = world.pipeline.cli("targets", "push", *arguments, code=2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_bad_lines_are_told_by_number_and_the_good_ones_pushed(world: World) -> None:
    done = world.pipeline.cli(
        "targets", "push", "--ports", "9", "--json", feed="198.18.230.8\nnot an address!\n\n198.18.230.0/99\n", code=2
    )
    assert '"accepted": 1' in done.stdout
    assert "line 2: not an address!" in done.stderr
    assert "line 4: 198.18.230.0/99" in done.stderr


REFUSED_BY_THE_PLANNER = {
    "unresolved": ("nothing.invalid", None, "the name does not resolve"),
    "everything": ("0.0.0.0/0", None, "names 4294967296 addresses"),
    "port": ("198.18.230.5", "70000", "70000"),
    "negative": ("198.18.230.-5", None, ""),
    "negative-port": ("198.18.230.5", "22,,-80", ""),
    "long": ("x" * 5000, None, ""),
    "zone-id": ("fe80::1%eth0", None, "the name of an interface"),
}


@pytest.fixture(scope="module")
def refused(world: World) -> dict[str, Row]:
    """The runs of requests that any Kafka client can put on the topic, past the command line's checks."""
    for name, (target, ports, _) in REFUSED_BY_THE_PLANNER.items():
        text = json.dumps({"request_id": f"refuse-{name}", "targets": [target]} | ({"ports": ports} if ports else {}))
        put(world.pipeline, "targets", text.encode())
    return {name: world.pipeline.run_of(f"refuse-{name}") for name in REFUSED_BY_THE_PLANNER}


@pytest.mark.parametrize("name", REFUSED_BY_THE_PLANNER)
def test_a_request_past_the_command_line_is_refused_with_the_reason(refused: dict[str, Row], name: str) -> None:
    words = REFUSED_BY_THE_PLANNER[name][2]
    assert refused[name]["units"] == 0
    assert refused[name]["refused_reasons"][0]
    assert words in refused[name]["refused_reasons"][0]


def a_grant(name: str, network: str, **over: Any) -> Grant:
    now = datetime.now(UTC)
    fields: dict[str, Any] = {
        "grant_id": name,
        "revision": 1,
        "zones": ("default",),
        "networks": (network,),
        "tcp_ports": parse_ports("1-65535"),
        "intensity": Intensity(packets_per_second=1000, per_host_per_second=100),
        "valid_from": now - timedelta(days=2),
        "expires_at": now + timedelta(days=1),
        "issued_by": "mallory",
        "signer": "full",
    }
    return Grant.model_validate(fields | over)


def test_a_forged_grant_grants_nothing(world: World) -> None:
    pipeline, network = world.pipeline, "198.18.233.0/24"
    forged = sign(a_grant("forged", network), Ed25519PrivateKey.generate())
    put(pipeline, "grants", Codec().encode("grants", forged), "forged")
    run = pipeline.push("by-forged", ["198.18.233.5"], "22", "forged")
    assert run["units"] == 0
    assert "forged is not believed" in run["refused_reasons"][0]
    assert pipeline.push("by-any", ["198.18.233.5"], "22")["units"] == 0
    goes_on(world, "forged")


def test_a_grant_beyond_what_its_signer_may_grant_is_not_believed(world: World) -> None:
    pipeline, key = world.pipeline, ensure_key(world.pipeline.settings, "full", tuple(world.lab.networks()))
    put(pipeline, "grants", Codec().encode("grants", sign(a_grant("beyond", "198.18.0.0/16"), key.private)), "beyond")
    run = pipeline.push("by-beyond", ["198.18.233.5"], "22", "beyond")
    assert run["units"] == 0
    assert "beyond is not believed" in run["refused_reasons"][0]


def test_an_expired_grant_grants_nothing(world: World) -> None:
    pipeline, network = world.pipeline, world.lab.networks()[0]
    key = ensure_key(pipeline.settings, "full", tuple(world.lab.networks()))
    expired = sign(a_grant("expired", network, expires_at=datetime.now(UTC) - timedelta(hours=1)), key.private)
    put(pipeline, "grants", Codec().encode("grants", expired), "expired")
    run = pipeline.push("by-expired", [world.lab.plan.address4(5)], "6379", "expired")
    assert run["units"] == 0
    assert "expired" in run["refused_reasons"][0]
    assert {one["grant_id"]: one["standing"] for one in pipeline.json("grant", "list")}["expired"] != "counts"
    told = pipeline.cli("grant", "create", "--network", network, "--expires", "2020-01-01", "--key", "full", code=2).stderr
    assert "would have expired" in told
