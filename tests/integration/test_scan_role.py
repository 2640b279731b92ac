"""The scanner's runtime on a real broker: one visible attempt a unit, in order; and nothing is sent without scope."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from infra.core.clock import SteadyClock, uptime, utc_now
from infra.kafka.client import prefixed, producer_config, read_whole
from infra.kafka.topics import TopicAdmin
from infra.local.broker import Broker
from schemas.events.grants import CommandKind
from schemas.events.operations import AgentState
from schemas.events.targets import Cause, TargetRequest
from schemas.signing import sign
from tests.brokers import broker_settings
from tests.scan_bench import Bench, heartbeats, in_thread, wait_for
from tests.scan_samples import Wire, make_grant, make_unit, packets_on

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]


@pytest.fixture
def bench(kafka: str, tmp_path: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(kafka, tmp_path, stack)


def test_each_unit_is_published_once_in_the_order_of_its_partition_and_the_offsets_are_committed(bench: Bench) -> None:
    bench.say("grants", "lab", make_grant())
    units = [make_unit(number, probes=("slow-end",) if number % 5 == 0 else ()) for number in range(40)]
    bench.push(*units)
    bench.thread()
    wait_for(lambda: len(bench.sweeps()) == 40)
    order: dict[int, list[str]] = {}
    read_whole(bench.settings, "work.default", lambda m: order.setdefault(m.partition() or 0, []).append(str(m.key())))
    seen: dict[int, list[str]] = {}
    read_whole(bench.settings, "probes", lambda m: seen.setdefault(m.partition() or 0, []).append(str(m.key())))
    assert seen == order
    assert all(one.complete and one.attempt == 1 for one in bench.sweeps())
    assert sorted(one.unit_id for one in bench.sweeps()) == sorted(one.unit_id for one in units)


def test_units_of_one_subnet_run_one_after_the_other_and_others_beside_them(bench: Bench) -> None:
    bench.say("grants", "lab", make_grant())
    same = [make_unit(number, ports=20, address=f"198.18.7.{number + 1}", rate=40) for number in range(3)]
    bench.push(*same, make_unit(100, ports=60, rate=40))
    bench.thread()
    wait_for(lambda: len(bench.sweeps()) == 4)
    packets = packets_on(bench.wire)
    spans = [[one.at for one in packets if one.unit_id == unit.unit_id] for unit in same]
    assert all(max(first) <= min(second) for first, second in itertools.pairwise(spans))
    other = [one.at for one in packets if one.address == "198.18.100.1"]
    assert min(other) < max(spans[0])


def test_a_revocation_stops_a_unit_in_its_middle_within_two_seconds(bench: Bench) -> None:
    bench.say("grants", "lab", make_grant())
    bench.thread()
    bench.push(make_unit(1, ports=1000, rate=50))
    wait_for(lambda: len(packets_on(bench.wire)) > 20)
    revoked_at = bench.say("grants", "lab", make_grant(2, revoked=True, reason="test"))
    wait_for(bench.sweeps)
    (sweep,) = bench.sweeps()
    last = packets_on(bench.wire)[-1].at
    assert last - revoked_at < 2.0
    assert (sweep.complete, sweep.probed, sweep.hosts) == (False, (), ())
    assert "revoked" in sweep.stopped_reason
    bench.say("grants", "lab", make_grant(1))  # replayed: revives nothing
    bench.push(make_unit(2, grant_revision=2))
    wait_for(lambda: len(bench.sweeps()) == 2)
    assert packets_on(bench.wire)[-1].at == last
    print(f"last packet {last - revoked_at:+.3f} s after the revocation was written")


def test_an_emptied_topic_and_a_restart_revive_nothing(bench: Bench) -> None:
    bench.say("grants", "lab", make_grant(1))
    with in_thread(bench.settings, Wire(bench.wire, "agent-0")):
        bench.push(make_unit(1))
        wait_for(bench.sweeps)
        bench.say("grants", "lab", make_grant(2, revoked=True))
        bench.push(make_unit(2, grant_revision=2))  # it waits until that revision is known
        wait_for(lambda: len(bench.sweeps()) == 2)
    admin, name = AdminClient({"bootstrap.servers": bench.bootstrap}), prefixed(bench.settings, "grants")
    admin.delete_topics([name])[name].result(30)
    wait_for(lambda: name not in admin.list_topics(timeout=10).topics)
    TopicAdmin(bench.settings).apply()
    bench.say("grants", "lab", make_grant(1))
    bench.thread()
    bench.push(make_unit(3))
    wait_for(lambda: len(bench.sweeps()) == 3)
    assert len(packets_on(bench.wire)) == 1
    assert [one.complete for one in sorted(bench.sweeps(), key=lambda one: one.finished_at)] == [True, False, False]


def test_a_grant_by_an_unknown_key_counts_for_nothing_and_the_exclusions_of_every_grant_hold(bench: Bench) -> None:
    stranger = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
    for name, signer in (("unknown", "stranger"), ("forged", "tester")):
        bench.say("grants", name, sign(make_grant(9, grant_id=name, signer=signer), stranger))
    bench.say("grants", "lab", make_grant(exclusions=("198.18.3.1/32",)))
    bench.say("grants", "other", make_grant(grant_id="other", exclusions=("198.18.4.0/24",)))
    bench.say("grants", "lab", sign(make_grant(9), stranger))  # a newer revision, without the exclusion, by nobody
    units = [make_unit(1, grant_id="unknown"), make_unit(2, grant_id="forged"), make_unit(3), make_unit(4), make_unit(5)]
    bench.push(*units, make_unit(6, grant_id="other", address="198.18.3.1"), make_unit(7, grant_id="other"))
    bench.thread()
    wait_for(lambda: len(bench.sweeps()) == 7)
    assert sorted(one.address for one in packets_on(bench.wire)) == ["198.18.5.1", "198.18.7.1"]


def test_a_killed_scanner_s_units_are_redone_by_the_other_and_one_attempt_is_visible(bench: Bench) -> None:
    bench.say("grants", "lab", make_grant())
    first, second = bench.process(0), bench.process(1)
    units = [make_unit(number, ports=60, rate=30) for number in range(24)]
    wait_for(lambda: {len(one.partitions) for one in heartbeats(bench).values()} == {2})
    bench.push(*units)
    wait_for(lambda: {one.process for one in packets_on(bench.wire)} == {first.pid, second.pid})
    wait_for(lambda: sum(one.process == first.pid for one in packets_on(bench.wire)) > 60)
    first.send_signal(signal.SIGKILL)
    first.wait()
    killed_at = uptime()
    wait_for(lambda: len(bench.sweeps()) >= 24, 60)
    print(f"all units visible {uptime() - killed_at:.1f} s after the kill")
    assert sorted(one.unit_id for one in bench.sweeps()) == sorted(one.unit_id for one in units)
    assert all(one.complete for one in bench.sweeps())
    redone = {one.unit_id for one in packets_on(bench.wire) if one.process == first.pid} & {
        one.unit_id for one in packets_on(bench.wire) if one.process == second.pid
    }
    assert redone


@pytest.mark.long
def test_a_scanner_killed_again_and_again_loses_and_doubles_nothing(bench: Bench) -> None:
    bench.say("grants", "lab", make_grant())
    units = [make_unit(number, ports=5) for number in range(200)]
    bench.push(*units)
    for _ in range(3):
        before = len(bench.sweeps())
        child = bench.process(0)
        wait_for(lambda floor=before: len(bench.sweeps()) > floor)  # type: ignore[misc]
        child.send_signal(signal.SIGKILL)
        child.wait()
    bench.process(0)
    wait_for(lambda: len(bench.sweeps()) >= 200, 60)
    assert sorted(one.unit_id for one in bench.sweeps()) == sorted(one.unit_id for one in units)


def test_a_stopped_process_sends_nothing_when_it_goes_on_until_it_has_asked_again(bench: Bench) -> None:
    bench.say("grants", "lab", make_grant())
    child = bench.process(0)
    bench.push(make_unit(1, ports=1000, rate=50))
    wait_for(lambda: len(packets_on(bench.wire)) > 20)
    child.send_signal(signal.SIGSTOP)
    count = len(packets_on(bench.wire))
    bench.say("grants", "lab", make_grant(2, revoked=True))
    time.sleep(7.0)  # the time itself is under test: longer than the cut-off
    child.send_signal(signal.SIGCONT)
    wait_for(bench.sweeps)
    assert len(packets_on(bench.wire)) <= count + 1  # the one that had passed its gate when the process was stopped
    assert "revoked" in bench.sweeps()[0].stopped_reason


def test_a_freeze_halts_its_networks_at_once_and_only_a_thaw_ends_it(bench: Bench) -> None:
    bench.say("grants", "lab", make_grant())
    bench.thread()
    bench.push(make_unit(1, ports=1000, rate=50), make_unit(2, ports=150, rate=50))
    wait_for(lambda: {one.address for one in packets_on(bench.wire)} == {"198.18.1.1", "198.18.2.1"})
    frozen_at = bench.command(CommandKind.FREEZE, networks=("198.18.1.0/28",))
    wait_for(lambda: len(bench.sweeps()) == 2)
    assert max(one.at for one in packets_on(bench.wire) if one.address == "198.18.1.1") - frozen_at < 2.0
    assert {one.subnet: one.stopped_reason for one in bench.sweeps()} == {"198.18.1.0/24": "frozen", "198.18.2.0/24": ""}
    bench.command(CommandKind.RESUME)
    bench.command(CommandKind.THAW, networks=("198.18.1.0/24",))  # that is not what was frozen
    bench.push(make_unit(3, address="198.18.1.1"))
    wait_for(lambda: len(bench.sweeps()) == 3)
    assert [one.stopped_reason for one in bench.sweeps() if one.unit_id == make_unit(3).unit_id] == ["frozen"]
    bench.command(CommandKind.THAW, networks=("198.18.1.0/28",))
    numbers = itertools.count(4)

    def probed_again() -> bool:
        bench.push(make_unit(next(numbers), address="198.18.1.1"))
        return any(one.complete and one.subnet == "198.18.1.0/24" for one in bench.sweeps())

    wait_for(probed_again)


def test_drain_finishes_what_is_in_work_takes_nothing_new_and_resume_goes_on(bench: Bench) -> None:
    bench.say("grants", "lab", make_grant())
    bench.thread()
    bench.push(make_unit(1, ports=100, rate=50))
    wait_for(lambda: packets_on(bench.wire))
    bench.command(CommandKind.DRAIN, "agent-0")
    wait_for(lambda: heartbeats(bench)["agent-0"].state is AgentState.DRAINED)
    assert [one.complete for one in bench.sweeps()] == [True]
    bench.push(make_unit(2))
    time.sleep(1.5)  # the absence of work is under test
    assert len(bench.sweeps()) == 1
    bench.command(CommandKind.RESUME, "agent-0")
    wait_for(lambda: len(bench.sweeps()) == 2)


def test_bad_records_go_to_the_dlq_and_those_behind_them_go_on(bench: Bench) -> None:
    bench.say("grants", "lab", make_grant())
    producer = Producer(producer_config(bench.settings))
    producer.produce(prefixed(bench.settings, "work.default"), b"\0\0\0\0\1junk", b"x", 0)
    producer.flush(10)
    bench.push(make_unit(1), make_unit(2, zone="elsewhere"), make_unit(3, probes=("broken",)), make_unit(4))
    bench.thread()
    wait_for(lambda: len(bench.sweeps()) == 3)
    letters: list[dict[str, bytes]] = []
    read_whole(bench.settings, "dlq.work.default", lambda m: letters.append(dict(m.headers() or [])))  # type: ignore[arg-type]
    assert sorted(one["error.class"] for one in letters) == [b"Poison", b"RuntimeError", b"UndecodableError"]
    assert {one.unit_id: one.complete for one in bench.sweeps()} == {
        make_unit(1).unit_id: True,
        make_unit(3).unit_id: False,
        make_unit(4).unit_id: True,
    }


def test_expired_and_uncovered_units_are_told_to_be_over_without_a_packet(bench: Bench) -> None:
    bench.say("grants", "lab", make_grant())
    past = datetime(2020, 1, 1, tzinfo=UTC)
    bench.push(make_unit(1, expires_at=past), make_unit(2, address="203.0.113.5"), make_unit(3, grant_id="unknown"))
    bench.thread()
    wait_for(lambda: len(bench.sweeps()) == 3)
    reasons = {one.unit_id: one.stopped_reason for one in bench.sweeps()}
    assert reasons[make_unit(1).unit_id] == "expired"
    assert "in a network" in reasons[make_unit(2).unit_id]
    assert "unknown" in reasons[make_unit(3).unit_id]
    assert not packets_on(bench.wire)


def test_a_full_scanner_pauses_and_still_keeps_its_partitions(bench: Bench) -> None:
    bench.say("grants", "lab", make_grant())
    bench.push(*[make_unit(number, ports=2) for number in range(300)])
    bench.thread(parallel_units=2)
    wait_for(lambda: len(bench.sweeps()) == 300, 60)
    assert len({one.unit_id for one in bench.sweeps()}) == 300


@pytest.mark.long
def test_when_the_broker_is_gone_sending_stops_within_the_cut_off_and_goes_on_when_it_is_back(tmp_path: Path) -> None:
    settings = broker_settings(tmp_path)
    with Broker(settings) as broker, ExitStack() as stack:
        bench = Bench(settings.bootstrap, tmp_path, stack)
        bench.say("grants", "lab", make_grant())
        bench.thread()
        bench.push(make_unit(1, ports=600, rate=50))
        wait_for(lambda: len(packets_on(bench.wire)) > 20)
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGKILL)
        gone_at = uptime()
        wait_for(lambda: uptime() - packets_on(bench.wire)[-1].at > 3.0)
        assert packets_on(bench.wire)[-1].at - gone_at < 5.5
        count = len(packets_on(bench.wire))
        print(f"last packet {packets_on(bench.wire)[-1].at - gone_at:.2f} s after the broker was killed")
        broker.start()
        wait_for(lambda: len(packets_on(bench.wire)) > count + 5)
        wait_for(bench.sweeps, 60)
        assert [one.complete for one in bench.sweeps()] == [True]


def test_the_rest_of_a_unit_that_took_too_long_is_asked_for(bench: Bench) -> None:
    bench.say("grants", "lab", make_grant())
    bench.push(make_unit(1, ports=200, rate=50, probes=("partial",), campaign_id="weekly"))
    bench.thread(unit_seconds=1)
    wait_for(bench.sweeps)
    (sweep,) = bench.sweeps()
    assert (sweep.complete, sweep.stopped_reason) == (False, "over_time")
    (request,) = bench.events("targets")
    assert isinstance(request, TargetRequest)
    sent = len(packets_on(bench.wire))
    assert 0 < sent <= 125
    assert (request.targets, request.ports) == (("198.18.1.1",), f"{sent + 1}-200")
    assert (request.grant_id, request.campaign_id, request.cause) == ("lab", "weekly", Cause.PUSHED)


def test_a_clock_that_jumps_an_hour_is_not_followed_but_told(bench: Bench) -> None:
    """What is stamped goes on as if nothing had been, a grant neither ends nor lives longer, and `agents` says how far the clock is off."""
    bench.say("grants", "lab", make_grant())
    jumped = timedelta(0)
    with in_thread(bench.settings, Wire(bench.wire, "agent-0"), SteadyClock(lambda: utc_now() + jumped)):
        wait_for(lambda: heartbeats(bench))
        for number, jumped in enumerate((timedelta(hours=1), timedelta(hours=-1))):
            bench.push(make_unit(number))
            wait_for(lambda number=number: len(bench.sweeps()) == number + 1)  # type: ignore[misc]
            wanted = jumped / timedelta(milliseconds=1)
            wait_for(lambda wanted=wanted: abs(next(iter(heartbeats(bench).values())).clock_offset_ms - wanted) < 5_000)  # type: ignore[misc]
            assert abs(next(iter(heartbeats(bench).values())).at - utc_now()) < timedelta(seconds=20)
    assert all(one.complete for one in bench.sweeps())
