"""When an answer of the coordinator counts as a proof of membership."""

from __future__ import annotations

from processors.scan.scope.contact import PATIENCE, Contact


def test_answers_once_a_second_are_proofs() -> None:
    contact = Contact(5.0, 100.0)
    assert [contact.answered(one) for one in (101.0, 102.5, 107.0)] == [101.0, 102.5, 107.0]


def test_after_a_stall_an_answer_counts_only_once_a_heartbeat_had_time_to_fail() -> None:
    contact = Contact(5.0, 100.0)
    assert contact.answered(112.0) == 100.0
    assert contact.answered(113.0) == 100.0
    assert contact.answered(112.0 + PATIENCE) == 112.0 + PATIENCE


def test_a_second_stall_begins_the_patience_anew() -> None:
    contact = Contact(5.0, 100.0)
    contact.answered(112.0)
    assert contact.answered(130.0) == 100.0
    assert contact.answered(131.0) == 100.0
    assert contact.answered(132.0) == 132.0


def test_an_assignment_is_a_proof_at_once() -> None:
    contact = Contact(5.0, 100.0)
    contact.answered(112.0)
    assert contact.member(112.5) == 112.5
    assert contact.answered(113.0) == 113.0
