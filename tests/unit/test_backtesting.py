"""The backtest's fold equals the pipeline's, though it sees only the end of the log; what differs is told with the labels' precision."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from infra.app.backtesting import load_rules, rule_set
from infra.core.errors import BadInput
from infra.core.ports import Context, FixedTables, MemoryState, Record
from processors.correlate.catalogue import BUILT_IN
from processors.correlate.comparing import compare
from processors.correlate.contract import Judgement, Rule
from processors.correlate.correlating import Correlator
from processors.correlate.refolding import Raised, Refold
from schemas.codec import Codec
from schemas.events.assets import AssetChange, AssetState
from schemas.events.findings import Exposure, ExposureEvent
from schemas.events.operations import Tick
from schemas.ids import asset_key
from tests.golden.recorded_log import recorded_log
from tests.sightings import Bench, at, observation, service, sweep

EVERY = Rule("every-service", "test", "", lambda facts: Judgement("t", "w", "a", 50, 10, 90, "saw"))
STEADY = tuple(one for one in BUILT_IN if one.name != "service-new")


def told_by(bench: Bench) -> tuple[dict[str, AssetState], list[AssetChange]]:
    """The assets and changes that a differ wrote."""
    codec = Codec()
    states = {key: codec.decode("assets", value) for key, value in bench.state.values.items() if "/" not in key}
    return {key: one for key, one in states.items() if isinstance(one, AssetState)}, bench.changes


def end_of(changes: list[AssetChange]) -> datetime:
    """So late that nothing counts as new any more: the log is of less than an hour, where `changes` retains a week."""
    return max(one.observed_at for one in changes) + timedelta(days=8)


def live(rules: tuple[Rule, ...], changes: list[AssetChange]) -> dict[str, tuple[float, int]]:
    """What stands after the pipeline's own fold of all of it: by finding its worst base risk and its places."""
    state, standing = MemoryState(), dict[str, dict[str, Exposure]]()
    step, context = Correlator(rules), Context(0, 1, state, FixedTables())
    end = end_of(changes)
    records = [*(Record("changes", 0, 0, one.observed_at, "", one) for one in changes), Record("ticks", 0, 0, end, "", None)]
    for record in records:
        event = record.event or Tick(partition=0, minute=end)
        for emit in step.handle(record._replace(event=event), context):
            assert isinstance(emit.event, Exposure)
            places = standing.setdefault(emit.event.finding_id, {})
            places.pop(emit.event.exposure_id, None)
            if emit.event.event is not ExposureEvent.RESOLVED:
                places[emit.event.exposure_id] = emit.event
    return {key: (max(one.base_risk for one in places.values()), len(places)) for key, places in standing.items() if places}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("retained", [0.0, 0.3, 1.0])
def test_the_end_of_the_log_and_the_assets_give_what_the_whole_log_gives(seed: int, retained: float) -> None:
    bench = Bench()
    bench.feed(*(event for unit in recorded_log(seed, subnets=1, rounds=25) for event in unit.events if not unit.aborted))
    assets, changes = told_by(bench)
    kept = changes[int(len(changes) * (1 - retained)) :]
    fold = Refold((*STEADY, EVERY), {}, end_of(changes))
    for key in sorted(assets):
        fold.asset(assets[key], [one for one in kept if asset_key(one.zone, one.address) == key])
    expected = live((*STEADY, EVERY), changes)
    found = {key: (one.base_risk, one.stands) for key, one in fold.raised().items() if one.stands}
    assert expected
    assert found == {key: (risk, True) for key, (risk, _) in expected.items()}
    assert fold.failed == {}


