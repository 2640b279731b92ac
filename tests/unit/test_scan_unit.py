"""Which addresses of a unit are probed at all, and what a probe pays."""

from __future__ import annotations

import pytest

from processors.scan.probes.nmap import PROBE
from processors.scan.unit import is_plain


@pytest.mark.parametrize("address", ["198.18.0.1", "2001:db8::1"])
def test_an_address_in_its_own_form_is_probed(address: str) -> None:
    assert is_plain(address)


@pytest.mark.parametrize("address", ["::ffff:198.18.0.1", "::ffff:c612:1", "fe80::1%lo", "2001:DB8::1", "198.18.0.01", "198.18.0.0/24", ""])
def test_anything_else_is_not(address: str) -> None:
    assert not is_plain(address)


def test_nmap_pays_for_the_most_connections_that_one_odd_service_got() -> None:
    assert PROBE.traits.cost >= 15 * 5
