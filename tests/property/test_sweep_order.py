"""The order of a sweep: every probe once, from any place, hosts far apart."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.scan.sweep.order import Order, permutation

KEYS = st.integers(0, (1 << 64) - 1)


@given(size=st.integers(1, 5_000), key=KEYS)
def test_a_permutation_meets_everything_once(size: int, key: int) -> None:
    assert np.array_equal(np.sort(permutation(size, key)), np.arange(size))


@given(hosts=st.integers(1, 60), ports=st.integers(1, 60), key=KEYS, cuts=st.lists(st.integers(0, 3_600), max_size=4))
def test_slices_from_any_place_make_up_the_whole_once(hosts: int, ports: int, key: int, cuts: list[int]) -> None:
    order = Order(hosts, ports, key)
    edges = [0, *sorted(min(cut, order.size) for cut in cuts), order.size]
    parts = [order.slice(first, last) for first, last in pairwise(edges)]
    visited = [(int(host), int(port)) for part in parts for host, port in zip(*part, strict=True)]
    assert sorted(visited) == [(host, port) for host in range(hosts) for port in range(ports)]
    whole = order.slice(0, order.size)
    assert visited == [(int(host), int(port)) for host, port in zip(*whole, strict=True)]


@given(hosts=st.integers(2, 200), ports=st.integers(2, 20), key=KEYS)
def test_probes_of_a_host_are_as_far_apart_as_there_are_hosts(hosts: int, ports: int, key: int) -> None:
    host, _ = Order(hosts, ports, key).slice(0, hosts * ports)
    assert np.array_equal(host[:hosts], host[hosts : 2 * hosts])
    assert len(np.unique(host[:hosts])) == hosts


def test_neighbours_are_not_probed_one_after_the_other_and_keys_differ() -> None:
    host, port = Order(65_536, 100, 7).slice(0, 65_536)
    steps = np.abs(np.diff(host.astype(np.int64)))
    assert (steps == 1).mean() < 0.001
    assert abs(np.corrcoef(np.arange(65_536), host)[0, 1]) < 0.02
    assert np.bincount(port.astype(np.int64), minlength=100).min() > 500, "each round spreads over all ports"
    other, _ = Order(65_536, 100, 8).slice(0, 65_536)
    assert (host == other).mean() < 0.001


@pytest.mark.parametrize("size", [0, -1, (1 << 32) + 1])
def test_a_size_that_is_none_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="can't be made"):
        permutation(size, 1)
