"""The scanner after what once made it lose, skip or repeat work: a drain, an end, a hanging transaction, a host that says too much."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.kafka.client import MOST_BYTES, prefixed, read_whole, transactional_producer
from processors.scan.scope.gate import Gate
from schemas.events.grants import CommandKind
from schemas.events.observations import HostObservation, ServiceObservation
from schemas.events.operations import AgentState
from schemas.events.targets import WorkUnit
from tests.scan_bench import Bench, heartbeats, in_thread, wait_for
from tests.scan_samples import Wire, WireReport, make_grant, make_unit, packets_on

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]


@pytest.fixture
def bench(kafka: str, tmp_path: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(kafka, tmp_path, stack)


def test_a_partition_that_was_paused_when_it_was_left_flows_again_when_it_comes_back(bench: Bench) -> None:
    bench.say("grants", "lab", make_grant())
    bench.push(*[make_unit(number, ports=20, address=f"198.18.7.{number + 1}", rate=40) for number in range(12)])
    bench.thread(parallel_units=1)
    wait_for(lambda: packets_on(bench.wire))
    bench.command(CommandKind.DRAIN, "agent-0")
    wait_for(lambda: heartbeats(bench)["agent-0"].state is AgentState.DRAINED)
    assert 0 < len(bench.sweeps()) < 12
    bench.command(CommandKind.RESUME, "agent-0")
    wait_for(lambda: len(bench.sweeps()) == 12)


def test_units_that_wait_when_the_scanner_ends_are_done_by_its_successor(bench: Bench) -> None:
    bench.say("grants", "lab", make_grant())
    bench.push(make_unit(1, probes=("slow-end",)))
    stop = bench.thread()
    wait_for(lambda: packets_on(bench.wire))
    stop.set()
    bench.thread(1)
    wait_for(bench.sweeps)
    assert [(one.complete, one.agent_id) for one in bench.sweeps()] == [(True, "agent-1")]


def test_a_revocation_behind_somebody_s_open_transaction_counts_all_the_same(bench: Bench) -> None:
    bench.say("grants", "lab", make_grant())
    bench.thread()
    bench.push(make_unit(1, ports=1000, rate=50))
    wait_for(lambda: len(packets_on(bench.wire)) > 20)
    hanging = transactional_producer(bench.settings, "somebody")
    hanging.begin_transaction()
    hanging.produce(prefixed(bench.settings, "grants"), bench.codec.encode("grants", make_grant()), b"lab", 0)
    hanging.flush(10)
    revoked_at = bench.say("grants", "lab", make_grant(2, revoked=True))
    wait_for(bench.sweeps)
    hanging.abort_transaction()
    assert packets_on(bench.wire)[-1].at - revoked_at < 2.0
    assert "revoked" in bench.sweeps()[0].stopped_reason


class Talkative(Wire):
    """Reports a host that says more than a record can hold, where a unit wishes for it."""

    async def run(self, unit: WorkUnit, gate: Gate, attempt: int) -> WireReport:
        report = await super().run(unit, gate, attempt)
        if "talkative" not in unit.probes:
            return report
        fields = unit.model_dump(include={"unit_id", "run_id", "zone", "subnet", "grant_id"})
        more = {"observation_id": "o", "address": unit.addresses[0], "agent_id": "agent-0", "observed_at": datetime.now(UTC)}
        services = (ServiceObservation(port=1, banner="x" * MOST_BYTES),)
        return WireReport(report.sweeps, (HostObservation.model_validate({**fields, **more, "services": services}),), report.packets)


def test_results_that_are_too_large_for_a_record_go_to_the_dlq_and_the_scanner_goes_on(bench: Bench) -> None:
    bench.say("grants", "lab", make_grant())
    bench.push(make_unit(1, address="198.18.1.1", probes=("talkative",)), make_unit(2, address="198.18.1.2"))
    with in_thread(bench.settings, Talkative(bench.wire)):
        wait_for(lambda: len(bench.sweeps()) == 2)
    assert [(one.complete, one.probed) for one in bench.sweeps()] == [(False, ()), (True, ("198.18.1.2",))]
    letters: list[dict[str, bytes]] = []
    read_whole(bench.settings, "dlq.work.default", lambda m: letters.append(dict(m.headers() or [])))  # type: ignore[arg-type]
    assert [one["error.class"] for one in letters] == [b"Poison"]
