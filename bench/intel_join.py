"""The part `join` of `make bench-intel`: how soon news of a vulnerability has judged again the services that it touches, and at what cost.

Two workers share the partitions; each holds 250,000 CVE records, both together so many services, of 200 products with five vulnerabilities
each; one in a hundred runs the product that the news is about. News: KEV lists a vulnerability of it, EPSS scores one, a record narrows its
range.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import psutil
from confluent_kafka import Consumer, TopicPartition
from rich.console import Console

from bench.intel_rig import MB, Tail, correlator, fill, send, wait_applied
from bench.report import Bar, Part
from infra.core.settings import Settings
from infra.kafka.client import consumer_config, prefixed
from producers.intel.cve import read_cve
from producers.intel.sources import Source
from producers.intel.syncing import end_of_topic, sync
from schemas.codec import Codec
from schemas.events.assets import AssetChange, ChangeKind
from schemas.events.observations import ServiceObservation
from schemas.ids import partition_of, subnet_key
from schemas.plain import Plain
from tests.feeds import cve, epss, kev

NOW = datetime(2026, 6, 1, tzinfo=UTC)
PRODUCTS, EACH = 200, 5
SHARE = 100
"""One service in so many runs the product that the news is about."""
NEWS = "CVE-1999-0000"


def join(settings: Settings, chosen: argparse.Namespace, console: Console) -> Part:
    """The inventory grows from step to step; after each, three pieces of news."""
    fill(settings, chosen.cves)
    send(settings, "intel", ((one, value, 0) for one, value in _records()))
    figures: dict[str, object] = {}
    bars: list[Bar] = []
    there = 0
    with ExitStack() as stack:
        places = [
            settings.model_copy(update={"slot": slot, "data_dir": settings.data_dir / f"worker{slot}"}) for slot in range(chosen.workers)
        ]
        workers = [stack.enter_context(correlator(one)) for one in places]
        wait_applied(settings, end_of_topic(settings)[1])
        figures |= {"workers": len(workers), "mb_without_services": _memory(workers)}
        for step, count in enumerate(chosen.services):
            begun = time.monotonic()
            send(settings, "changes", _changes(settings, there, count))
            _wait_read(settings)
            added, there = count - there, count
            figures[f"{count}"] = found = {
                "services": count,
                "touched": count // SHARE,
                "changes_per_second": round(added / (time.monotonic() - begun)),
                **_news(settings, step),
                "mb": _memory(workers),
            }
            console.print(found)
            bars += [
                Bar(f"{count} services, {name}: seconds until all that it touches is judged again", found[name], "at_most", 5.0)
                for name in ("kev", "epss", "range")
            ]
    return Part(figures, bars)


def _memory(workers: Sequence[psutil.Process]) -> list[int]:
    """Of each worker, in MB (resident set)."""
    return [round(one.memory_info().rss / MB) for one in workers]


def _news(settings: Settings, step: int) -> dict[str, Any]:
    """Seconds from the start of each sync until every partition has applied it, with and without the sync itself."""
    day, folder = f"2026-04-{step + 1:02}", settings.data_dir
    texts = {
        "kev": kev((NEWS, *(f"CVE-1998-{number:04}" for number in range(step))), day),
        "epss": epss({NEWS: 0.1 + 0.2 * step}, day),
        "cve": json.dumps(_record(0, 0, f"1.{9 - step}", day)).encode(),
    }
    found: dict[str, Any] = {}
    for feed, text in texts.items():
        path = folder / f"{feed}-{step}"
        path.write_bytes(text)
        tail, begun = Tail(settings), time.monotonic()
        outcome = sync(settings, Codec(), [Source(feed, str(path))], NOW)[0]
        if outcome.problem or not outcome.written:
            raise RuntimeError(f"{feed}: {outcome.problem or outcome.note or 'nothing was written'}")
        synced = time.monotonic()
        tail.wait(end_of_topic(settings)[1] - 1, settings.kafka.partitions)
        name = "range" if feed == "cve" else feed
        found[name], found[f"{name}_without_sync"] = round(time.monotonic() - begun, 2), round(time.monotonic() - synced, 2)
    return found


def _record(product: int, number: int, below: str, day: str) -> Any:
    name = NEWS if product == number == 0 else f"CVE-1999-{product * EACH + number:04}"
    versions = [{"status": "affected", "version": "1.0", "lessThan": below, "versionType": "semver"}]
    affected = {"vendor": f"vendor{product}", "product": f"product{product}", "defaultStatus": "unaffected", "versions": versions}
    return cve(name, day, affected=[affected])


def _records() -> Iterator[tuple[str, bytes]]:
    codec = Codec()
    for product in range(PRODUCTS):
        for number in range(EACH):
            fields = read_cve(_record(product, number, "2.0", "2026-03-01"))
            assert isinstance(fields, dict)
            yield fields["cve"], codec.encode("intel", Plain("IntelRecord", fields))


def _changes(settings: Settings, start: int, stop: int) -> Iterator[tuple[str, bytes, int]]:
    """Services that open, four a host."""
    codec = Codec()
    for number in range(start, stop):
        address = str(ipaddress.IPv4Address(int(ipaddress.IPv4Address("10.0.0.0")) + number // 4))
        subnet = str(ipaddress.ip_network((address, 24), strict=False))
        product = 0 if number % SHARE == 0 else 1 + number % (PRODUCTS - 1)
        name = f"cpe:2.3:a:vendor{product}:product{product}:1.5:*:*:*:*:*:*:*"
        seen = ServiceObservation(port=8000 + number % 4, service="http", product=f"product{product}", version="1.5", cpes=(name,))
        change = AssetChange(
            change_id=f"{number:032x}",
            kind=ChangeKind.SERVICE_OPENED,
            zone="default",
            address=address,
            subnet=subnet,
            revision=1 + number % 4,
            port=seen.port,
            after=seen,
            summary="opened",
            evidence_ids=(f"{number // 1000:032x}",),
            observed_at=NOW,
        )
        yield f"default|{address}", codec.encode("changes", change), partition_of(subnet_key("default", subnet), settings.kafka.partitions)


def _wait_read(settings: Settings, seconds: float = 7200.0) -> None:
    """Until the correlator has committed all of `changes`."""
    consumer, deadline = Consumer(consumer_config(settings, "correlator")), time.monotonic() + seconds
    try:
        places = [TopicPartition(prefixed(settings, "changes"), number) for number in range(settings.kafka.partitions)]
        ends = {one.partition: consumer.get_watermark_offsets(one, 10.0)[1] for one in places}
        while any(max(one.offset, 0) < ends[one.partition] for one in consumer.committed(places, 10.0)):
            if time.monotonic() > deadline:
                raise TimeoutError("the correlator did not read all changes in time")
            time.sleep(0.5)
    finally:
        consumer.close()
