"""What `bench.sink` pours: a log of host observations or changes, the loop by hand that races ours, and a reader that looks for rows."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from confluent_kafka import Producer

from infra.clickhouse.client import connect
from infra.core.settings import Settings
from infra.kafka.client import prefixed, producer_config
from schemas.codec import Codec
from schemas.events.assets import AssetChange
from schemas.events.observations import HostObservation
from schemas.examples import EXAMPLES
from schemas.ids import content_id

SERVICES = 10  # of one host
ID, ADDRESS = content_id("bench", "id"), "198.118.118.118"
SEEN = next(event for _, event in EXAMPLES if isinstance(event, HostObservation))
CHANGE = next(event for _, event in EXAMPLES if isinstance(event, AssetChange))


@dataclass(frozen=True, slots=True)
class Load:
    """A log: one record's bytes, in which the id and the address are written over for each."""

    topic: str
    table: str
    records: int
    rows: int
    pattern: tuple[bytes, ...]

    def values(self) -> Iterator[bytes]:
        """The values, each with an id of its own."""
        for number in range(self.records):
            address = f"198.{100 + number % 100}.{100 + number // 100 % 150}.{100 + number // 15_000 % 150}"
            value = self.pattern[number % len(self.pattern)]
            yield value.replace(ID.encode(), f"{number:032x}".encode()).replace(ADDRESS.encode(), address.encode())


