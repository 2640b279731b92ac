"""Which packages are missing, and what apt says they cost."""

from __future__ import annotations

import pytest

from infra.local.packages import Cost, missing, parse_cost

APT = """The following NEW packages will be installed:
  libcjson1 libdlt2 libmosquitto1 memcached mosquitto vsftpd
0 upgraded, 6 newly installed, 0 to remove and 3 not upgraded.
Need to get 1,013 kB of archives.
After this operation, 2,765 kB of additional disk space will be used.
Abort.
"""


def test_a_program_that_is_not_there_makes_its_package_missing() -> None:
    assert missing({"coreutils": "ls", "nowhere": "driftline-no-such-program"}) == ["nowhere"]


def test_apt_says_the_cost() -> None:
    assert parse_cost(APT) == Cost(6, "1,013 kB", "2,765 kB")


@pytest.mark.parametrize("text", ["", "E: Unable to locate package nmap\n", "0 upgraded, 0 newly installed\n"])
def test_where_apt_does_not_know_there_is_no_cost(text: str) -> None:
    assert parse_cost(text) is None
