"""A record of `intel` that does not concern a partition would change nothing in it: neither its state nor what it tells."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from infra.core.ports import Context, FixedTables, MemoryState, Record
from processors.correlate.correlating import Correlator
from schemas.codec import Codec
from schemas.events.assets import AssetChange, ChangeKind
from schemas.events.base import Event
from schemas.events.intel import AffectedProduct, IntelRecord, VersionRange
from schemas.events.observations import ServiceObservation
from schemas.examples import AT

CODEC = Codec()
HEADER = CODEC.header("intel")
RECORDS = st.builds(
    IntelRecord,
    cve=st.sampled_from(["CVE-2026-0001", "CVE-2026-0002", "CVE-2026-0003"]),
    kev=st.sampled_from([None, True, False]),
    epss=st.none() | st.floats(0, 1),
    affected=st.lists(
        st.builds(
            AffectedProduct,
            vendor=st.sampled_from(["v", ""]),
            product=st.sampled_from("xyz"),
            versions=st.sampled_from([(), (VersionRange(less_than="2"),)]),
        ),
        max_size=2,
    ).map(tuple),
    as_of=st.just(AT),
)
SERVICES = st.builds(
    lambda product, version: ServiceObservation(port=80, product=product, version=version, cpes=(f"cpe:/a:v:{product}:{version}",)),
    st.sampled_from("xy"),
    st.sampled_from("13"),
)
NEWS = st.lists(st.tuples(st.one_of(RECORDS, SERVICES), st.booleans(), st.integers(0, 1)), max_size=12)


def record(number: int, event: IntelRecord, gone: bool) -> Record:
    raw = b"" if gone else CODEC.encode("intel", event)
    return Record("intel", 0, number, AT, event.cve, None, raw)


def opened(number: int, seen: ServiceObservation) -> AssetChange:
    address = f"198.18.0.{number + 1}"
    return AssetChange(
        change_id=f"c{number}",
        kind=ChangeKind.SERVICE_OPENED,
        zone="default",
        address=address,
        subnet="198.18.0.0/24",
        revision=number,
        port=seen.port,
        after=seen,
        summary="…",
        evidence_ids=("u1",),
        observed_at=AT,
    )


@given(NEWS, st.booleans())
def test_what_does_not_concern_a_partition_changes_nothing_in_it(
    news: list[tuple[IntelRecord | ServiceObservation, bool, int]], restarts: bool
) -> None:
    step, states, table = Correlator(intel_header=HEADER), [MemoryState(), MemoryState()], dict[str, Event]()
    tables = FixedTables({"intel": table})
    for number, (event, gone, partition) in enumerate(news):
        if restarts and number % 3 == 2:
            step = Correlator(intel_header=HEADER)
        if isinstance(event, ServiceObservation):
            change = Record("changes", 0, number, AT, "", opened(number, event))
            list(step.handle(change, Context(partition, 2, states[partition], tables)))
            continue
        one = record(number, event, gone)
        table.pop(event.cve, None)
        if not gone:
            table[event.cve] = event
        for place, state in enumerate(states):
            context, before = Context(place, 2, state, tables), dict(state.values)
            concerned = step.concerns(one, context)
            told = list(step.handle(one._replace(event=None if gone else event), context))
            if not concerned:
                assert told == []
                assert state.values == before


def test_a_record_concerns_where_its_product_is_shown_or_it_was_matched() -> None:
    step, context = Correlator(intel_header=HEADER), Context(0, 1, MemoryState(), FixedTables())
    span = AffectedProduct(vendor="v", product="x", versions=(VersionRange(less_than="2"),))
    scored = IntelRecord(cve="CVE-2026-0001", epss=0.5, affected=(span,), as_of=AT)
    assert not step.concerns(record(0, scored, gone=False), context)
    shown = ServiceObservation(port=80, product="x", version="1", cpes=("cpe:/a:v:x:1",))
    list(step.handle(Record("changes", 0, 0, AT, "", opened(1, shown)), context))
    assert step.concerns(record(1, scored, gone=False), context)
    assert not step.concerns(record(2, IntelRecord(cve="CVE-2026-0002", kev=True, as_of=AT), gone=False), context)
    assert step.concerns(record(3, scored, gone=True), context), "it was matched: that must be taken back"


def test_another_worker_knows_what_is_shown_and_was_matched() -> None:
    span = AffectedProduct(vendor="v", product="x", versions=(VersionRange(less_than="2"),))
    scored = IntelRecord(cve="CVE-2026-0001", affected=(span,), as_of=AT)
    state, tables = MemoryState(), FixedTables({"intel": {scored.cve: scored}})
    shown = ServiceObservation(port=80, product="x", version="1", cpes=("cpe:/a:v:x:1",))
    list(Correlator(intel_header=HEADER).handle(Record("changes", 0, 0, AT, "", opened(1, shown)), Context(0, 1, state, tables)))
    step, context = Correlator(intel_header=HEADER), Context(0, 1, state, tables)
    assert step.concerns(record(0, scored, gone=True), context)
    assert step.concerns(record(1, scored.model_copy(update={"cve": "CVE-2026-0002"}), gone=False), context)
    assert not step.concerns(record(2, IntelRecord(cve="CVE-2026-0003", as_of=AT), gone=False), context)


def test_what_cannot_be_read_by_its_head_is_looked_at_whole() -> None:
    step, context = Correlator(intel_header=HEADER), Context(0, 1, MemoryState(), FixedTables())
    one = record(0, IntelRecord(cve="CVE-2026-0001", as_of=AT), gone=False)
    assert step.concerns(one._replace(raw=b"\0\0\0\0\7" + one.raw[5:]), context)
    assert Correlator().concerns(one, context), "without the header nothing is known of a head"
