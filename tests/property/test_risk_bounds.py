"""Whatever a rule says and whatever is known of the asset: 0 ≤ floor ≤ base ≤ ceiling ≤ 100."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from processors.correlate.adjustments import adjust
from processors.correlate.catalogue import BUILT_IN
from processors.correlate.contract import Judgement, ServiceFacts
from processors.correlate.judging import judge
from schemas.events.base import Transport
from schemas.events.context import Criticality, InventoryRecord
from schemas.events.observations import HttpFacts, ServiceObservation, TlsFacts

risks = st.floats(allow_nan=True, allow_infinity=True)
records = st.none() | st.builds(
    InventoryRecord, network=st.just("198.18.0.0/15"), criticality=st.sampled_from(Criticality), expected=st.just(("tcp/443",))
)
services = st.builds(
    ServiceObservation,
    port=st.sampled_from([21, 22, 23, 80, 443, 2375, 3306, 6379, 11211]),
    transport=st.sampled_from(Transport),
    service=st.sampled_from(["", "ssh", "ftp", "telnet", "http", "redis", "docker", "mysql"]) | st.text(max_size=10),
    product=st.text(max_size=20),
    version=st.text(max_size=20) | st.from_regex(r"\d{1,3}\.\d{1,3}(p\d)?", fullmatch=True),
    banner=st.text(max_size=50),
    tls=st.none() | st.builds(TlsFacts, version=st.just("TLSv1.2"), outdated=st.sampled_from([(), ("TLSv1",), ("SSLv3",)])),
    http=st.none()
    | st.builds(HttpFacts, status=st.sampled_from([200, 301, 401]), title=st.text(max_size=30), location=st.text(max_size=20)),
    facts=st.dictionaries(
        st.sampled_from(["redis.auth", "memcached.auth", "mqtt.auth", "ftp.anonymous"]), st.sampled_from(["none", "required", "yes", "no"])
    ),
)
facts = st.builds(
    ServiceFacts,
    zone=st.sampled_from(["default", "internet", "dmz"]),
    address=st.sampled_from(["198.18.0.7", "8.8.8.8", "2001:db8::1"]),
    service=services,
    now=st.just(datetime(2026, 3, 1, tzinfo=UTC)),
    flapping=st.booleans(),
    new=st.booleans(),
    inventory=records,
)


@given(risks, risks, risks, st.booleans(), facts)
def test_any_judgement_ends_within_its_bounds(base: float, floor: float, ceiling: float, proven: bool, known: ServiceFacts) -> None:
    risk = adjust("x", "y", Judgement("t", "w", "a", base, floor, ceiling, "saw", proven=proven), known)
    assert 0 <= risk.floor <= risk.base <= risk.ceiling <= 100


@given(facts)
def test_the_built_in_rules_are_total_and_bounded(known: ServiceFacts) -> None:
    first = judge(BUILT_IN, known, (), ("e",))
    assert first == judge(BUILT_IN, known, (), ("e",))
    for one in first.values():
        assert 0 <= one.floor <= one.base_risk <= one.ceiling <= 100
        assert one.title
        assert one.why
        assert one.action
        assert one.rules[0].rule == one.rule


def test_what_the_rules_state_is_in_order() -> None:
    for rule in BUILT_IN:
        assert rule.source
        assert rule.doc
        assert set(rule.covers) <= {one.name for one in BUILT_IN}
