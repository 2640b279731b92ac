"""Hosts that answer on everything; identical banners: enough are deception whatever else a host says; silence counts for nothing."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from processors.scan.deception import ALIKE_PORTS, MUTE_PORTS, answer_on_everything, looks_deceptive, looks_mute

PORTS = st.integers(1, 65_535)
BANNERS = st.dictionaries(PORTS, st.sampled_from(["", " ", "SSH-2.0-OpenSSH_9.2", "220 a", "220 b"]), max_size=80)


@given(BANNERS)
def test_it_is_the_number_of_equal_banners_that_counts(banners: dict[int, str]) -> None:
    said = [one for one in banners.values() if one.strip()]
    assert (looks_deceptive(banners) is not None) == any(said.count(one) >= ALIKE_PORTS for one in said)


@given(BANNERS, BANNERS)
def test_more_ports_never_clear_a_host(some: dict[int, str], more: dict[int, str]) -> None:
    first = looks_deceptive(some)
    assert first is None or looks_deceptive({**more, **some}) == first


@given(st.dictionaries(PORTS, st.sampled_from(["", " ", "\t", "HTTP/1.1 404 Not Found"]), max_size=200))
def test_silent_ports_and_status_lines_are_not_alike(banners: dict[int, str]) -> None:
    assert looks_deceptive(banners) is None


@given(st.lists(st.text(min_size=1, max_size=5), unique=True, max_size=60))
def test_different_banners_are_no_deception(texts: list[str]) -> None:
    assert looks_deceptive(dict(enumerate(texts, 1))) is None


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_only_who_is_mute_on_many_ports_and_on_all_is_not_believed(asked: int, spoke: int) -> None:
    assert (looks_mute(asked, spoke) is not None) == (asked >= MUTE_PORTS and spoke == 0)


@given(st.lists(st.tuples(st.integers(0, 3000), st.floats(0, 1)), min_size=1, max_size=40))
def test_only_hosts_with_most_of_many_ports_open_are_answer_on_everything(hosts: list[tuple[int, float]]) -> None:
    asked = max(number for number, _ in hosts)
    opened = np.array([int(number * share) for number, share in hosts])
    told = set(answer_on_everything(opened, asked, 100).tolist())
    assert told == {place for place, count in enumerate(opened) if count >= 100 and count >= asked / 2}
