"""What a sweep by hand knows of revocations and freezes: what any scanner of the data folder heard, and what any sweep was shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.app.commands.sweep import frozen_by, host_limit, news, read_grant, zone_of
from infra.core.errors import MissingPrerequisite, Refused
from infra.core.settings import ScannerSettings, Settings
from processors.scan.scope.authority import Authority
from processors.scan.scope.floors import Floors, load_floors, save_floors
from processors.scan.scope.orders import frozen_networks
from processors.scan.scope.remembered import Remembered, sweeps_floors, together
from schemas.codec import Codec
from schemas.events.grants import Grant
from schemas.targeting import Span
from tests.scan_samples import make_grant, scan_settings

HERE = [Span(4, int.from_bytes(bytes((198, 18, 0, 0)), "big"), int.from_bytes(bytes((198, 18, 0, 255)), "big"))]
FREEZE = Floors(frozen=frozen_networks(("198.18.0.0/16",)))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return scan_settings("127.0.0.1:1", tmp_path, "t.")


def file_of(settings: Settings, grant: Grant) -> Path:
    path = settings.data_dir / "grant.json"
    path.write_text(grant.model_dump_json())
    return path


def floors_of(settings: Settings, slot: int) -> Path:
    return settings.data_dir / f"scanner-{slot}" / "floors.json"


def test_a_revocation_that_came_as_a_file_is_not_forgotten(settings: Settings) -> None:
    first, revoked = make_grant(), make_grant(2, revoked=True)
    read_grant(file_of(settings, first), settings)
    _, entry, _ = read_grant(file_of(settings, revoked), settings)
    with pytest.raises(Refused, match="revoked"):
        zone_of(entry, settings)
    with pytest.raises(Refused, match="not newer"):
        read_grant(file_of(settings, first), settings)
    scanner = Authority(settings, "agent-0", Codec())
    scanner.learn([first])
    assert scanner.book.known["lab"].grant.revoked, "a scanner of this folder knows it too, once it starts"


def test_what_is_kept_is_bounded_by_what_still_counts(settings: Settings) -> None:
    memory = Remembered(settings.data_dir)
    old, new = make_grant(grant_id="old"), make_grant(grant_id="new", expires_at=datetime.now(UTC) + timedelta(days=9))
    memory.keep(old, datetime.now(UTC))
    memory.keep(new, datetime.now(UTC) + timedelta(days=1))
    memory.keep(make_grant(grant_id="new"), datetime.now(UTC))
    assert load_floors(sweeps_floors(settings.data_dir)) == Floors({"old": 1, "new": 1}, {"new": new})


@pytest.mark.parametrize("slot", [0, 1, 12])
def test_every_slot_of_the_machine_is_asked_whatever_ours_is(settings: Settings, slot: int) -> None:
    save_floors(floors_of(settings, slot), Floors({"lab": 2}, frozen=FREEZE.frozen))
    ours = settings.model_copy(update={"slot": 1})
    with pytest.raises(Refused, match="not newer"):
        read_grant(file_of(ours, make_grant()), ours)
    _, _, memory = read_grant(file_of(ours, make_grant(2)), ours)
    assert frozen_by(memory, HERE) == floors_of(settings, slot)


def test_together_the_highest_revision_and_every_freeze_count() -> None:
    one = Floors({"a": 3, "b": 1}, {"a": make_grant(3, grant_id="a")}, frozen_networks(("198.18.0.0/24",)))
    other = Floors({"a": 2, "c": 1}, {"a": make_grant(2, grant_id="a")}, frozen_networks(("198.18.1.0/24", "198.18.0.0/24")))
    found = together((one, other))
    assert found == Floors({"a": 3, "b": 1, "c": 1}, one.grants, frozen_networks(("198.18.0.0/24", "198.18.1.0/24")))
    assert (together((other, one)).revisions, together((other, one)).grants) == (found.revisions, found.grants)


class Running:
    """A sweep under revision 1 of a grant, as far as its news are concerned."""

    def __init__(self, settings: Settings) -> None:
        self.grant = make_grant()
        self.book, _, self.memory = read_grant(file_of(settings, self.grant), settings)
        self.path = floors_of(settings, 3)

    def hear(self, floors: Floors) -> str | None:
        save_floors(self.path, floors)
        return self.news()

    def news(self) -> str | None:
        return news(self.memory, self.book, self.grant, HERE)


def test_a_running_sweep_hears_of_freezes_and_revocations_that_a_scanner_learns(settings: Settings) -> None:
    running = Running(settings)
    assert running.news() is None
    assert running.hear(Floors({"other": 7})) is None
    assert running.hear(Floors(frozen=frozen_networks(("198.19.0.0/24",)))) is None
    assert "somebody froze" in (running.hear(FREEZE) or "")
    assert running.hear(Floors()) is None
    assert running.hear(Floors({"lab": 2}, {"lab": make_grant(2, revoked=True)})) == "grant lab was revoked"


def test_it_hears_of_a_later_revision_that_it_can_t_see_and_of_a_file_that_is_damaged(settings: Settings) -> None:
    running = Running(settings)
    running.path.parent.mkdir()
    running.path.write_text("{}")
    assert "can't be read" in (running.news() or "")
    assert running.hear(Floors({"lab": 2})) == "grant lab was replaced by revision 2"


def test_what_another_grant_comes_to_exclude_is_left_out_from_then_on(settings: Settings) -> None:
    running = Running(settings)
    shield = make_grant(grant_id="shield", exclusions=("198.18.0.7/32",))
    assert running.hear(Floors({"shield": 1}, {"shield": shield})) is None
    assert "shield" in running.book.known


def test_a_damaged_file_of_any_slot_ends_it_before_it_begins(settings: Settings) -> None:
    floors_of(settings, 5).parent.mkdir()
    floors_of(settings, 5).write_text("{}")
    with pytest.raises(MissingPrerequisite, match="scanner-5"):
        read_grant(file_of(settings, make_grant()), settings)


def test_one_sweep_at_a_time_has_a_grants_budgets(settings: Settings) -> None:
    memory = Remembered(settings.data_dir)
    with memory.alone("lab"):
        memory.alone("other/../../name").close()
        with pytest.raises(Refused, match="Another sweep under grant lab"):
            memory.alone("lab")
    memory.alone("lab").close()


@pytest.mark.parametrize(
    ("chosen", "limit"),
    [
        ({}, None),
        ({"zone": "default"}, None),
        ({"per_host_per_second": 3}, 3),
        ({"per_host_per_second": 40}, 40),
        ({"profile": "fragile"}, 5),
        ({"profile": "fragile", "per_host_per_second": 3}, 3),
    ],
)
def test_the_settings_limit_a_host_where_somebody_set_them(chosen: dict[str, object], limit: int | None) -> None:
    assert host_limit(ScannerSettings.model_validate(chosen)) == limit


def test_what_the_environment_says_counts_as_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert host_limit(Settings(data_dir=tmp_path).scanner) is None
    monkeypatch.setenv("DRIFTLINE_SCANNER__BACKEND", "sendmmsg")
    assert host_limit(Settings(data_dir=tmp_path).scanner) is None, "another setting of the scanner says nothing of hosts"
    monkeypatch.setenv("DRIFTLINE_SCANNER__PER_HOST_PER_SECOND", "3")
    assert host_limit(Settings(data_dir=tmp_path).scanner) == 3


def test_an_unsigned_grant_is_not_remembered(settings: Settings) -> None:
    forged = make_grant().model_copy(update={"revision": 9})
    with pytest.raises(Refused, match="does not fit"):
        read_grant(file_of(settings, forged), settings)
    assert not sweeps_floors(settings.data_dir).exists()
