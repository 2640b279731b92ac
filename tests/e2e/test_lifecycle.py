"""What people do with findings, grants and campaigns from the command line, and what comes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from schemas.ids import content_id
from tests.e2e.conftest import World
from tests.pipelines import Pipeline, Row

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.store,
    pytest.mark.namespace,
    pytest.mark.slow,
    pytest.mark.timeout(400),
]


def state(pipeline: Pipeline, finding_id: str) -> Row:
    return pipeline.rows("SELECT * FROM findings FINAL WHERE finding_id = {f:String}", f=finding_id)[0]


def is_open(pipeline: Pipeline, finding_id: str) -> bool:
    return bool(pipeline.rows("SELECT 1 FROM worst_first WHERE finding_id = {f:String}", f=finding_id))


def test_findings_are_listed_worst_first_and_shown_whole(world: World) -> None:
    listed = world.pipeline.json("findings", "list")
    assert [row["risk"] for row in listed] == sorted((row["risk"] for row in listed), reverse=True)
    shown = world.pipeline.json("findings", "show", listed[0]["finding_id"][:12])
    assert shown["finding_id"] == listed[0]["finding_id"]
    assert shown["why"]
    assert shown["action"]
    assert shown["evidence_ids"]
    assert "is not a finding's id" in world.pipeline.cli("findings", "show", "'; DROP", code=2).stderr
    assert "No finding has an id" in world.pipeline.cli("findings", "show", "0000000000", code=2).stderr


def test_an_accepted_finding_leaves_the_list_until_it_is_reopened(world: World) -> None:
    pipeline, finding = world.pipeline, world.finding("tls-outdated")["finding_id"]
    assert is_open(pipeline, finding)
    pipeline.cli("findings", "accept", finding[:16], "--reason", "replaced in spring", "--for", "30d")
    pipeline.until(lambda: not is_open(pipeline, finding), 30, "the accepted finding to leave the list")
    row = state(pipeline, finding)
    assert (row["status"], row["decision"], row["decision_reason"]) == ("accepted", "accept", "replaced in spring")
    pipeline.cli("findings", "assign", finding[:8], "ben")
    pipeline.cli("findings", "comment", finding[:8], "the vendor was asked")
    pipeline.until(lambda: (row := state(pipeline, finding))["assignee"] == "ben" and row["comment"], 30, "what else was said")
    assert (state(pipeline, finding)["decision"], state(pipeline, finding)["status"]) == ("accept", "accepted")
    shown = " ".join(pipeline.cli("findings", "show", finding).stdout.split())
    assert all(words in shown for words in ("accept by", "replaced in spring", "assignee ben", "the vendor was asked"))
    assert finding not in {one["finding_id"] for one in pipeline.json("findings", "list")}
    assert finding in {one["finding_id"] for one in pipeline.json("findings", "list", "--all")}
    pipeline.cli("findings", "reopen", finding, "--reason", "it was not")
    pipeline.until(lambda: is_open(pipeline, finding), 30, "the finding to be open again")
    actions = ["finding.accept", "finding.assign", "finding.comment", "finding.reopen"]
    audited = "SELECT action FROM audit FINAL WHERE startsWith(subject, {f:String}) ORDER BY at"
    pipeline.until(lambda: len(pipeline.rows(audited, f=finding)) == len(actions), 30, "who said so")
    assert [one["action"] for one in pipeline.rows(audited, f=finding)] == actions


def test_the_inventory_moves_owner_and_risk_without_a_look(world: World, tmp_path: Path) -> None:
    pipeline, finding = world.pipeline, world.finding("mqtt-without-password")
    looks = pipeline.rows("SELECT count() AS n FROM sweeps FINAL WHERE has(addresses, {a:String})", a=world.lab.plan.address4(7))
    file = tmp_path / "inventory.csv"
    file.write_text(f"network,owner,criticality,tags\n{world.lab.plan.address4(7)}/32,plant floor,critical,ot scada\n")
    pipeline.cli("inventory", "push", str(file))
    pipeline.until(lambda: state(pipeline, finding["finding_id"])["owner"] == "plant floor", 30, "the new owner")
    after = state(pipeline, finding["finding_id"])
    assert after["criticality"] == "critical"
    assert after["risk"] == min(finding["risk"] + 10, after["ceiling"])
    assert after["risk"] > finding["risk"]
    again = pipeline.rows("SELECT count() AS n FROM sweeps FINAL WHERE has(addresses, {a:String})", a=world.lab.plan.address4(7))
    assert again == looks
    file.write_text(f"network,owner,criticality\n{world.lab.plan.address4(7)}/32,,normal\nnot-a-network,x,enormous\n")
    assert ":3: criticality" in pipeline.cli("inventory", "push", str(file), code=2).stderr
    pipeline.until(lambda: state(pipeline, finding["finding_id"])["risk"] == finding["risk"], 30, "the old risk")


def test_a_push_can_wait_until_all_was_looked_at(world: World) -> None:
    pipeline, target = world.pipeline, world.lab.plan.address4(5)
    told = pipeline.cli("targets", "push", target, "203.0.113.9", "--ports", "6379", "--id", "patient", "--wait", code=4).stderr
    assert "refused: 203.0.113.9: it is in no network of any grant of zone default" in told
    assert "1 unit looked at." in told
    (run,) = [one for one in pipeline.json("runs", "--limit", "1000") if one["request_id"] == content_id("push", "patient", 0)]
    assert (run["units"], run["looked_at"], run["waiting"], run["refused"]) == (1, 1, 0, 1)
    assert "203.0.113.9" in pipeline.cli("runs").stderr
    said = json.loads(pipeline.cli("targets", "push", target, "--ports", "6379", "--wait", "--json").stdout)
    assert (said["accepted"], said["looked_at"], said["stopped"], said["refused"]) == (1, 1, 0, [])


def test_what_is_frozen_does_not_count_as_looked_at(world: World) -> None:
    pipeline, target = world.pipeline, world.lab.plan.address4(5)
    pipeline.cli("freeze", f"{target}/32")
    try:
        told = pipeline.cli("targets", "push", target, "--ports", "6379", "--wait", code=4).stderr
    finally:
        assert "thaw" in pipeline.cli("resume", f"{target}/32", code=2).stderr
        pipeline.cli("thaw", f"{target}/32", "--as", "Ann Lee")
    assert "0 units looked at, 1 stopped before the end (frozen)." in told
    assert "ended early (frozen" in pipeline.cli("findings", "list").stderr
    assert pipeline.rows("SELECT stopped_reason FROM stopped WHERE stopped_reason = 'frozen'")
    pipeline.cli("targets", "push", target, "--ports", "6379", "--wait")


def test_a_decision_needs_a_reason_and_a_time_to_come(world: World) -> None:
    pipeline, finding = world.pipeline, world.finding("tls-outdated")["finding_id"]
    assert "without a reason" in pipeline.cli("findings", "accept", finding, "--reason", " ", code=2).stderr
    assert "is over already" in pipeline.cli("findings", "accept", finding, "--reason", "x", "--for", "2020-01-01", code=2).stderr
    assert state(pipeline, finding)["status"] == "open"


def test_a_paused_campaign_rests_while_another_goes_on(world: World) -> None:
    pipeline, target = world.pipeline, world.lab.plan.address4(8)

    def runs(name: str) -> int:
        return int(pipeline.rows("SELECT count() AS n FROM runs FINAL WHERE campaign_id = {c:String}", c=name)[0]["n"])

    for name in ("resting", "going"):
        pipeline.cli("campaign", "create", name, "--target", target, "--ports", "9", "--every", "1")
    try:
        pipeline.until(lambda: min(runs("resting"), runs("going")) >= 2, 60, "two runs of each campaign")
        listed = {one["campaign_id"]: one for one in pipeline.json("campaign", "list")}
        assert listed["going"]["next"], "when it is due next"
        pipeline.cli("campaign", "pause", "resting")
        pipeline.until(lambda: pipeline.json("campaign", "show", "resting")["state"] == "paused", 10, "the campaign to be paused")
        going = runs("going")
        pipeline.until(lambda: runs("going") > going + 1, 60, "what was on its way to arrive")
        rested, going = runs("resting"), runs("going")
        pipeline.until(lambda: runs("going") >= going + 3, 60, "three more runs of the campaign that goes on")
        assert runs("resting") == rested
        pipeline.cli("campaign", "start", "resting")
        pipeline.until(lambda: runs("resting") > rested, 60, "the campaign to go on")
    finally:
        for name in ("resting", "going"):
            pipeline.cli("campaign", "stop", name)


def test_a_push_again_under_its_id_changes_nothing(world: World) -> None:
    pipeline = world.pipeline
    run = pipeline.push("twice", [world.lab.plan.address4(8)], "9-12")
    pipeline.scanned(run)
    again = pipeline.push("twice", [world.lab.plan.address4(8)], "9-12")
    assert again["run_id"] == run["run_id"]
    other = pipeline.push("after-twice", [world.lab.plan.address4(8)], "13")
    pipeline.scanned(other)
    count = pipeline.rows("SELECT count() AS n FROM sweeps FINAL WHERE run_id = {r:String}", r=run["run_id"])
    assert count[0]["n"] == run["units"]