def test_what_closed_within_the_log_was_raised_and_stands_no_more() -> None:
    bench = Bench()
    bench.feed(sweep("u1", 10, {"198.18.0.7": [22]}), observation("u1", 11, service(22)))
    before = len(bench.changes)
    bench.feed(sweep("u2", 900, closed={"198.18.0.7": "22"}), sweep("u3", 960, closed={"198.18.0.7": "22"}))
    assets, changes = told_by(bench)
    fold = Refold((EVERY,), {}, at(1000))
    fold.asset(assets["default|198.18.0.7"], changes[before:])
    (one,) = fold.raised().values()
    assert (one.rule, one.stands, one.places) == ("every-service", False, 1)


def test_a_rule_that_fails_is_counted_and_stops_nothing() -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError("no")

    bench = Bench()
    bench.feed(sweep("u1", 10, {"198.18.0.7": [22]}), observation("u1", 11, service(22)))
    assets, changes = told_by(bench)
    fold = Refold((EVERY, Rule("broken", "", "", broken)), {}, at(60))
    fold.asset(assets["default|198.18.0.7"], changes)
    assert list(fold.failed.values()) == [1]


def raised(key: str, base: float, rule: str = "r") -> Raised:
    return Raised(key, rule, f"title {key}", base, 1, True)


def test_new_gone_moved_and_precision() -> None:
    was = {key: raised(key, 50) for key in ("kept", "gone-true", "gone-false", "moved")}
    would_be = {"kept": raised("kept", 55), "moved": raised("moved", 90), "new": raised("new", 10, "other")}
    labels = {"kept": True, "gone-true": True, "gone-false": False, "new": False, "never-raised": True}
    found = compare(was, would_be, labels, lambda risk: "high" if risk > 60 else "low")
    assert [(one.kind, one.finding_id, one.was, one.would_be) for one in found.differences] == [
        ("new", "new", "", "low"),
        ("gone", "gone-false", "low", ""),
        ("gone", "gone-true", "low", ""),
        ("moved", "moved", "low", "high"),
    ]
    other, r = found.rules
    assert (r.raised, r.would_raise, r.new, r.gone, r.moved) == (4, 2, 0, 2, 1)
    assert (r.precision_before, r.precision_after) == (0.667, 1.0)
    assert (other.precision_before, other.precision_after) == (None, 0.0)
    assert found.document()["gone"] == 2


def test_rules_are_chosen_by_file_and_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from processors.correlate.contract import Rule\n"
        "RULES = [Rule('mine', 's', 'd', lambda facts: None), Rule('telnet', 's', 'd', lambda facts: None)]\n"
    )
    base = (EVERY, Rule("telnet", "ours", "", lambda _: None))
    assert [one.name for one in rule_set(base, [str(file)], [], [])] == ["mine", "telnet"]
    assert [(one.name, one.source) for one in rule_set(base, [], [str(file)], ["every-service"])] == [("telnet", "s"), ("mine", "s")]
    assert load_rules("processors.correlate.catalogue:BUILT_IN") == BUILT_IN
    with pytest.raises(BadInput, match="no rule 'nonsense'"):
        rule_set(base, [], [], ["nonsense"])


@pytest.mark.parametrize("text", ["nowhere.py", "nowhere:RULES", "processors.correlate.catalogue:GROUP", "broken.py"])
def test_what_holds_no_rules_is_bad_input(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text("1 / 0\n")
    with pytest.raises(BadInput):
        load_rules(text)


def test_time_passes_to_the_end() -> None:
    bench = Bench()
    bench.feed(sweep("u1", 10, {"198.18.0.7": [22]}), observation("u1", 11, service(22)))
    assets, changes = told_by(bench)
    moment = at(10) + timedelta(days=3)
    later = Rule(
        "later", "t", "", lambda facts: Judgement("t", "w", "a", 50, 10, 90, "s") if facts.now >= moment else None, lambda _: (moment,)
    )
    for until, count in ((moment - timedelta(days=1), 0), (moment, 1)):
        fold = Refold((later,), {}, until)
        fold.asset(assets["default|198.18.0.7"], changes)
        assert len(fold.raised()) == count
