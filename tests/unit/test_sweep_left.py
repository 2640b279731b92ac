"""What a stopped sweep leaves: with it, a second sweep looks at all that the first did not get to, and at nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.app.sweep_left import Rest, lines
from infra.core.errors import BadInput
from processors.scan.local_sweep import Part, joined
from processors.scan.sweep.hosts import HostList
from processors.scan.sweep.ledger import Ledger, PortState
from schemas.targeting import Span, parse_target, too_many

FIRST = int.from_bytes(bytes((198, 18, 0, 0)), "big")
SIX = int.from_bytes(bytes.fromhex("20010db8") + bytes(12), "big")
SPANS = st.lists(
    st.builds(lambda at, size: Span(4, at, at + size), st.integers(0, 1 << 31), st.integers(0, 1 << 26))
    | st.builds(lambda at, size: Span(6, at, at + size), st.integers(0, 1 << 120), st.integers(0, 2000)),
    max_size=6,
)


@given(SPANS)
def test_what_is_written_is_read_as_the_same_addresses(spans: list[Span]) -> None:
    read = [parse_target(line) for line in lines(spans)]
    assert all(isinstance(one, Span) and too_many(one, 1 << 24) is None for one in read)
    assert joined(one for one in read if isinstance(one, Span)) == joined(spans)


def test_hosts_that_lack_a_port_and_parts_that_were_never_begun_are_left(tmp_path: Path) -> None:
    ledger = Ledger(HostList.of_spans((Span(4, FIRST, FIRST + 9), Span(6, SIX, SIX + 1))), (80, 81), 2)
    ledger.states[:] = PortState.SILENT
    ledger.states[[2, 3, 7, 11], [0, 1, 1, 0]] = PortState.OPEN
    ledger.states[5] = PortState.REFUSED
    left, file = Rest(), tmp_path / "left"
    left.add(ledger)
    left.never_begun(iter([Part((Span(4, FIRST + 10, FIRST + 11),), (80, 81))]))
    left.write(file)
    assert file.read_text().split() == ["198.18.0.2-198.18.0.3", "198.18.0.7", "198.18.0.10-198.18.0.11", "2001:db8::1"]


def test_of_a_whole_sweep_nothing_is_left(tmp_path: Path) -> None:
    ledger = Ledger(["198.18.0.1"], (80,), 2)
    ledger.states = np.full_like(ledger.states, PortState.CLOSED)
    left, file = Rest(), tmp_path / "left"
    left.add(ledger)
    left.write(file)
    assert file.read_text() == ""


def test_a_file_that_cannot_be_written_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="can't be written"):
        Rest().write(tmp_path / "no" / "such" / "folder")
