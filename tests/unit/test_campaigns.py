"""Creating and steering campaigns."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from infra.core.errors import BadInput
from producers.auditing import Actor
from producers.campaigns.running import CampaignForm, Office, create_campaign, list_campaigns, steer_campaign
from producers.scheduler.due import Fired, due_slot
from schemas.events.base import Event
from schemas.events.operations import AuditRecord
from schemas.events.targets import Cadence, CadenceKind, Campaign, CampaignState

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
FORM = CampaignForm("lab", ("198.18.0.0/24", "www.example.org"), Cadence(kind=CadenceKind.ONCE))


class Topics:
    """Keeps what is published."""

    def __init__(self) -> None:
        self.campaigns: dict[str, Campaign] = {}
        self.actions: list[str] = []

    def publish(self, topic: str, key: str, event: Event) -> None:
        if isinstance(event, Campaign):
            assert (topic, key) == ("campaigns", event.campaign_id)
            self.campaigns[key] = event
        if isinstance(event, AuditRecord):
            assert (topic, key) == ("audit", "alice")
            self.actions.append(event.action)

    @property
    def office(self) -> Office:
        return Office(Actor("alice", "here"), ("default",), dict(self.campaigns), self.publish)


def test_a_campaign_is_created_steered_and_on_record() -> None:
    topics = Topics()
    made = create_campaign(FORM, topics.office, NOW)
    assert (made.state, made.started, made.changed_by, made.changed_at) == (CampaignState.ACTIVE, 1, "alice", NOW)
    paused = steer_campaign("lab", "pause", topics.office, NOW + timedelta(hours=1))
    stopped = steer_campaign("lab", "stop", topics.office, NOW + timedelta(hours=2))
    started = steer_campaign("lab", "start", topics.office, NOW + timedelta(hours=3))
    assert [(one.state.value, one.started) for one in (paused, stopped, started)] == [("paused", 1), ("stopped", 1), ("active", 2)]
    assert topics.actions == ["campaign.create", "campaign.pause", "campaign.stop", "campaign.start"]
    assert due_slot(started, Fired(1, NOW), NOW + timedelta(hours=3)) is not None
    assert list_campaigns(topics.campaigns) == [started]


def test_a_name_that_is_taken_needs_replace() -> None:
    topics = Topics()
    create_campaign(FORM, topics.office, NOW)
    with pytest.raises(BadInput, match="already"):
        create_campaign(FORM, topics.office, NOW)
    assert create_campaign(replace(FORM, ports="22"), topics.office, NOW, replace=True).started == 2


@pytest.mark.parametrize(
    ("form", "part"),
    [
        (replace(FORM, campaign_id="@ticks"), "not a name"),
        (replace(FORM, campaign_id="a b"), "not a name"),
        (replace(FORM, zone="moon"), "no zone 'moon'"),
        (replace(FORM, targets=()), "1 to 20000 targets"),
        (replace(FORM, targets=("what?",)), "is not an address"),
        (replace(FORM, ports="70000"), "Port 70000"),
        (replace(FORM, cadence=Cadence(kind=CadenceKind.CRON)), "not a cron expression"),
        (replace(FORM, cadence=Cadence(kind=CadenceKind.CRON, cron="61 * * * *")), "not a cron expression"),
    ],
)
def test_a_wrong_form_is_not_published(form: CampaignForm, part: str) -> None:
    topics = Topics()
    with pytest.raises(BadInput, match=part):
        create_campaign(form, topics.office, NOW)
    assert topics.campaigns == {}


def test_what_is_not_there_can_not_be_steered() -> None:
    with pytest.raises(BadInput, match="no campaign 'other'"):
        steer_campaign("other", "start", Topics().office, NOW)
