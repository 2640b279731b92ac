"""Other scanners' files: what they become, what they may not claim, and what a hostile one does (nothing)."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.core.errors import BadInput
from producers.imports.json_records import read_masscan, read_naabu
from producers.imports.looks import Import, looks
from producers.imports.nmap_xml import MOST_TOKEN, UnreadableScanError, read_xml
from producers.imports.opening import Scanner, items
from producers.imports.scanfile import Finish, HostSeen, Item, PortSeen, ScanInfo
from schemas.codec import Codec
from schemas.events.base import PortRange, Transport
from schemas.events.observations import HostObservation, HostPorts, SweepResult
from tests.scanfiles import host, nmap_xml, port

WHAT = Import("dmz", "scan.xml", "ab" * 32)


def events(text: str | bytes, scanner: str = "nmap", what: Import = WHAT) -> list[SweepResult | HostObservation]:
    raw = text.encode() if isinstance(text, str) else text
    read: Iterator[Item] = {"nmap": read_xml, "masscan": read_masscan, "naabu": read_naabu}[scanner]([raw[:100], raw[100:]])
    info = next(read)
    assert isinstance(info, ScanInfo)
    return list(looks(info, (one for one in read if isinstance(one, HostSeen)), what))


def only_sweep(found: list[SweepResult | HostObservation]) -> SweepResult:
    (sweep,) = [one for one in found if isinstance(one, SweepResult)]
    return sweep


def test_port_states_become_a_sweep_and_services_an_observation() -> None:
    ssh = (
        '<service name="ssh" product="OpenSSH" version="9.2p1" extrainfo="Debian" method="probed" conf="10">'
        "<cpe>cpe:/a:openbsd:openssh:9.2p1</cpe></service>"
    )
    rest = '<extraports state="closed" count="96"><extrareasons reason="reset" count="96" proto="tcp" ports="1-21,26-100"/></extraports>'
    named = port(22, "open", inner=ssh) + port(23, "filtered", "no-response") + port(24, "filtered", "admin-prohibited") + port(25, "open")
    found = events(nmap_xml(host("198.18.0.7", named + rest, names=("www.example.org",)), services="1-100"))
    sweep = only_sweep(found)
    (seen,) = sweep.hosts
    assert (sweep.probed, sweep.ports) == (("198.18.0.7",), (PortRange(first=1, last=100),))
    assert seen == HostPorts(
        address="198.18.0.7",
        answered=(22, 25),
        closed=(PortRange(first=1, last=21), PortRange(first=26, last=100)),
        unreachable=(PortRange(first=24, last=24),),
    )
    assert sweep.complete
    (observation,) = [one for one in found if isinstance(one, HostObservation)]
    assert observation.names == ("www.example.org",)
    first, second = observation.services
    assert (first.service, first.product, first.version, first.cpes) == ("ssh", "OpenSSH", "9.2p1", ("cpe:/a:openbsd:openssh:9.2p1",))
    assert (second.port, second.service) == (25, "")


def test_an_import_can_not_pass_for_a_scanners_look() -> None:
    found = events(nmap_xml(host("198.18.0.7", port(22, "open")), services="22"))
    for one in found:
        assert one.grant_id == ""
        assert one.agent_id == "import:scan.xml:abababababab"
    sweep = only_sweep(found)
    assert (sweep.engine, sweep.packets_sent, sweep.recall, sweep.recall_samples) == ("import:nmap", 0, 0.0, 0)
    assert [one.services[0].evidence for one in found if isinstance(one, HostObservation)] == [("import:nmap",)]


@pytest.mark.parametrize("status", ['<status state="down" reason="no-response"/>', ""])
def test_a_host_that_was_down_was_not_probed(status: str) -> None:
    text = nmap_xml(f'<host endtime="1760000000">{status}<address addr="198.18.0.9" addrtype="ipv4"/></host>', services="22")
    assert events(text) == []


def test_a_host_that_timed_out_was_not_probed_to_its_end() -> None:
    text = nmap_xml(host("198.18.0.7", port(22, "open"), attributes='timedout="true"'), services="22-23")
    assert events(text) == []


def test_ports_of_which_the_file_says_nothing_were_not_probed() -> None:
    sweep = only_sweep(events(nmap_xml(host("198.18.0.7", port(22, "open")), services="20-30")))
    assert sweep.hosts[0].not_probed == (PortRange(first=20, last=21), PortRange(first=23, last=30))
    assert not sweep.complete


def test_old_extraports_without_ports_stand_for_all_that_are_not_named() -> None:
    rest = '<extraports state="filtered" count="99"><extrareasons reason="no-responses" count="99"/></extraports>'
    said = only_sweep(events(nmap_xml(host("198.18.0.7", port(22, "open") + rest), services="1-100")))
    assert said.hosts == (HostPorts(address="198.18.0.7", answered=(22,)),)  # silent: probed, and in no list
    assert said.complete
    said = only_sweep(events(nmap_xml(host("198.18.0.7", port(22, "open") + rest.replace("no-resp", "net-unr")), services="1-100")))
    assert said.hosts[0].unreachable[0] == PortRange(first=1, last=21)  # a reason that is not known to be silence changes nothing
    mixed = (
        '<extraports state="filtered" count="50"><extrareasons reason="no-response" count="50"/></extraports>'
        '<extraports state="closed" count="49"><extrareasons reason="reset" count="49"/></extraports>'
    )
    said = only_sweep(events(nmap_xml(host("198.18.0.7", port(22, "open") + mixed), services="1-100")))
    assert said.hosts[0].not_probed == (PortRange(first=1, last=21), PortRange(first=23, last=100))
    assert said.hosts[0].closed == ()


def test_states_of_scans_that_only_guess_are_left_out() -> None:
    assert events(nmap_xml(host("198.18.0.7", port(22, "closed") + port(23, "unfiltered")), services="22-23", kind="ack")) == []


def test_udp_silence_is_silence_and_udp_answers_are_answers() -> None:
    text = nmap_xml(
        host("198.18.0.7", port(53, "open", "udp-response", "udp") + port(161, "open|filtered", "no-response", "udp")),
        services="53,161",
        kind="udp",
        protocol="udp",
    )
    sweep = only_sweep(events(text))
    assert sweep.transport is Transport.UDP
    assert sweep.hosts == (HostPorts(address="198.18.0.7", answered=(53,)),)
    assert sweep.complete


def test_the_same_file_makes_the_same_events_and_another_zone_others() -> None:
    text = nmap_xml(host("198.18.0.7", port(22, "open")) + host("198.18.1.7", port(22, "open")), services="22")
    assert events(text) == events(text)
    mine, theirs = ({one.unit_id for one in events(text, what=Import(zone, "a", "ab" * 32))} for zone in ("dmz", "lan"))
    assert len(mine) == 2
    assert not mine & theirs


def test_units_are_a_subnet_and_ten_minutes() -> None:
    hosts = "".join(host(f"198.18.0.{number}", port(22, "open"), end=1760000000 + number * 60) for number in range(1, 31))
    sweeps = [one for one in events(nmap_xml(hosts, services="22")) if isinstance(one, SweepResult)]
    assert 3 <= len(sweeps) <= 4
    assert all((one.finished_at - one.started_at).total_seconds() < 600 for one in sweeps)


def test_a_ping_is_a_sign_of_life_and_no_port() -> None:
    text = nmap_xml(host("198.18.0.7", "", reason="echo-reply"), services="")
    sweep = only_sweep(events(text))
    assert (sweep.ports, sweep.hosts) == ((), (HostPorts(address="198.18.0.7", echo=True),))


MASSCAN_XML = """<?xml version="1.0"?><!-- masscan v1.0 scan -->
<nmaprun scanner="masscan" start="1760000000" version="1.0-BETA"  xmloutputversion="1.03"><scaninfo type="syn" protocol="tcp" />
<host endtime="1760000000"><address addr="198.18.0.7" addrtype="ipv4"/>
<ports><port protocol="tcp" portid="80"><state state="open" reason="syn-ack" reason_ttl="64"/></port></ports></host>
<host endtime="1760000001"><address addr="198.18.0.7" addrtype="ipv4"/>
<ports><port protocol="tcp" portid="443"><state state="open" reason="syn-ack" reason_ttl="64"/></port></ports></host>
<host endtime="1760000001"><address addr="198.18.0.8" addrtype="ipv4"/>
<ports><port protocol="tcp" portid="80"><state state="open" reason="syn-ack" reason_ttl="64"/></port></ports></host>
<runstats><finished time="1760000010" timestr="x" elapsed="12" /><hosts up="1" down="0" total="1" /></runstats></nmaprun>"""
RECORD = (
    '{   "ip": "198.18.0.7",   "timestamp": "1760000000", '
    '"ports": [ {"port": %d, "proto": "tcp", "status": "open", "reason": "syn-ack", "ttl": 64} ] }'
)
BANNER = (
    '{   "ip": "198.18.0.7",   "timestamp": "1760000001", '
    '"ports": [ {"port": 22, "proto": "tcp", "service": {"name": "ssh", "banner": "SSH-2.0-OpenSSH_9.2p1"} } ] }'
)


def test_masscan_says_what_answered_and_nothing_of_the_rest() -> None:
    sweep = only_sweep(events(MASSCAN_XML, "nmap"))
    assert sweep.engine == "import:masscan"
    assert not sweep.complete
    assert sweep.hosts == (
        HostPorts(address="198.18.0.7", answered=(80, 443)),
        HostPorts(address="198.18.0.8", answered=(80,), not_probed=(PortRange(first=443, last=443),)),
    )


@pytest.mark.parametrize(
    "text",
    [
        f"[\n{RECORD % 22},\n{BANNER}\n]\n",
        f"[\n{RECORD % 22},\n{BANNER},\n]\n",  # issue 314: a comma behind the last
        f"[\n{RECORD % 22},\n{BANNER}\n",  # issue 726: no closing bracket
        f"{RECORD % 22},\n{BANNER},\n{{finished: 1}}\n",  # 1.0.3: no brackets, and a word that is no JSON
        json.dumps(json.loads(f"[{RECORD % 22},{BANNER}]"), indent=2),
        f"{RECORD % 22}\n{BANNER}\n",
    ],
)
def test_masscans_json_is_read_with_its_defects(text: str) -> None:
    sweep, observation = events(text, "masscan")
    assert isinstance(sweep, SweepResult)
    assert isinstance(observation, HostObservation)
    assert sweep.hosts == (HostPorts(address="198.18.0.7", answered=(22,)),)
    assert observation.services[0].banner == "SSH-2.0-OpenSSH_9.2p1"


def test_a_banner_that_is_no_unicode_is_kept_as_far_as_it_is() -> None:
    _, observation = events(BANNER.replace("SSH-2.0", "SSH\\ud800").replace('"proto"', '"status": "open", "proto"'), "masscan")
    assert isinstance(observation, HostObservation)
    assert observation.services[0].banner == "SSH?-OpenSSH_9.2p1"
    Codec().encode("probes", observation)


def test_masscans_ndjson_and_closed_ports() -> None:
    lines = [
        {"ip": "198.18.0.7", "timestamp": "1760000000", "port": 22, "proto": "tcp", "rec_type": "status", "data": {"status": "open"}},
        {"ip": "198.18.0.7", "timestamp": "1760000000", "port": 23, "proto": "tcp", "rec_type": "status", "data": {"status": "closed"}},
        {"ip": "198.18.0.7", "timestamp": "1760000000", "port": 0, "proto": "icmp", "rec_type": "status", "data": {"status": "open"}},
    ]
    sweep = only_sweep(events("\n".join(map(json.dumps, lines)), "masscan"))
    assert sweep.hosts == (HostPorts(address="198.18.0.7", answered=(22,), closed=(PortRange(first=23, last=23),), echo=True),)


def test_naabu_lines_and_those_without_a_time() -> None:
    line = (
        '{"host":"a.example.org","ip":"198.18.0.7","port":443,"protocol":"tcp","tls":true,"timestamp":"2026-01-02T03:04:05.123456789Z"}\n'
    )
    sweep = only_sweep(events(line, "naabu"))
    assert sweep.finished_at.isoformat() == "2026-01-02T03:04:05.123000+00:00"
    old = '{"ip":"198.18.0.7","port":{"Port":53,"Protocol":1,"TLS":false}}\n'
    with pytest.raises(ValueError, match="--at"):
        events(old, "naabu")
    assert only_sweep(events(old, "naabu", Import("dmz", "a", "ab" * 32, at=1760000000000))).transport is Transport.UDP


BOMB = '<!DOCTYPE nmaprun [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><nmaprun start="1">&b;</nmaprun>'
OUTSIDE = '<!DOCTYPE nmaprun [<!ENTITY a SYSTEM "file:///etc/passwd">]><nmaprun start="1">&a;</nmaprun>'
PARAMETER = '<!DOCTYPE nmaprun [<!ENTITY % a SYSTEM "http://198.18.0.1/x"> %a;]><nmaprun start="1"></nmaprun>'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "entities"),
        (OUTSIDE, "entities"),
        (PARAMETER, "entities"),
        ("<html></html>", "root is 'html'"),
        ("<nmaprun><host><host/></host></nmaprun>", "one host within another"),
        ("<nmaprun><nmaprun/></nmaprun>", "one scan within another"),
        ("<nmaprun>" + "<a>" * 100, "nested more than 64 deep"),
        ("<nmaprun><a b='", "no XML"),
        ("<nmaprun start='1'><host><address addr='1.2.3' addrtype='ipv4'/></host></nmaprun>", "no IP address"),
        ("<nmaprun><scaninfo protocol='tcp' services='1-99999'/></nmaprun>", "list of ports"),
        *((f"<?xml version='1.0' encoding='{name}'?><nmaprun/>", "encoding") for name in ("klingon", "big5", "utf-7", "hex", "idna")),
    ],
)
def test_hostile_xml_is_refused(text: str, reason: str) -> None:
    with pytest.raises(UnreadableScanError, match=reason):
        list(read_xml([text.encode()]))


def test_a_token_without_end_is_refused_before_it_fills_the_memory() -> None:
    def endless() -> Iterator[bytes]:
        yield b"<nmaprun args='"
        while True:
            yield b"a" * (1 << 16)

    tracemalloc.start()
    with pytest.raises(UnreadableScanError, match=f"more than {MOST_TOKEN >> 20} MB"):
        list(read_xml(endless()))
    assert tracemalloc.get_traced_memory()[1] < 4 * MOST_TOKEN
    tracemalloc.stop()


@pytest.mark.parametrize(
    "text",
    [
        '{"ip": "nowhere", "timestamp": "1", "ports": [{"port": 1}]}',
        '{"ip": "198.18.0.7", "timestamp": "1", "ports": [{"port": 70000}]}',
        '{"ip": "198.18.0.7", "timestamp": "one", "ports": [{"port": 1}]}',
        '{"ip": "198.18.0.7", "timestamp": "1", "ports": 5}',
        '{"ip": "198.18.0.7"}',
        "[1, 2]",
        "[" * 200_000 + "{",
        '{"a":' * 100_000,
        '{ip: "198.18.0.7", ports: []}',
        '{"ip": "198.18.0.7", "timestamp": "99999999999999999999", "ports": [{"port": 1}]}',
        '{"ip": "198.18.0.7", "timestamp": -5, "ports": [{"port": 1}]}',
        '{"ip": "198.18.0.7", "timestamp": ' + "9" * 5000 + ', "ports": [{"port": 1}]}',
    ],
)
def test_hostile_json_is_refused_with_the_records_number(text: str) -> None:
    with pytest.raises(UnreadableScanError, match=r"[Rr]ecord \d"):
        list(read_masscan([text.encode()]))


def test_memory_does_not_grow_with_the_file() -> None:

    def stream(count: int) -> Iterator[HostSeen]:
        ports = (PortSeen(22, Transport.TCP, "open"),)
        for number in range(count):
            yield HostSeen(f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", 1760000000000, "up", ports=ports)

    def peak(count: int) -> int:
        tracemalloc.start()
        for _ in looks(ScanInfo("masscan"), stream(count), WHAT):
            pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(2048) < peak(512) * 2


@pytest.mark.parametrize(("name", "scanner"), [("nmap", "nmap"), ("naabu", "naabu"), ("any", "any")])
def test_an_empty_file_is_refused_except_masscans(tmp_path: Path, name: str, scanner: Scanner) -> None:
    file = tmp_path / name
    file.touch()
    with pytest.raises(BadInput, match="empty"):
        list(items(file, scanner))
    assert list(items(file, "masscan")) == [ScanInfo("masscan"), Finish(True)]


def test_a_scan_that_was_interrupted_is_taken_only_on_request(tmp_path: Path) -> None:
    file = tmp_path / "scan.xml"
    file.write_text(nmap_xml(host("198.18.0.7", port(22, "open")) + "<host><sta", services="22").rpartition("<sta")[0])
    with pytest.raises(BadInput, match="--partial"):
        list(items(file, "nmap"))
    assert sum(isinstance(one, HostSeen) for one in items(file, "nmap", partial=True)) == 1


def test_a_file_of_another_scanner_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "scan.xml"
    file.write_text(MASSCAN_XML)
    with pytest.raises(BadInput, match="masscan wrote it, not nmap"):
        list(items(file, "nmap"))
    assert sum(isinstance(one, HostSeen) for one in items(file, "masscan")) == 3
    file.write_text("Nmap scan report")
    with pytest.raises(BadInput, match="does not begin as nmap writes it"):
        list(items(file, "nmap"))
