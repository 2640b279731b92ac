"""What is on the network equals what ends in ClickHouse: every row and no other, before the lab changes and after."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from infra.local.lab.truth import ServiceTruth
from tests.e2e.conftest import Look, World
from tests.pipelines import Row

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.store,
    pytest.mark.namespace,
    pytest.mark.slow,
    pytest.mark.timeout(400),
]
Seen = tuple[str, str, int, str, str, str, str]


def told(truth: Sequence[ServiceTruth]) -> list[Seen]:
    """The truth as rows. Nmap names products with more words and other capitals (`Redis key-value store`): the first word counts."""
    return sorted(
        (one.transport, one.address, one.port, one.kind, _first(one.product), one.version.split()[0], one.certificate_sha256 or "")
        for one in truth
    )


def seen(rows: Sequence[Row]) -> list[Seen]:
    return sorted(
        (
            row["transport"],
            row["address"],
            row["port"],
            row["service"],
            _first(row["product"]),
            row["version"],
            row["certificate_sha256"],
        )
        for row in rows
    )


def _first(words: str) -> str:
    return words.casefold().split()[0] if words else ""


def test_every_service_of_the_lab_and_no_other_is_in_clickhouse(world: World) -> None:
    assert seen(world.first.services) == told(world.first.truth)
    assert {row["status"] for row in world.first.services} == {"open"}
    assert seen(world.first.view) == told(world.first.truth)


def test_the_first_look_tells_of_nothing_but_what_was_opened(world: World) -> None:
    opened = {(row["address"], row["port"]) for row in world.first.changes if row["kind"] == "service_opened"}
    assert opened == {(one.address, one.port) for one in world.first.truth}
    assert {row["kind"] for row in world.first.changes} <= {"service_opened", "host_up"}


def test_after_the_change_clickhouse_is_equal_to_the_lab_again(changed: Look) -> None:
    assert seen(changed.services) == told(changed.truth)


def test_the_change_is_told_as_what_it_was(world: World, changed: Look) -> None:
    before, after = ({(one.address, one.port): one for one in truth} for truth in (world.first.truth, changed.truth))
    wanted = {("service_opened", *place) for place in after.keys() - before.keys()} | {
        ("service_closed", *place) for place in before.keys() - after.keys()
    }
    wanted |= {
        ("certificate_changed", *place)
        for place in before.keys() & after.keys()
        if before[place].certificate_sha256 != after[place].certificate_sha256
    }
    first = [(row["kind"], row["address"], row["port"]) for row in world.first.changes]
    second = sorted((row["kind"], row["address"], row["port"]) for row in changed.changes)
    for one in first:
        second.remove(one)
    assert second == sorted(wanted)


def test_the_findings_follow_the_change(world: World, changed: Look) -> None:
    def places(rows: Sequence[Row], rule: str, status: str) -> set[str]:
        return {place for row in rows if row["rule"] == rule and row["status"] == status for place in row["places"]}

    cache, files = world.lab.plan.address4(5), world.lab.plan.address4(6)
    assert places(world.first.findings, "redis-without-password", "open") == {f"{cache}:6379"}
    assert places(changed.findings, "redis-without-password", "open") == {f"{cache}:6379", f"{files}:6379"}
    assert places(world.first.findings, "memcached-without-password", "open") == {f"{cache}:11211"}
    assert places(changed.findings, "memcached-without-password", "open") == set()
    assert [row["status"] for row in changed.findings if row["rule"] == "memcached-without-password"] == ["resolved"]
    assert len({row["finding_id"] for row in changed.findings}) == len(changed.findings)
