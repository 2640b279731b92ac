"""In whatever order changes and intelligence arrive, as long as each key's own order holds, the final findings are the same."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.events.assets import AssetChange, ChangeKind
from schemas.events.base import Event
from schemas.events.context import Criticality, InventoryRecord
from schemas.events.findings import Finding, FindingStatus
from schemas.events.intel import AffectedProduct, IntelRecord, VersionRange
from schemas.events.observations import ServiceObservation
from tests.correlating import START, Bench
from tests.findings import AssessorBench

Step = tuple[str, str, Event | None]
"""Topic, key (a record's order holds within it), and the event."""
HOSTS = ("198.18.0.7", "198.18.0.8")
CVES = ("CVE-2024-1", "CVE-2024-2", "CVE-2024-3")
NETWORKS = ("198.18.0.0/24", "198.18.0.7")
TIMES = {"first_seen", "changed_at", "resolved_at", "revision", "reopened", "evidence_ids", "review"}

services = st.builds(
    ServiceObservation,
    port=st.sampled_from([80, 443]),
    product=st.just("Apache httpd"),
    version=st.sampled_from(["2.4.49", "2.4.58", ""]),
    cpes=st.sampled_from([("cpe:/a:apache:http_server",), ("cpe:/a:f5:nginx",), ()]),
)
records = st.builds(
    IntelRecord,
    cve=st.just(""),
    as_of=st.just(START),
    kev=st.sampled_from([None, True, False]),
    cvss=st.sampled_from([None, 5.0, 9.8]),
    epss=st.sampled_from([None, 0.01, 0.5]),
    ssvc_exploitation=st.sampled_from(["", "none", "active"]),
    affected=st.tuples(
        st.builds(
            AffectedProduct,
            vendor=st.sampled_from(["apache", "f5"]),
            product=st.sampled_from(["http_server", "nginx"]),
            versions=st.tuples(st.builds(VersionRange, less_than=st.sampled_from(["2.4.50", "2.4.60"]))),
        )
    ),
)
owners = st.builds(
    InventoryRecord,
    network=st.just(""),
    criticality=st.sampled_from(Criticality),
    expected=st.sampled_from([(), ("tcp/443",), ("tcp/80", "tcp/443"), ("none",)]),
)


@st.composite
def histories(draw: st.DrawFn) -> list[list[Step]]:
    """What happens under each key, in its order."""
    found: list[list[Step]] = []
    for address in HOSTS:
        bench, open_ports = Bench(), dict[int, ServiceObservation]()
        steps: list[Step] = []
        for number, service in enumerate(draw(st.lists(services, min_size=2, max_size=5))):
            before = open_ports.get(service.port)
            closes = before is not None and draw(st.integers(0, 2)) > 0
            kind = ChangeKind.SERVICE_CLOSED if closes else ChangeKind.SERVICE_CHANGED if before else ChangeKind.SERVICE_OPENED
            if closes and before is not None:
                service = open_ports.pop(service.port)
            else:
                open_ports[service.port] = service
            steps.append(("changes", "", bench.made(kind, service, after=number, address=address)))
        found.append(steps)
    for cve in CVES:
        several = [*draw(st.lists(st.none() | records, max_size=2)), draw(records)]
        found.append([("intel", cve, one and one.model_copy(update={"cve": cve})) for one in several])
    for network in NETWORKS:
        owned = [*draw(st.lists(st.none() | owners, max_size=1)), draw(owners)]
        found.append([("inventory", f"default|{network}", one and one.model_copy(update={"network": network})) for one in owned])
    return found


def findings_after(steps: Sequence[Step]) -> dict[str, dict[str, object]]:
    """The open findings that the correlator's exposures add up to, without what tells of when and how often."""
    correlator, assessor = Bench(), AssessorBench()
    latest: dict[str, Finding] = {}
    for topic, key, event in steps:
        at = event.observed_at if isinstance(event, AssetChange) else START + timedelta(seconds=1)
        for exposure in correlator.feed(topic, event, key, at):
            for told in assessor.feed("exposures", exposure):
                if told is not None:
                    latest[told.finding_id] = told
    still = (one for one in latest.values() if one.status is FindingStatus.OPEN)
    return {one.finding_id: one.model_dump(exclude=TIMES) for one in still}


@settings(max_examples=80, deadline=None)
@given(st.data(), histories())
def test_the_order_of_arrival_does_not_change_the_final_findings(data: st.DataObject, history: list[list[Step]]) -> None:
    owners_of_steps = [number for number, steps in enumerate(history) for _ in steps]
    mixed = []
    for _ in range(2):
        left = [list(steps) for steps in history]
        mixed.append([left[number].pop(0) for number in data.draw(st.permutations(owners_of_steps))])
    assert findings_after(mixed[0]) == findings_after(mixed[1])
