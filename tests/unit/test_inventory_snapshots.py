"""Snapshots of NetBox, Kubernetes and AWS: who is a member, and that a broken one is refused whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.core.errors import BadInput
from producers.inventory.members import Member, expected_services, network_text, together
from producers.inventory.snapshots import read_snapshot
from producers.inventory.syncing import plan
from schemas.events.context import Criticality, InventoryRecord
from schemas.ids import subnet_key
from tests.inventories import AWS_INSTANCES, AWS_INTERFACES, KUBECTL, NETBOX_ADDRESSES, NETBOX_DEVICES, NETBOX_PREFIXES, NETBOX_SERVICES


def write(folder: Path, *documents: object) -> list[Path]:
    files = []
    for number, one in enumerate(documents):
        file = folder / f"{number}.json"
        file.write_text(one if isinstance(one, str) else json.dumps(one))
        files.append(file)
    return files


def members(folder: Path, *documents: object) -> dict[str, Member]:
    return dict(read_snapshot(write(folder, *documents)).members)


def test_netbox_devices_addresses_prefixes_and_services(tmp_path: Path) -> None:
    found = members(tmp_path, NETBOX_DEVICES, NETBOX_ADDRESSES, NETBOX_PREFIXES, NETBOX_SERVICES)
    assert found["198.18.0.7"] == Member(
        "198.18.0.7", "Payments", Criticality.CRITICAL, ("Lisbon", "Web server", "pci"), ("tcp/443", "tcp/8443"), True
    )
    assert found["198.18.0.8"].owner == "Platform"
    assert found["2001:db8::8"].expected == ()
    assert found["198.18.0.0/24"].owner == "Payments"
    assert not found["198.18.0.0/16"].target  # a container
    assert "198.18.0.99" not in found  # deprecated
    left_out = read_snapshot(write(tmp_path, NETBOX_DEVICES)).left_out
    assert left_out == ("1 devices without a primary address",)


def test_kubernetes_services_nodes_and_ingresses(tmp_path: Path) -> None:
    found = members(tmp_path, KUBECTL)
    assert found["198.18.1.10"] == Member(
        "198.18.1.10", "shop", Criticality.HIGH, ("kubernetes-service", "namespace-shop"), ("tcp/443", "udp/443"), True
    )
    assert found["198.18.1.20"].expected == ("tcp/443", "tcp/80")
    assert found["198.18.1.30"].tags == ("kubernetes-node",)
    assert "10.96.0.1" not in found  # a ClusterIP
    assert read_snapshot(write(tmp_path, KUBECTL)).left_out == ("1 load balancers that have a name and no address",)


def test_aws_instances_and_interfaces(tmp_path: Path) -> None:
    found = members(tmp_path, AWS_INSTANCES, AWS_INTERFACES)
    assert found["10.0.0.5"] == Member("10.0.0.5", "Search", Criticality.HIGH, ("aws-instance", "index-1", "private"), ("tcp/9200",), True)
    assert found["2001:db8::5"].owner == "Search"
    assert found["10.0.0.9"].tags == ("aws-interface", "private")
    assert "10.0.0.6" not in found  # terminated


def changed(document: Any, **over: object) -> Any:
    return {**document, **over}


@pytest.mark.parametrize(
    ("documents", "words"),
    [
        (["{"], "no whole JSON"),
        (["[" * 100_000], "no whole JSON"),
        (["\xff"], "no whole JSON"),
        (["[]"], "no list of"),
        (['{"kind": "Service", "metadata": {}}'], "no list of"),
        ([NETBOX_DEVICES, KUBECTL], "several systems"),
        ([changed(NETBOX_DEVICES, next="https://netbox.example/api/?offset=2")], "where they say 3, and the last page is missing"),
        ([changed(NETBOX_DEVICES, count=50)], "not whole: 3 objects, where they say 50;"),
        ([changed(NETBOX_DEVICES, next="x"), NETBOX_DEVICES], "not whole"),  # the same page twice
        ([changed(NETBOX_DEVICES, results="all")], "results"),
        ([changed(NETBOX_ADDRESSES, count=1, results=[{"id": 1, "address": "nowhere"}])], "object 1"),
        (
            [changed(NETBOX_ADDRESSES, count=1, results=[{"id": 1, "address": "198.18.0.1/24", "custom_fields": {"criticality": "huge"}}])],
            "huge",
        ),
        (
            [changed(NETBOX_ADDRESSES, count=1, results=[{"id": 1, "address": "198.18.0.1/24", "custom_fields": {"expected": "443"}}])],
            "tcp/443",
        ),
        ([changed(NETBOX_PREFIXES, count=1, results=[{"id": 1, "prefix": "198.18.0.1/24"}])], "host bits"),
        (
            [changed(NETBOX_PREFIXES, count=1, results=[{"id": 1, "prefix": "198.18.0.0/24", "custom_fields": {"owner": "\ud800"}}])],
            "surrogates",
        ),
        ([changed(KUBECTL, metadata={"continue": "abc"})], "continue"),
        ([changed(KUBECTL, items=[{"kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": [{"port": 0}]}}])], "greater than"),
        ([changed(KUBECTL, items=None)], "items"),
        ([changed(AWS_INSTANCES, NextToken="abc")], "NextToken"),
        ([{"Reservations": [{"Instances": [{"InstanceId": "i"}]}]}], "State"),
        ([{"NetworkInterfaces": [{"NetworkInterfaceId": "eni-1", "PrivateIpAddress": "x"}]}], "eni-1"),
    ],
)
def test_a_broken_snapshot_is_refused_whole(tmp_path: Path, documents: list[object], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        read_snapshot(write(tmp_path, *documents))


def test_all_pages_of_a_list_are_one_snapshot(tmp_path: Path) -> None:
    entries = [{"id": number, "address": f"198.18.0.{number}/24"} for number in range(1, 6)]
    first = {"count": 5, "next": "https://netbox.example/api/?offset=3", "results": entries[:3]}
    second = {"count": 5, "next": None, "results": entries[3:]}
    assert len(members(tmp_path, first, second)) == 5
    with pytest.raises(BadInput, match="not whole"):
        members(tmp_path, first)
    with pytest.raises(BadInput, match="not whole"):
        members(tmp_path, second)


def test_two_words_on_one_address_are_joined() -> None:
    one = Member("198.18.0.1", "", Criticality.HIGH, ("a",), ("tcp/80",), False)
    other = Member("198.18.0.1", "web", Criticality.LOW, ("b",), ("tcp/443",), True)
    assert together([one, other])["198.18.0.1"] == Member("198.18.0.1", "web", Criticality.HIGH, ("a", "b"), ("tcp/443", "tcp/80"), True)


def test_services_and_networks_are_written_one_way() -> None:
    assert expected_services("TCP/443, tcp/0443 udp/53") == ("tcp/443", "udp/53")
    assert network_text("2001:DB8:0:0::/32") == "2001:db8::/32"
    assert network_text("198.18.0.7/32") == "198.18.0.7"
    for wrong in ("443", "tcp/0", "tcp/65536", "sctp/1", "tcp/x"):
        with pytest.raises(ValueError, match="no service"):
            expected_services(wrong)


NETWORKS = st.sets(st.integers(0, 30).map(lambda number: f"198.18.0.{number}"), max_size=12)


def records(networks: set[str], source: str) -> dict[str, InventoryRecord]:
    return {subnet_key("default", one): InventoryRecord(network=one, source=source, changed_by="x") for one in networks}


@given(NETWORKS, NETWORKS, NETWORKS)
def test_a_sync_makes_the_source_say_just_its_snapshot_and_touches_no_other(mine: set[str], theirs: set[str], now: set[str]) -> None:
    known = {**records(mine, "netbox"), **records(theirs, "aws")}
    found = plan(known, {one: Member(one, "web") for one in now}, "netbox", "default", "ada")
    after = {key: one for key, one in {**known, **found.records}.items() if key not in found.withdrawn}
    assert {one.network for one in after.values() if one.source == "netbox"} == now - theirs
    assert {key: one for key, one in after.items() if one.source == "aws"} == records(theirs, "aws")
    assert set(found.others) == now & theirs
    assert found.now == len(now - theirs)
    again = plan(after, {one: Member(one, "web") for one in now}, "netbox", "default", "bob")
    assert (again.records, again.withdrawn, again.fresh, again.shrank) == ({}, (), (), False)


@pytest.mark.parametrize(
    ("before", "now", "held"), [(10, 8, False), (10, 7, True), (5, 4, False), (5, 3, True), (1, 0, True), (0, 0, False), (4, 9, False)]
)
def test_more_than_a_fifth_is_held(before: int, now: int, held: bool) -> None:
    known = records({f"198.18.0.{number}" for number in range(before)}, "netbox")
    found = plan(known, {one: Member(one) for one in (f"198.18.0.{number}" for number in range(now))}, "netbox", "default", "ada")
    assert found.shrank is held


def test_a_persons_word_is_left_and_what_is_new_is_looked_at() -> None:
    person = InventoryRecord(network="198.18.0.1", owner="ada", changed_by="ada")
    old = InventoryRecord(network="198.18.0.2", source="netbox", expected=("tcp/22",), changed_by="x")
    known = {subnet_key("default", one.network): one for one in (person, old)}
    now = {
        "198.18.0.1": Member("198.18.0.1", "bob"),
        "198.18.0.2": Member("198.18.0.2", expected=("tcp/22", "tcp/80")),
        "198.18.0.3": Member("198.18.0.3"),
        "198.18.0.0/24": Member("198.18.0.0/24", target=False),
    }
    found = plan(known, now, "netbox", "default", "x")
    assert found.others == {"198.18.0.1": "ada"}
    assert found.fresh == ("198.18.0.2", "198.18.0.3")
