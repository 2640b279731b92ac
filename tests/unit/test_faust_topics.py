"""What Faust is told of topics that its client has not heard of yet."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from processors.faust_engine import CommittedThread


@pytest.mark.parametrize(("known", "told"), [({"new": 0}, None), ({}, None), ({"new": 12}, 12)])
def test_a_topic_without_partitions_is_one_that_is_not_known_yet(known: dict[str, int], told: int | None) -> None:
    thread = CommittedThread.__new__(CommittedThread)
    thread._consumer = SimpleNamespace(_coordinator=SimpleNamespace(_metadata_snapshot=known))
    assert thread.topic_partitions("new") == told
