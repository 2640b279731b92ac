"""Partitions agree with Kafka's own partitioner, ids with nothing but their content."""

from __future__ import annotations

import hashlib
import ipaddress

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import asset_key, content_id, murmur2, partition_of, subnet_key, subnet_of


# From org.apache.kafka.common.utils.UtilsTest.testMurmur2 (Apache Kafka), as signed 32-bit numbers.
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_kafkas_own(data: bytes, expected: int) -> None:
    assert murmur2(data) == expected & 0xFFFFFFFF


@given(st.text(), st.integers(1, 1000))
def test_a_partition_exists_and_does_not_move(key: str, partitions: int) -> None:
    found = partition_of(key, partitions)
    assert 0 <= found < partitions
    assert partition_of(key, partitions) == found


@given(st.ip_addresses())
def test_an_address_is_in_its_subnet_and_so_is_its_key(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    subnet = ipaddress.ip_network(subnet_of(str(address)))
    assert address in subnet
    assert subnet.prefixlen == (24 if address.version == 4 else 64)
    assert subnet_key("dmz", str(subnet)) == f"dmz|{subnet}"
    assert asset_key("dmz", str(address)).startswith("dmz|")


parts = st.lists(st.one_of(st.text(), st.integers(-(2**53) + 1, 2**53 - 1), st.booleans(), st.none()), max_size=5)


@given(parts, parts)
def test_ids_are_equal_just_where_the_content_is(one: list[object], two: list[object]) -> None:
    assert content_id(*one) == content_id(*one)
    same = one == two and [type(part) for part in one] == [type(part) for part in two]
    assert (content_id(*one) == content_id(*two)) == same


def test_parts_can_not_be_shifted_into_each_other() -> None:
    assert len({content_id("ab", "c"), content_id("a", "bc"), content_id("abc"), content_id("abc", ""), content_id(["ab", "c"])}) == 5


@given(parts)
def test_the_quick_form_of_the_parts_is_rfc_8785(some: list[object]) -> None:
    expected = hashlib.sha256(rfc8785.dumps(some)).hexdigest()[:32]  # type: ignore[arg-type]
    assert content_id(*some) == expected
