"""What a webhook sends: signed as Standard Webhooks has it, the same bytes for the same pages, bounded; and what a POST comes to."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from consumers.notify.courier import note_of, noted_end
from consumers.notify.message import SHOWN, Message, compose, headers
from consumers.notify.posting import Outcome, outcome_of, post
from infra.core.notifier_settings import NotifierSettings, Webhook
from schemas.events.findings import Finding, Page, PageKind
from schemas.examples import EXAMPLES
from tests.receivers import Answer, receiving

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
FINDING = next(event for _, event in EXAMPLES if isinstance(event, Finding))


def page(number: int, kind: PageKind = PageKind.RAISED, **over: Any) -> Page:
    finding = FINDING.model_copy(update={"finding_id": f"f{number}", **over})
    return Page(page_id=f"p{number}{kind.value}", webhook="soc", kind=kind, finding=finding)


def test_the_signature_is_the_one_of_the_published_example() -> None:
    """The example of the Standard Webhooks reference libraries."""
    found = headers(Message("msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}'), SECRET, 1614265330)
    assert found["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert (found["webhook-id"], found["webhook-timestamp"]) == ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330")


def test_many_pages_are_one_bounded_message_with_counts() -> None:
    message = compose("soc", [page(number, risk=float(number % 90)) for number in range(5000)])
    data = json.loads(message.body)["data"]
    assert (data["count"], len(data["findings"]), data["left_out"]) == (5000, SHOWN, 5000 - SHOWN)
    assert data["by_kind"] == {"raised": 5000}
    assert {one["risk"] for one in data["findings"]} == {89.0}
    assert len(message.body) < 200_000


def test_equal_pages_give_equal_bytes_and_others_another_id() -> None:
    some = [page(1), page(2)]
    assert compose("soc", some) == compose("soc", some)
    assert compose("soc", some).message_id not in {compose("soc", some[:1]).message_id, compose("noc", some).message_id}


def test_of_one_finding_the_last_word_is_sent() -> None:
    data = json.loads(compose("soc", [page(1), page(1, PageKind.WORSE), page(2), page(1, PageKind.OVER)]).body)["data"]
    assert [(one["finding_id"], one["kind"]) for one in data["findings"]] == [("f2", "raised"), ("f1", "over")]


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"url": "ftp://h/x"}, "http"),
        ({"url": "https://user:pass@h/x"}, "password"),
        ({"secret": None}, "missing"),
        ({"secret": "short"}, "too short"),
        ({"secret": "whsec_!!"}, "base64"),
        ({"name": "No Spaces"}, "pattern"),
        ({"min_rank": "urgent"}, "critical"),
    ],
)
def test_wrong_settings_are_refused(over: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Webhook(**{"name": "soc", "url": "https://soc.test/", "secret": SECRET, **over})


def test_two_webhooks_need_two_names() -> None:
    one = Webhook(name="soc", url="https://soc.test/", secret=SecretStr(SECRET))
    with pytest.raises(ValidationError, match="same name"):
        NotifierSettings(webhooks=(one, one))


@pytest.mark.parametrize(
    ("answer", "taken", "again", "words"),
    [
        (200, True, False, ""),
        (500, False, True, "500"),
        (503, False, True, "503"),
        (429, False, True, "429"),
        (404, False, False, "404"),
        (302, False, False, "not followed"),
        (307, False, False, "not followed"),
        ("drop", False, True, ""),
        ("hang", False, True, "within 0.5 s"),
        ("drip", False, True, "within 0.5 s"),
    ],
)
def test_what_a_post_comes_to(answer: Answer, taken: bool, again: bool, words: str) -> None:
    with receiving(lambda _: answer) as receiver:
        receiver.headers["location"] = receiver.url + "/elsewhere"
        begun = time.monotonic()
        outcome = post(receiver.url, {"webhook-id": "m"}, b"{}", 0.5 if words.startswith("within") else 20)
        assert time.monotonic() - begun < 10
        assert (outcome.taken, outcome.again) == (taken, again)
        assert words in outcome.reason
        assert (
            len(receiver.requests) <= 1 if words.startswith("within") else len(receiver.requests) == 1
        )  # the time may end before it is heard


def test_a_receiver_that_is_not_there_is_tried_again() -> None:
    with receiving() as receiver:
        url = receiver.url
    assert post(url, {}, b"{}", 20.0).again


def test_retry_after_is_heard() -> None:
    assert outcome_of(503, "7") == Outcome(False, "it answered 503", True, 7.0)
    assert outcome_of(429, "Fri, 21 Nov 2026 10:00:30 GMT", "Fri, 21 Nov 2026 10:00:00 GMT").after == 30
    assert outcome_of(503, "soon").after == 0


def test_a_noted_end_is_read_back() -> None:
    assert noted_end(note_of(41)) == 41
    assert [noted_end(one) for one in (None, "", "until", "until x", "something else")] == [None] * 5
