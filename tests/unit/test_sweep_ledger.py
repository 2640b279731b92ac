"""Port states, and what failed connects say of them."""

from __future__ import annotations

import errno

import pytest

from processors.scan.open_files import socket_bound
from processors.scan.sweep.connect import LocalTrouble, state_of
from processors.scan.sweep.ledger import Ledger, PortState
from schemas.events.base import PortRange

HOST, ROUTER = "198.18.210.130", "198.18.210.10"


def test_only_silence_gives_way() -> None:
    ledger = Ledger([HOST], [22, 80], attempts=2)
    ledger.note((HOST, 22), PortState.SILENT)
    ledger.note((HOST, 22), PortState.ANSWERED, attempt=2)
    ledger.note((HOST, 22), PortState.CLOSED, attempt=1)
    (host,) = ledger.hosts()
    assert host.answered == (22,)
    assert host.not_probed == (PortRange(first=80, last=80),)
    assert ledger.answers_by_attempt == [0, 1]


def test_a_host_silent_on_every_port_is_probed_but_not_listed() -> None:
    ledger = Ledger([HOST], range(20, 30), attempts=1)
    ledger.silence(list(ledger.open_keys()))
    assert ledger.probed() == (HOST,)
    assert ledger.hosts() == ()


def test_a_host_of_which_nothing_was_probed_is_listed_but_not_probed() -> None:
    ledger = Ledger([HOST], range(20, 30), attempts=1)
    ledger.refuse((HOST, 20), "out of scope")
    assert ledger.probed() == ()
    assert ledger.hosts()[0].not_probed == (PortRange(first=20, last=29),)
    assert (HOST, 20) not in list(ledger.open_keys())


def test_routers_say_unreachable_once_for_the_whole_host() -> None:
    ledger = Ledger([HOST, ROUTER], [1, 2, 3], attempts=1)
    for address in (HOST, ROUTER):
        ledger.note((address, 1), PortState.UNREACHABLE)
    ledger.note((ROUTER, 2), PortState.CLOSED)
    ledger.silence(list(ledger.open_keys()))
    assert ledger.state((HOST, 3)) is PortState.UNREACHABLE
    assert ledger.state((ROUTER, 3)) is PortState.SILENT


def test_hosts_take_turns() -> None:
    assert [key[0] for key in Ledger([HOST, ROUTER], [1, 2], attempts=1).open_keys()] == [HOST, ROUTER, HOST, ROUTER]


@pytest.mark.parametrize(
    ("number", "state"),
    [
        (errno.ECONNREFUSED, PortState.CLOSED),
        (errno.ENETUNREACH, PortState.UNREACHABLE),
        (errno.EHOSTUNREACH, PortState.UNREACHABLE),
        (errno.ETIMEDOUT, PortState.SILENT),
    ],
)
def test_states_of_failed_connects(number: int, state: PortState) -> None:
    assert state_of(OSError(number, "x"), "198.51.100.7") is state


def test_local_trouble_says_nothing_of_the_port() -> None:
    for number in (errno.EMFILE, errno.EPERM, errno.EADDRNOTAVAIL, errno.EACCES):
        with pytest.raises(LocalTrouble):
            state_of(OSError(number, "x"), HOST)


def test_all_units_together_stay_within_the_open_files() -> None:
    assert socket_bound(1024, 16) * 16 <= 1024 - 256
    assert socket_bound(1 << 20, 16) == 625
    assert socket_bound(1 << 20, 1) == 10_000
    assert socket_bound(256, 16) == 8
