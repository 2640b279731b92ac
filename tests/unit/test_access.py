"""The rights of each role follow from the topic table, and no role has more than its steps need."""

from __future__ import annotations

import pytest

from consumers.archive.role import LANES
from consumers.assess import role as assess
from consumers.notify import role as notify
from consumers.reconcile.ledger import TABLES
from infra.app.logins import login_environment, rights_of
from infra.app.roles import MODULES
from infra.core.errors import BadInput
from infra.core.ports import StepPlan
from infra.core.settings import BrokerSettings, Settings, load_settings
from infra.kafka.access import wanted_permissions
from processors.correlate import role as correlate
from processors.diff import role as diff
from processors.plan import role as plan
from processors.rollup import role as rollup
from schemas.access import PEOPLE, ROLES, Right, parse_role, readers, rights, scanner_transaction, writers
from schemas.topics import TOPICS

ZONES = ("default", "dmz")
PLANS: tuple[StepPlan, ...] = (assess.PLAN, notify.PLAN, correlate.PLAN, diff.PLAN, plan.PLAN)


def may(role: str, operation: str, zones: tuple[str, ...] = ZONES) -> set[str]:
    return {one.name for one in rights(role, zones) if one.kind == "topic" and one.operation == operation}


def test_every_word_of_the_topic_table_means_somebody_and_every_role_is_known() -> None:
    assert set().union(*(readers(one) | writers(one) for one in TOPICS)) <= {*ROLES, *PEOPLE}
    assert set(MODULES) - {"store"} <= set(ROLES)


@pytest.mark.parametrize("step", PLANS, ids=lambda one: one.role)
def test_a_step_may_read_its_inputs_write_their_dead_letters_and_keep_its_state(step: StepPlan) -> None:
    assert {*step.inputs, *step.global_tables, *step.global_inputs} <= may(step.role, "READ")
    assert {f"dlq.{name}" for name in step.inputs} <= may(step.role, "WRITE")
    if step.changelog:
        assert step.changelog in may(step.role, "READ") & may(step.role, "WRITE")


def test_the_archiver_and_the_rollups_may_read_what_they_read() -> None:
    topics = {topic for lane, _ in LANES.values() for topic in lane}
    assert topics <= may("archiver", "READ")
    assert {f"dlq.{name}" for name in topics} == may("archiver", "WRITE")
    assert set(TABLES) | {f"dlq.{name}" for name in TABLES} == may("reconciler", "READ")
    assert not may("reconciler", "WRITE")
    assert set(rollup.INPUTS) <= may("rollups", "READ")


def test_a_scanner_may_do_its_work_in_its_zone_and_nothing_else() -> None:
    found = rights("scanner", ("dmz",), "scan-1")
    assert {one.name for one in found if one.kind == "topic" and one.operation == "READ"} == {"grants", "commands", "work.dmz"}
    written = {"probes", "agents", "touches", "targets", "dlq.work.dmz"}
    assert {one.name for one in found if one.kind == "topic" and one.operation == "WRITE"} == written
    assert {one.name for one in found if one.kind == "group"} == {"scanner.dmz", "scanner.authority"}
    assert {one for one in found if one.kind == "transactional_id"} == {
        Right("transactional_id", scanner_transaction("dmz", "scan-1") + "-0", "WRITE")
    }
    assert not any(one.prefixed for one in found)


def test_a_zones_transactions_are_no_other_zones() -> None:
    (mine,) = (one for one in rights("scanner", ("dmz",)) if one.kind == "transactional_id")
    assert (scanner_transaction("dmz", "") + "-3").startswith(mine.name)
    for other in ("dmz-2", "dmz.x", "dm"):
        assert not scanner_transaction(other, "").startswith(mine.name)


def test_only_people_may_write_what_people_write() -> None:
    for name in ("grants", "commands", "decisions", "campaigns", "audit"):
        assert {role for role in (*ROLES, *PEOPLE) if name in may(role, "WRITE")} <= {"operator", "soc"}, name


def test_no_role_may_write_the_state_of_another() -> None:
    for name in ("state.correlator", "state.assessor", "state.scheduler", "assets"):
        assert len([role for role in ROLES if name in may(role, "WRITE")]) == 1


def test_principals_of_the_settings_get_the_rights_of_their_roles_behind_the_prefix() -> None:
    settings = load_settings(zones=ZONES, kafka={"prefix": "blue.", "principals": {"a": ("scanner@dmz",), "b": ("planner", "notifier")}})
    found = wanted_permissions(settings)
    assert {one.user for one in found} == {"a", "b"}
    assert all(one.right.name.startswith("blue.") for one in found)
    assert {one.right.name.removeprefix("blue.") for one in found if one.user == "a"} == {one.name for one in rights("scanner", ("dmz",))}


@pytest.mark.parametrize("wrong", ["scaner", "differ@dmz", ""])
def test_a_role_that_is_none_is_said(wrong: str) -> None:
    with pytest.raises(ValueError, match="is no role"):
        parse_role(wrong)
    with pytest.raises(BadInput, match="is no role"):
        load_settings(kafka={"principals": {"a": (wrong,)}})


def test_under_up_each_process_logs_in_as_itself_and_only_where_it_must() -> None:
    settings = Settings(broker=BrokerSettings(sasl=True))
    assert login_environment(settings, ("planner", "scheduler"))["DRIFTLINE_KAFKA__SASL_USERNAME"] == "planner+scheduler"
    assert login_environment(settings, ("store",)) == {}
    assert login_environment(Settings(), ("planner",)) == {}
    assert rights_of(settings, ("planner", "scheduler")) == rights("planner", ("default",)) | rights("scheduler", ("default",))


@pytest.mark.parametrize(
    ("broker", "says"),
    [
        ({"listen": "198.18.0.1:19094"}, "needs sasl"),
        ({"listen": "19094", "sasl": True}, "address:port"),
        ({"certificate_file": "/x.pem"}, "listen, which is not set"),
        ({"listen": "198.18.0.1:19094", "sasl": True, "client_ca_file": "/x.pem"}, "needs certificate_file"),
    ],
)
def test_an_open_door_to_other_machines_is_no_setting(broker: dict[str, object], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        load_settings(broker=broker)
