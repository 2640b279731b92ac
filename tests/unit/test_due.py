"""When campaigns are due, and what the scheduler then puts out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from infra.core.ports import Emit
from producers.scheduler.due import EVERY_SECONDS, Fired, due_slot, next_slot, tick_minute
from producers.scheduler.firing import TICKS, Timetable, firing
from producers.splitting import split
from schemas.events.operations import Tick
from schemas.events.targets import Cadence, CadenceKind, Campaign, CampaignState, Cause, TargetRequest

START = datetime(2026, 3, 4, 12, 0, 30, tzinfo=UTC)
TABLE = Timetable(partitions=3, tick_seconds=60, max_addresses=1 << 20)


def campaign(kind: str, *, cron: str | None = None, every: int | None = None, **more: object) -> Campaign:
    plain = {
        "campaign_id": "c",
        "targets": ("198.18.0.0/24",),
        "cadence": Cadence(kind=CadenceKind(kind), cron=cron, every_seconds=every),
        "changed_by": "someone",
        "changed_at": START,
    }
    return Campaign.model_validate(plain | more)


def after(**span: int) -> datetime:
    return START + timedelta(**span)


def fire_all(one: Campaign, moments: list[datetime]) -> list[datetime]:
    """The slots that fire when the scheduler looks at these moments."""
    fired: Fired | None = None
    slots = []
    for now in moments:
        slot = due_slot(one, fired, now)
        if slot is not None:
            slots.append(slot)
            fired = Fired(one.started, slot)
    return slots


def test_once_is_once_a_start() -> None:
    one = campaign("once")
    assert fire_all(one, [START, after(seconds=1), after(days=9)]) == [START]
    again = one.model_copy(update={"started": 2, "changed_at": after(days=1)})
    assert due_slot(again, Fired(1, START), after(days=1)) == after(days=1)
    edited = one.model_copy(update={"changed_at": after(days=1)})
    assert due_slot(edited, Fired(1, START), after(days=2)) is None


def test_cron_fires_at_its_times_and_not_at_the_start() -> None:
    one = campaign("cron", cron="*/10 * * * *")
    moments = [after(seconds=number * 15) for number in range(4 * 25)]
    assert fire_all(one, moments) == [datetime(2026, 3, 4, 12, minute, tzinfo=UTC) for minute in (10, 20)]


def test_slots_missed_while_down_fire_once() -> None:
    one = campaign("cron", cron="0 * * * *")
    fired = Fired(1, datetime(2026, 3, 4, 13, tzinfo=UTC))
    slot = due_slot(one, fired, datetime(2026, 3, 9, 7, 30, tzinfo=UTC))
    assert slot == datetime(2026, 3, 9, 7, tzinfo=UTC)
    assert due_slot(one, Fired(1, slot), datetime(2026, 3, 9, 7, 31, tzinfo=UTC)) is None
    often = campaign("continuous", every=10)
    assert due_slot(often, Fired(1, START), after(seconds=1005)) == after(seconds=1000)


def test_a_resumed_cron_campaign_does_not_make_up_for_its_pause() -> None:
    resumed = campaign("cron", cron="0 * * * *", started=2)
    assert due_slot(resumed, Fired(1, START - timedelta(days=3)), after(minutes=5)) is None
    assert due_slot(resumed, Fired(1, START - timedelta(days=3)), after(minutes=60)) == datetime(2026, 3, 4, 13, tzinfo=UTC)


@pytest.mark.parametrize("kind", ["continuous", "freshness"])
def test_continuous_fires_at_once_and_then_each_interval(kind: str) -> None:
    moments = [after(seconds=number) for number in range(0, 200, 7)]
    assert fire_all(campaign(kind, every=60), moments) == [after(seconds=number) for number in (0, 60, 120, 180)]
    assert next_slot(campaign(kind), Fired(1, START), START) == after(seconds=EVERY_SECONDS)


@pytest.mark.parametrize("kind", ["once", "continuous", "cron"])
@pytest.mark.parametrize("more", [{"state": CampaignState.PAUSED}, {"state": CampaignState.STOPPED}, {"started": 0}])
def test_what_is_not_running_does_not_fire(kind: str, more: dict[str, object]) -> None:
    one = campaign(kind, cron="* * * * *").model_copy(update=more)
    assert due_slot(one, None, after(days=1)) is None
    assert next_slot(one, None, after(days=1)) is None


def test_a_clock_that_went_back_fires_nothing_twice() -> None:
    assert due_slot(campaign("continuous", every=60), Fired(1, after(seconds=120)), after(seconds=70)) is None
    assert due_slot(campaign("once"), None, START - timedelta(seconds=1)) is None


def test_the_next_time_is_told() -> None:
    cron = campaign("cron", cron="0 3 * * *")
    assert next_slot(cron, None, START) == datetime(2026, 3, 5, 3, tzinfo=UTC)
    assert next_slot(campaign("once"), None, START) == START
    assert next_slot(campaign("once"), Fired(1, START), START) is None


def test_a_wrong_cron_expression_is_said() -> None:
    with pytest.raises(ValueError, match="not a cron expression"):
        due_slot(campaign("cron", cron="every day"), None, after(days=1))


def test_what_is_remembered_survives() -> None:
    fired = Fired(3, START.replace(microsecond=123_000))
    assert Fired.of(fired.to_bytes()) == fired
    for bad in (b"", b"{}", b"[]", b"\xff"):
        with pytest.raises(ValueError, match=r".*"):
            Fired.of(bad)


def test_ticks_are_cut_to_their_length() -> None:
    assert tick_minute(START, 60) == START.replace(second=0)
    assert tick_minute(START + timedelta(milliseconds=999), 5) == START


def run(campaigns: dict[str, Campaign], state: dict[str, bytes], now: datetime) -> list[Emit]:
    """What is put out; the state is carried on as the role does it."""
    found = list(firing(campaigns, state, now, TABLE))
    for one in found:
        if one.topic == "state.scheduler":
            state.pop(one.key, None)
            if one.raw is not None:
                state[one.key] = one.raw
    return found


def test_each_partition_gets_one_tick_a_minute() -> None:
    state: dict[str, bytes] = {}
    first = run({}, state, START)
    ticks = [one for one in first if one.topic == "ticks"]
    assert [(one.partition, one.key) for one in ticks] == [(0, "0"), (1, "1"), (2, "2")]
    assert {one.event.minute for one in ticks if isinstance(one.event, Tick)} == {START.replace(second=0)}
    assert run({}, state, after(seconds=29)) == []
    assert len(run({}, state, after(seconds=30))) == 4
    assert len(run({}, state, after(days=3))) == 4
    assert run({}, state, after(seconds=90)) == []
    assert set(state) == {TICKS}


def test_requests_have_the_same_ids_whoever_fires_and_new_ones_each_slot() -> None:
    one = campaign("continuous", every=60, ports="22", probes=("tls",), grant_id="lab", zone="default")

    def requests(now: datetime, state: dict[str, bytes]) -> list[TargetRequest]:
        return [emit.event for emit in run({"c": one}, state, now) if isinstance(emit.event, TargetRequest)]

    state: dict[str, bytes] = {}
    (first,) = requests(START, state)
    assert requests(after(seconds=20), {}) == [first]
    (second,) = requests(after(seconds=61), state)
    assert second.request_id != first.request_id
    assert (first.cause, first.campaign_id, first.grant_id, first.ports, first.probes) == (Cause.CAMPAIGN, "c", "lab", "22", ("tls",))


def test_a_deleted_campaign_is_forgotten() -> None:
    state: dict[str, bytes] = {}
    run({"c": campaign("once")}, state, START)
    assert "c" in state
    run({}, state, START)
    assert "c" not in state
    assert any(one.topic == "targets" for one in run({"c": campaign("once")}, state, START))


def test_many_targets_are_split_by_number_and_by_size() -> None:
    addresses = [f"198.18.{number >> 8}.{number & 255}" for number in range(25_000)]
    assert [len(part) for part in split(addresses, 1 << 20)] == [10_000, 10_000, 5_000]
    parts = list(split(["198.18.0.0/16", "name.example", "198.19.0.0/16", "0.0.0.0/0", "!", "198.18.0.1"], 70_000))
    assert parts == [("198.18.0.0/16", "name.example"), ("198.19.0.0/16",), ("0.0.0.0/0",), ("!", "198.18.0.1")]
    wide = campaign("once", targets=tuple(addresses[:20_000]))
    assert len([one for one in run({"c": wide}, {}, START) if one.topic == "targets"]) == 2
