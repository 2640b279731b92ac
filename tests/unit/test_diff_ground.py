"""What was looked at before, and which services were there at the first look."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from processors.diff.ground import MOST_ADDRESSES, Ground, ground_of, looks_of, never_looked_at, widened
from schemas.events.observations import SweepResult
from tests.sightings import HOST, SUBNET, ZONE, Bench, observation, plain, service, sweep

OTHER = "198.18.0.9"
moves = st.lists(
    st.tuples(
        st.sampled_from(["tcp", "udp"]),
        st.lists(st.sampled_from([HOST, OTHER, "198.18.0.8", "198.18.0.200"]), min_size=1, unique=True),
        st.tuples(st.integers(1, 30), st.integers(1, 30)).map(sorted),
        st.tuples(st.integers(1, 30), st.integers(1, 30)).map(sorted),
    ),
    max_size=8,
)


def looked(unit: str, addresses: list[str], ports: str, out: dict[str, str] | None = None, recall: float = 0.99) -> SweepResult:
    return sweep(unit, 10, probed=addresses, ports=ports, unreachable=out, recall=recall)


@given(moves)
def test_ground_is_what_was_looked_at_and_does_not_depend_on_the_order(steps: list[tuple[str, list[str], list[int], list[int]]]) -> None:
    sweeps: list[Any] = [
        {**plain(looked("u", hosts, f"{a}-{b}", {hosts[0]: f"{c}-{d}"})), "transport": transport}
        for transport, hosts, (a, b), (c, d) in steps
    ]
    expected = {
        (one["transport"], host, port)
        for one, (_, hosts, (a, b), (c, d)) in zip(sweeps, steps, strict=True)
        for host in hosts
        for port in range(a, b + 1)
        if host != hosts[0] or not c <= port <= d
    }
    forward, backward = Ground(), Ground()
    for one in sweeps:
        forward = widened(forward, one, 0.9)
        assert widened(forward, one, 0.9) is forward
    for one in reversed(sweeps):
        backward = widened(backward, one, 0.9)
    record = looks_of(forward, ZONE, SUBNET)
    assert record == looks_of(backward, ZONE, SUBNET)
    again = ground_of(record)
    for transport in ("tcp", "udp"):
        for host in (HOST, OTHER, "198.18.0.8", "198.18.0.200"):
            known = set(range(1, 31)) - never_looked_at(again, transport, host, range(1, 31))
            assert known == {port for port in range(1, 31) if (transport, host, port) in expected}


def test_a_whole_subnet_is_one_line() -> None:
    hosts = [f"198.18.0.{number}" for number in range(256)]
    record = looks_of(widened(Ground(), plain(looked("u", hosts, "1-1000")), 0.9), ZONE, SUBNET)
    assert [one["addresses"] for one in record["looked"]] == [["198.18.0.0/24"]]


def test_a_subnet_without_end_counts_as_looked_at() -> None:
    hosts = [f"2001:db8::{number:x}" for number in range(MOST_ADDRESSES + 1)]
    ground = widened(Ground(), plain(looked("u", hosts, "22")), 0.9)
    assert ground.full
    assert not ground.looked
    assert never_looked_at(ground, "tcp", "2001:db8::ffff:1", [22]) == frozenset()


def test_what_the_first_look_finds_is_of_the_baseline_and_what_opens_later_is_not() -> None:
    bench = Bench()
    first = bench.feed(sweep("u1", 10, {HOST: [22]}, probed=(HOST, OTHER)), observation("u1", 11, service(22)))
    later = bench.feed(
        sweep("u2", 100, {HOST: [22, 80], OTHER: [22]}),
        observation("u2", 101, service(22), service(80)),
        observation("u2", 101, service(22), address=OTHER),
    )
    told = {(one.address, one.port): one.baseline for one in (*first, *later) if one.port}
    assert told == {(HOST, 22): True, (HOST, 80): False, (OTHER, 22): False}


def test_new_ground_has_a_first_look_of_its_own() -> None:
    bench = Bench()
    bench.feed(sweep("u1", 10, ports="1-100"))
    (up, told) = bench.feed(sweep("u2", 100, {HOST: [200]}, ports="1-1000"), observation("u2", 101, service(200)))
    assert (up.baseline, told.baseline) == (False, True)


def test_a_look_that_finds_too_little_is_no_look() -> None:
    bench = Bench()
    bench.feed(sweep("u1", 10, recall=0.2), sweep("u2", 20, unreachable={HOST: "1-1000"}), sweep("u3", 30, not_probed={HOST: "1-1000"}))
    assert bench.feed(sweep("u4", 40, {HOST: [22]}), observation("u4", 41, service(22)))[1].baseline


def test_a_service_that_closed_and_came_back_was_not_always_there() -> None:
    bench = Bench()
    bench.feed(sweep("u1", 10, {HOST: [22, 80]}), observation("u1", 11, service(22), service(80)))
    bench.feed(sweep("u2", 30, {HOST: [22]}, closed={HOST: "80"}), sweep("u3", 60, {HOST: [22]}, closed={HOST: "80"}))
    (told,) = bench.feed(sweep("u4", 90, {HOST: [22, 80]}), observation("u4", 91, service(22), service(80)))
    assert (told.port, told.baseline) == (80, False)
