"""A record of `intel` that does not concern a partition would change nothing in it: neither its state nor what it tells."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from infra.core.ports import Context, FixedTables, MemoryState, Record
from processors.correlate.correlating import Correlator
from schemas.codec import Codec
from schemas.events.intel import AffectedProduct, IntelRecord
from schemas.examples import AT

CODEC = Codec()
HEADER = CODEC.header("intel")
RECORDS = st.builds(
    IntelRecord,
    cve=st.sampled_from(["CVE-2026-0001", "CVE-2026-0002", "CVE-2026-0003"]),
    kev=st.sampled_from([None, True, False]),
    epss=st.none() | st.floats(0, 1),
    affected=st.lists(st.builds(AffectedProduct, vendor=st.just("v"), product=st.sampled_from("xyz")), max_size=2).map(tuple),
    as_of=st.just(AT),
)
NEWS = st.lists(st.tuples(RECORDS, st.booleans(), st.integers(0, 1)), max_size=12)


def record(number: int, event: IntelRecord, gone: bool) -> Record:
    raw = b"" if gone else CODEC.encode("intel", event)
    return Record("intel", 0, number, AT, event.cve, None, raw)


@given(NEWS, st.booleans())
def test_what_does_not_concern_a_partition_changes_nothing_in_it(news: list[tuple[IntelRecord, bool, int]], restarts: bool) -> None:
    step, states = Correlator(intel_header=HEADER), [MemoryState(), MemoryState()]
    for number, (event, gone, partition) in enumerate(news):
        if restarts and number % 3 == 2:
            step = Correlator(intel_header=HEADER)
        state = states[partition]
        context, before = Context(partition, 2, state, FixedTables()), dict(state.values)
        one = record(number, event, gone)
        concerned = step.concerns(one, context)
        told = list(step.handle(one._replace(event=None if gone else event), context))
        if not concerned:
            assert told == []
            assert state.values == before


def test_hardly_any_record_concerns_a_partition_and_the_exploited_do() -> None:
    step, context = Correlator(intel_header=HEADER), Context(0, 1, MemoryState(), FixedTables())
    scored = IntelRecord(cve="CVE-2026-0001", epss=0.5, as_of=AT)
    assert not step.concerns(record(0, scored, gone=False), context)
    assert not step.concerns(record(1, scored, gone=True), context)
    assert step.concerns(record(2, scored.model_copy(update={"kev": True}), gone=False), context)
    assert step.concerns(record(3, scored, gone=False), context), "it was exploited: that must be taken back"


def test_what_cannot_be_read_by_its_head_is_looked_at_whole() -> None:
    step, context = Correlator(intel_header=HEADER), Context(0, 1, MemoryState(), FixedTables())
    one = record(0, IntelRecord(cve="CVE-2026-0001", as_of=AT), gone=False)
    assert step.concerns(one._replace(raw=b"\0\0\0\0\7" + one.raw[5:]), context)
    assert Correlator().concerns(one, context), "without the header nothing is known of a head"