def load_of(topic: str, rows: int) -> Load:
    """So many rows. One service of five speaks TLS and HTTP, as does one change of five."""
    codec = Codec()
    full, plain = SEEN.services[0], SEEN.services[0].model_copy(update={"tls": None, "http": None})
    if topic == "probes":
        services = tuple((plain if number % 5 else full).model_copy(update={"port": 8000 + number}) for number in range(SERVICES))
        event = SEEN.model_copy(update={"observation_id": ID, "address": ADDRESS, "services": services})
        return Load(topic, "observations", rows // SERVICES, rows // SERVICES * SERVICES, (codec.encode(topic, event),))
    opened = CHANGE.model_copy(update={"change_id": ID, "address": ADDRESS, "before": None, "after": plain})
    changed = opened.model_copy(update={"before": full, "after": full})
    return Load(topic, "changes", rows, rows, (codec.encode(topic, changed), *4 * (codec.encode(topic, opened),)))


def warm_up(settings: Settings) -> None:
    """One change in each partition, until all are there: what the first records of a start take is not measured."""
    producer, client, count = Producer(producer_config(settings)), connect(settings), settings.kafka.partitions
    for number, value in enumerate(load_of("changes", count).values()):
        producer.produce(prefixed(settings, "changes"), value, b"k", number)
    producer.flush(30.0)
    deadline = time.monotonic() + 30
    while int(client.query("SELECT count() FROM changes FINAL").result_rows[0][0]) < count:
        if time.monotonic() > deadline:
            raise SystemExit("the warm-up's rows did not arrive: the measurement failed")
        time.sleep(0.05)


def visible(settings: Settings, rate: int, seconds: float) -> list[float]:
    """Publish changes at a steady rate and note for each, in milliseconds, when a reader first saw it."""
    took: list[float] = []
    stop = threading.Event()
    begun = round(time.time() * 1000)

    def look() -> None:
        client, seen = connect(settings), Counter[int]()
        sql = (
            "SELECT toUnixTimestamp64Milli(recorded_at) AS ms, count() FROM changes WHERE recorded_at >= "
            "fromUnixTimestamp64Milli({since:Int64}) GROUP BY ms"
        )
        while not stop.wait(0.01):
            since = max(begun, round(time.time() * 1000) - 10_000)
            rows = client.query(sql, parameters={"since": since}).result_rows
            now = time.time() * 1000
            for ms, count in rows:
                took.extend([now - ms] * (count - seen[ms]))
                seen[ms] = count

    reader = threading.Thread(target=look, daemon=True)
    reader.start()
    producer = Producer(producer_config(settings))
    count = round(rate * seconds)
    salt = f"{time.time_ns():016x}".encode()
    first = time.monotonic()
    for number, value in enumerate(load_of("changes", count).values()):
        time.sleep(max(0.0, first + number / rate - time.monotonic()))
        producer.produce(prefixed(settings, "changes"), value.replace(b"0" * 16, salt, 1), b"k", number % settings.kafka.partitions)
        producer.poll(0)
    producer.flush(30.0)
    deadline = time.monotonic() + 5
    while len(took) < count and time.monotonic() < deadline:
        time.sleep(0.01)
    stop.set()
    reader.join()
    if len(took) != count:
        raise SystemExit(f"{len(took)} of {count} rows were seen: the measurement failed")
    return took


# One process, one thread, large batches, fastavro without pydantic; commits as ours does, after the insert.
PEER = """
import io, json, os, pathlib
import fastavro
from confluent_kafka import Consumer, TopicPartition
from infra.clickhouse.client import connect
from infra.core.settings import load_settings
from schemas.release import current_schema
job = json.loads(os.environ["PEER"])
schema = fastavro.parse_schema(current_schema(job["name"]))
client = connect(load_settings(), writer=True)
SEEN = ["port", "transport", "service", "product", "version", "cpes", "facts"]
def service(one):
    tls, http = one.get("tls") or {}, one.get("http") or {}
    certificate = tls.get("certificate") or {}
    return [*(one[name] for name in SEEN), tls.get("version", ""), tls.get("outdated", []), certificate.get("sha256", ""),
            certificate.get("subject", ""), certificate.get("not_after"), http.get("status", 0), http.get("title", ""),
            one["banner"], one["evidence"]]
HOST = ["observation_id", "unit_id", "run_id", "zone", "subnet", "address", "grant_id", "agent_id", "attempt", "names", "observed_at"]
CHANGE = ["change_id", "kind", "zone", "address", "subnet", "revision", "port", "transport", "summary", "evidence_ids", "observed_at"]
COMPARED = ["service", "product", "version", "certificate_sha256"]
def compared(one):
    one = one or {}
    certificate = (one.get("tls") or {}).get("certificate") or {}
    return [one.get("service", ""), one.get("product", ""), one.get("version", ""), certificate.get("sha256", "")]
def rows(event, at):
    if job["name"] == "changes":
        yield [*(event[name] for name in CHANGE), *compared(event["before"]), *compared(event["after"]), at]
        return
    host = [event[name] for name in HOST]
    for one in event["services"]:
        yield [*host, *service(one), at]
if job["name"] == "probes":
    table, columns = "observations", [*HOST, *SEEN, "tls_version", "tls_outdated", "certificate_sha256", "certificate_subject",
                                      "certificate_not_after", "http_status", "http_title", "banner", "evidence", "recorded_at"]
else:
    sides = [name + side for side in ("_before", "_after") for name in COMPARED]
    table, columns = "changes", [*CHANGE, *sides, "recorded_at"]
context = client.create_insert_context(table, columns, column_oriented=True)
consumer = Consumer({"bootstrap.servers": job["bootstrap"], "group.id": "by-hand-" + job["topic"], "auto.offset.reset": "earliest",
                     "enable.auto.commit": False, "isolation.level": "read_committed", "fetch.queue.backoff.ms": 5})
consumer.subscribe([job["topic"]])
while not consumer.assignment():
    consumer.poll(0.05)
for one in consumer.assignment():
    consumer.seek(TopicPartition(one.topic, one.partition, 0))
pathlib.Path(job["ready"]).touch()
from datetime import datetime, timezone
while True:
    found = []
    for message in consumer.consume(5000, 0.2):
        if message.error() is None:
            event = fastavro.schemaless_reader(io.BytesIO(message.value()[5:]), schema)
            found += rows(event, datetime.fromtimestamp(message.timestamp()[1] / 1000, timezone.utc))
    if found:
        client.insert(data=[list(column) for column in zip(*found)], context=context)
        consumer.commit(asynchronous=False)
"""
