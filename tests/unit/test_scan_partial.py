"""What is said of a unit that did not end well, and what of it is asked for again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from infra.core.errors import Poison
from processors.scan.partial import Attempt, not_probed, rest_of
from processors.scan.scope.acceptance import read_unit
from schemas.codec import Codec
from schemas.events.base import PortRange, Transport
from schemas.events.observations import HostObservation, HostPorts, SweepResult
from schemas.events.targets import WorkUnit
from tests.scan_samples import WireReport, make_unit, partial_of, sweep_of

ATTEMPT = Attempt("agent", 2, "syn", datetime.now(UTC))


def two_hosts(**over: Any) -> WorkUnit:
    return make_unit(1, ports=10, addresses=("198.18.1.1", "198.18.1.2"), **over)


def report(unit: WorkUnit, *hosts: HostPorts, seen: tuple[str, ...] = ()) -> WireReport:
    sweep: SweepResult = sweep_of(unit, "agent", 1, 5).model_copy(update={"hosts": hosts, "complete": False})
    observations = tuple(
        HostObservation(
            observation_id="o",
            unit_id=unit.unit_id,
            run_id="run",
            zone="default",
            subnet=unit.subnet,
            address=one,
            grant_id="lab",
            agent_id="agent",
            observed_at=datetime.now(UTC),
        )
        for one in seen
    )
    return WireReport((sweep,), observations, 5)


def spans(first: int, last: int) -> tuple[PortRange, ...]:
    return (PortRange(first=first, last=last),)


def test_a_unit_that_was_not_begun_claims_nothing_for_each_transport() -> None:
    tcp, udp = not_probed(make_unit(1, udp_ports=spans(53, 53)), ATTEMPT, "expired", packets=3)
    assert (tcp.transport, udp.transport) == ("tcp", "udp")
    assert (tcp.packets_sent, udp.packets_sent) == (3, 0)
    for one in (tcp, udp):
        assert (one.probed, one.hosts, one.complete, one.stopped_reason, one.recall) == ((), (), False, "expired", 0.0)
        assert (one.agent_id, one.attempt, one.engine) == ("agent", 2, "syn")


def test_hosts_with_the_same_rest_share_a_request_and_others_have_their_own() -> None:
    unit = two_hosts()
    both = report(unit, *(HostPorts(address=one, not_probed=spans(6, 10)) for one in unit.addresses))
    (request,) = rest_of(unit, both)
    assert (request.targets, request.ports) == (unit.addresses, "6-10")
    assert rest_of(unit, both) == rest_of(unit, both)
    different = report(
        unit, HostPorts(address="198.18.1.1", not_probed=spans(6, 10)), HostPorts(address="198.18.1.2", not_probed=spans(9, 9))
    )
    first, second = rest_of(unit, different)
    assert (first.ports, second.ports) == ("6-10", "9")
    assert first.request_id != second.request_id


def test_udp_ports_that_were_not_probed_are_asked_for_again_as_such() -> None:
    unit = two_hosts(udp_ports=spans(53, 62), probes=("services",)).model_copy(update={"tcp_ports": ()})
    first, second = unit.addresses
    hosts = (HostPorts(address=first, answered=(53,), not_probed=spans(60, 62)), HostPorts(address=second, answered=(54,)))
    found = report(unit, *hosts)
    udp = WireReport(tuple(one.model_copy(update={"transport": Transport.UDP}) for one in found.sweeps), (), 5)
    (request,) = rest_of(unit, udp)
    assert (request.targets, request.ports) == ((first,), "U:60-62")
    assert rest_of(unit, WireReport(not_probed(unit, ATTEMPT, "x"), (), 0)) == ()


def test_answered_ports_of_a_host_that_was_not_looked_into_are_part_of_the_rest() -> None:
    unit = two_hosts(probes=("services",))
    hosts = (HostPorts(address="198.18.1.1", answered=(3,)), HostPorts(address="198.18.1.2", answered=(4,)))
    (request,) = rest_of(unit, report(unit, *hosts, seen=("198.18.1.1",)))
    assert (request.targets, request.ports) == (("198.18.1.2",), "4")


def test_a_unit_that_got_nowhere_is_not_asked_for_again() -> None:
    unit = two_hosts()
    everything = [(address, port) for address in unit.addresses for port in range(1, 11)]
    nothing_done = WireReport((partial_of(unit, "agent", everything, "over_time"),), (), 0)
    assert rest_of(unit, nothing_done) == ()
    assert rest_of(unit, WireReport(not_probed(unit, ATTEMPT, "x"), (), 0)) == ()


def test_nothing_is_left_of_a_finished_unit() -> None:
    unit = two_hosts()
    assert rest_of(unit, report(unit)) == ()


def test_a_unit_reads_back_from_its_record() -> None:
    unit, codec = make_unit(1), Codec()
    assert read_unit(codec, "default", codec.encode("work.default", unit), unit.planned_at) == unit


@pytest.mark.parametrize("subnet", ["198.18.0.0/16", "198.18.1.0/25", "198.18.2.0/24", "nonsense"])
def test_a_unit_of_a_subnet_that_is_not_its_addresses_own_is_refused(subnet: str) -> None:
    unit, codec = make_unit(1), Codec()
    forged = unit.model_copy(update={"subnet": subnet})
    with pytest.raises(Poison, match="is not in the unit's subnet"):
        read_unit(codec, "default", codec.encode("work.default", forged), unit.planned_at)


def test_a_unit_that_would_hold_up_all_behind_it_is_refused() -> None:
    unit, codec = make_unit(1), Codec()
    soon = unit.model_copy(update={"not_before": unit.planned_at + timedelta(minutes=2)})
    assert read_unit(codec, "default", codec.encode("work.default", soon), unit.planned_at) == soon
    late = unit.model_copy(update={"not_before": unit.planned_at + timedelta(days=30)})
    with pytest.raises(Poison, match="can't wait so long"):
        read_unit(codec, "default", codec.encode("work.default", late), unit.planned_at)
