"""Which places a record of the inventory concerns: the same as of all places, though only some are read."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from infra.core.ports import MemoryState
from processors.correlate.context_tables import places_in
from processors.correlate.memory import place_key
from schemas.events.context import InventoryRecord
from schemas.ids import subnet_key

V4 = st.integers(0, 2**12 - 1).map(lambda one: str(ipaddress.IPv4Address(0xC6120000 + (one >> 8 << 15) + (one & 255))))
V6 = st.integers(0, 2**12 - 1).map(lambda one: str(ipaddress.IPv6Address((0x20010DB8 << 96) + (one >> 8 << 64) + (one & 255))))
ADDRESSES = V4 | V6
NETWORKS = st.tuples(ADDRESSES, st.integers(0, 32)).map(
    lambda one: ipaddress.ip_network((one[0], one[1] if ":" not in one[0] else one[1] * 4), strict=False)
)


@given(st.sets(ADDRESSES, max_size=20), NETWORKS, st.booleans(), st.booleans())
def test_a_record_concerns_just_the_places_in_its_network(addresses: set[str], network: object, gone: bool, zoned: bool) -> None:
    state = MemoryState()
    for zone in ("default", "default2"):
        for address in addresses:
            state.put(place_key(zone, address, "tcp", 22), b"x")
    text = str(network)
    parsed = ipaddress.ip_network(text)
    plain = str(parsed.network_address) if parsed.prefixlen == parsed.max_prefixlen else text
    record = None if gone else InventoryRecord(network=plain)
    key = subnet_key("default", plain) if zoned or not gone else plain
    zones = ("default",) if zoned or not gone else ("default", "default2")
    inside = [one for one in addresses if ipaddress.ip_address(one).version == parsed.version and ipaddress.ip_address(one) in parsed]
    assert set(places_in(state, key, record)) == {place_key(zone, one, "tcp", 22) for zone in zones for one in inside}
