"""One record a CVE from several feeds: no order of feeds or of days matters, and what one feed said can be taken out again."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from producers.intel.configurations import products_in
from producers.intel.joining import FEEDS, OWN, combined, feeds_in, join, says_the_same, split
from producers.intel.kev import withdrawn
from producers.intel.merging import dropped, rescored, taken_in
from producers.intel.statements import EMPTY, FeedError, Fields, Rejected, product, source
from schemas.codec import Codec
from schemas.intel_head import CHANGING, FOUND, read_head, with_head
from schemas.plain import Plain

CVE = "CVE-2026-0001"
CODEC = Codec()
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "ssvc_exploitation": st.sampled_from(["", "none", "poc", "active"]),
    "ssvc_automatable": st.sampled_from(["", "no", "yes"]),
    "ssvc_technical_impact": st.sampled_from(["", "partial", "total"]),
    "kev": st.sampled_from([True, False]),
    "kev_added": st.none() | st.integers(0, 10**12),
    "kev_due": st.none(),
    "kev_ransomware": st.sampled_from([None, True]),
    "epss": st.floats(0, 1),
    "epss_percentile": st.floats(0, 1),
    "epss_model": st.sampled_from(["a", "b"]),
}
GIVERS = {"cve": ("cna", "CISA-ADP"), "nvd": ("nvd",), "kev": ("kev",), "epss": ("epss",)}


@st.composite
def statements(draw: st.DrawFn, feed: str | None = None) -> Fields:
    """What one feed says of the CVE on some day."""
    name = feed or draw(st.sampled_from(FEEDS))
    day = draw(st.integers(1, 4))
    found: Fields = {**EMPTY, "cve": CVE, **{field: draw(VALUES[field]) for field in OWN[name]}}
    giver = st.sampled_from(GIVERS[name])
    if name != "epss":
        found["affected"] = [product("v", draw(st.sampled_from("xyz")), draw(giver)) for _ in range(draw(st.integers(0, 2)))]
    if name in ("cve", "nvd"):
        scores = st.tuples(giver, st.sampled_from(["2.0", "3.1", "4.0"]), st.integers(0, 10))
        found["scores"] = [
            {"source": by, "version": version, "score": float(score), "vector": ""}
            for by, version, score in draw(st.lists(scores, max_size=3))
        ]
    about: dict[str, Any] = (
        {"title": draw(st.sampled_from(["", "a title"])), "published": draw(st.none() | st.just(day))} if name != "epss" else {}
    )
    found["sources"] = [source(name, day, **about)]
    if name == "cve" and draw(st.booleans()):
        found["sources"].append(source("CISA-ADP", day))
    return combined({name: found})


@given(st.lists(statements(), min_size=1, max_size=8), st.randoms())
def test_the_order_of_feeds_and_days_does_not_matter(said: list[Fields], chance: Any) -> None:
    mixed = list(said)
    chance.shuffle(mixed)
    assert join(said) == join(mixed)
    first, rest = mixed[: len(mixed) // 2], mixed[len(mixed) // 2 :]
    assert join([*([join(first)] if first else []), join(rest)]) == join(said)
    assert join([join(said), join(said)]) == join(said)


@given(st.lists(statements(), min_size=1, max_size=6))
def test_a_record_comes_apart_into_what_each_feed_said(said: list[Fields]) -> None:
    record = join(said)
    parts = split(record)
    assert set(parts) == feeds_in(record) == {feed for one in said for feed in feeds_in(one)}
    assert combined(parts) == record
    for feed, part in parts.items():
        assert part in said
        assert all(part[field] == EMPTY[field] for other, fields in OWN.items() if other != feed for field in fields)


@given(st.lists(statements(), min_size=1, max_size=6))
def test_whatever_is_joined_is_a_sound_record(said: list[Fields]) -> None:
    record = join(said)
    value = CODEC.encode("intel", Plain("IntelRecord", record))
    assert CODEC.read("intel", value).fields == record
    CODEC.decode("intel", value)


@given(statements())
def test_a_feed_that_nobody_read_is_unknown(said: Fields) -> None:
    (feed,) = feeds_in(said)
    assert said["epss"] is None or feed == "epss"
    assert said["kev"] is None or feed == "kev"


@given(st.lists(statements(), min_size=1, max_size=8), st.randoms())
def test_one_after_another_in_any_order_gives_what_joining_gives(said: list[Fields], chance: Any) -> None:
    """Of a feed and a day there is one statement. The dates of what was said on several days may differ, nothing else."""
    once = list({(*feeds_in(one), one["as_of"]): one for one in said}.values())
    held: Any = None
    for one in chance.sample(once, len(once)):
        held = taken_in(held, one)
    days = [(*feeds_in(one), {**one, "as_of": 0, "updated": 0, "sources": 0, "published": 0}) for one in once]
    if not any(one == other for number, one in enumerate(days) for other in days[:number]):
        assert says_the_same(held, join(once))


@given(st.lists(statements(), min_size=1, max_size=5))
def test_the_same_again_changes_nothing(said: list[Fields]) -> None:
    record = join(said)
    for part in split(record).values():
        later = {**part, "as_of": part["as_of"] + 5, "sources": [{**one, "as_of": one["as_of"] + 5} for one in part["sources"]]}
        assert taken_in(record, part) is record
        assert taken_in(record, later) is record


@given(st.lists(statements(), min_size=1, max_size=5), statements("epss"))
def test_a_score_changes_the_first_bytes_as_it_changes_the_record(said: list[Fields], score: Fields) -> None:
    record = join(said)
    value, after = CODEC.encode("intel", Plain("IntelRecord", record)), taken_in(record, score)
    looked_up, head = (read_head(value, CODEC.header("intel"), last) for last in (FOUND, CHANGING))
    assert looked_up is not None
    assert head is not None
    for one, last in ((looked_up, FOUND), (head, CHANGING)):
        assert one.fields == {name: record[name] for name in one.fields}
        assert with_head(value, one, one.fields, last) == value
    fields = rescored(head.fields, score)
    assert (fields is None) == (after is record)
    if fields is not None and after is not None:
        assert with_head(value, head, fields) == CODEC.encode("intel", Plain("IntelRecord", after))


@given(st.binary(max_size=100))
def test_a_head_of_any_bytes_is_read_or_none(junk: bytes) -> None:
    read_head(CODEC.header("intel") + junk, CODEC.header("intel"), CHANGING)
    assert read_head(b"\0\0\0\0\1" + junk, CODEC.header("intel"), CHANGING) is None


@given(st.lists(statements(), min_size=1, max_size=5), st.sampled_from(["kev", "epss"]))
def test_what_a_snapshot_lists_no_more_loses_that_alone(said: list[Fields], feed: str) -> None:
    record = join(said)
    after = dropped(record, feed, 9)
    if feed not in feeds_in(record) or (feed == "kev" and record["kev"] is False):
        assert after is record
        return
    others = {name: part for name, part in split(record).items() if name != feed}
    if not others or (set(others) == {"kev"} and others["kev"]["kev"] is False):
        assert after is None
        return
    assert after is not None
    assert {name: part for name, part in split(after).items() if name != feed} == others
    assert after["kev"] is (False if feed == "kev" else record["kev"])
    assert dropped(after, feed, 9) is after


@given(st.lists(statements(), min_size=1, max_size=5), st.integers(0, 9))
def test_a_rejected_cve_goes_unless_its_record_was_changed_since(said: list[Fields], day: int) -> None:
    record = join(said)
    assert taken_in(record, Rejected(CVE, day)) is (record if (record["updated"] or 0) > day else None)
    assert taken_in(None, Rejected(CVE, day)) is None


@given(st.integers(0, 9))
def test_what_only_left_the_catalogue_says_no_more_than_that(day: int) -> None:
    said = withdrawn(CVE, day)
    assert (said["kev"], said["epss"], said["affected"]) == (False, None, [])


SIGNS = st.text("ab:\\*-.1", max_size=8)
CPES = st.one_of(SIGNS, st.lists(SIGNS, min_size=10, max_size=10).map(lambda parts: ":".join(["cpe:2.3:a", *parts])))
MATCHES = st.fixed_dictionaries({"criteria": CPES, "vulnerable": st.booleans()}, optional={"versionEndExcluding": SIGNS})
NODES = st.fixed_dictionaries({"cpeMatch": st.lists(MATCHES, max_size=3)}, optional={"negate": st.booleans(), "operator": st.just("AND")})


@given(st.lists(st.fixed_dictionaries({"nodes": st.lists(NODES, max_size=3)}, optional={"operator": st.just("AND")}), max_size=2))
def test_whatever_a_configuration_says_is_sound_or_refused(configurations: list[Fields]) -> None:
    try:
        found = products_in([(f"[{number}]", one) for number, one in enumerate(configurations)], "nvd")
    except FeedError:
        return
    said = combined({"nvd": {**EMPTY, "cve": CVE, "affected": found, "sources": [source("nvd", 1)]}})
    CODEC.decode("intel", CODEC.encode("intel", Plain("IntelRecord", said)))
