"""Files of other scanners, whole or mangled: each port is told in one way, and no text makes a reader fail in a way of its own."""

from __future__ import annotations

import json
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from infra.core.errors import BadInput
from producers.imports.comparing import compare
from producers.imports.json_records import read_masscan, read_naabu
from producers.imports.looks import Import, looks, verdict
from producers.imports.nmap_xml import UnreadableScanError, read_xml
from producers.imports.scanfile import HostSeen, ScanInfo
from producers.imports.snapshots import snapshot_of
from producers.inventory.aws import read_aws
from producers.inventory.kubernetes import read_kubernetes
from producers.inventory.netbox import read_netbox
from schemas.events.base import Transport
from schemas.events.observations import SweepResult
from schemas.portset import expand
from tests.inventories import AWS_INSTANCES, AWS_INTERFACES, KUBECTL, NETBOX_ADDRESSES, NETBOX_DEVICES, NETBOX_PREFIXES, NETBOX_SERVICES
from tests.scanfiles import host, nmap_xml, port

STATES = st.sampled_from(["open", "closed", "filtered", "unfiltered", "open|filtered", "closed|filtered", "odd"])
REASONS = st.sampled_from(["syn-ack", "reset", "no-response", "admin-prohibited", ""])
PORTS = st.dictionaries(st.integers(1, 40), st.tuples(STATES, REASONS), max_size=8)
HOSTS = st.dictionaries(st.integers(1, 5).map(lambda one: f"198.18.0.{one}"), PORTS, min_size=1, max_size=4)
WHAT = Import("default", "scan.xml", "ab" * 32)


def file_of(hosts: dict[str, dict[int, tuple[str, str]]]) -> bytes:
    return nmap_xml(
        "".join(
            host(address, "".join(port(number, state, reason or "none") for number, (state, reason) in ports.items()))
            for address, ports in hosts.items()
        ),
        services="1-30",
    ).encode()


def sweeps_of(raw: bytes) -> list[SweepResult]:
    read = read_xml([raw])
    info = next(read)
    assert isinstance(info, ScanInfo)
    return [one for one in looks(info, (one for one in read if isinstance(one, HostSeen)), WHAT) if isinstance(one, SweepResult)]


@given(HOSTS)
def test_each_port_is_told_as_the_file_has_it_and_all_others_as_not_probed(hosts: dict[str, dict[int, tuple[str, str]]]) -> None:
    told: dict[tuple[str, int], str] = {}
    for sweep in sweeps_of(file_of(hosts)):
        named = {one.address: one for one in sweep.hosts}
        for address in sweep.probed:
            lists = [
                ("answered", set(named[address].answered if address in named else ())),
                *((kind, set(expand(getattr(named[address], kind))) if address in named else set()) for kind in ("closed", "unreachable")),
                ("not_probed", set(expand(named[address].not_probed)) if address in named else set()),
            ]
            for number in expand(sweep.ports):
                found = [kind for kind, some in lists if number in some]
                assert len(found) <= 1
                told[address, number] = found[0] if found else "silent"
    for address, ports in hosts.items():
        for number in range(1, 41):
            state, reason = ports.get(number, ("", ""))
            expected = verdict(state, reason or "none", Transport.TCP) if state else None
            assert told.get((address, number), "not_probed") == (expected or "not_probed")


@given(HOSTS)
def test_a_file_does_not_differ_from_itself(hosts: dict[str, dict[int, tuple[str, str]]]) -> None:
    raw = file_of(hosts)
    assert compare(snapshot_of("a", read_xml([raw])), snapshot_of("b", read_xml([raw[:500], raw[500:]]))).differences == ()


WHOLE = file_of({"198.18.0.1": {22: ("open", "syn-ack")}, "198.18.0.2": {1: ("filtered", "no-response")}})
RECORDS = b'[\n{"ip": "198.18.0.7", "timestamp": "1760000000", "ports": [{"port": 22, "proto": "tcp", "status": "open"}]},\n]\n'
MANGLED = st.tuples(st.sampled_from([WHOLE, RECORDS]), st.integers(0, 1500), st.integers(0, 60), st.binary(max_size=8)).map(
    lambda one: one[0][: one[1]] + one[3] + one[0][one[1] + one[2] :]
)


@given(MANGLED | st.binary(max_size=200))
def test_a_mangled_file_is_read_or_refused(raw: bytes) -> None:
    for read in (read_xml, read_masscan, read_naabu):
        with suppress(UnreadableScanError):
            items = read([raw])
            info = next(items)
            if isinstance(info, ScanInfo):
                with suppress(ValueError):  # among them what no event may hold, such as a time before 1970
                    list(looks(info, (one for one in items if isinstance(one, HostSeen)), WHAT))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3), max_leaves=4
)
DOCUMENTS = st.sampled_from([AWS_INSTANCES, AWS_INTERFACES, KUBECTL, NETBOX_ADDRESSES, NETBOX_DEVICES, NETBOX_PREFIXES, NETBOX_SERVICES])


@given(st.data())
def test_a_snapshot_with_one_odd_value_is_read_or_refused(data: st.DataObject) -> None:
    document = json.loads(json.dumps(data.draw(DOCUMENTS)))
    places: list[tuple[object, object]] = []

    def walk(value: object) -> None:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
            places.append((value, key))
            walk(inner)

    walk(document)
    holder, key = data.draw(st.sampled_from(places))
    holder[key] = data.draw(JSON)  # type: ignore[index]
    for read in (read_netbox, read_kubernetes, read_aws):
        with suppress(ValueError, BadInput):
            for member in read([document]).members.values():
                assert member.network
