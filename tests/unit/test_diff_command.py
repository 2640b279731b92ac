"""`driftline diff` of two files: each kind of difference, what is not compared, the forms it is told in, and the exit codes."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from infra.core.errors import BadInput
from producers.imports.comparing import compare
from producers.imports.nmap_xml import read_xml
from producers.imports.snapshots import snapshot_of, targets_of
from schemas.targeting import Span
from tests.commands import invoke
from tests.scanfiles import host, nmap_xml, port

Rows = list[tuple[str, str, str, str, str]]
LIST = "nmap -oX scan.xml 198.18.0.0/30"


def rows(was: str, now: str) -> Rows:
    sides = (snapshot_of("x", read_xml([text.encode()])) for text in (was, now))
    return [(one.host, one.port, one.what, one.was, one.now) for one in compare(*sides).differences]


def unseen(was: str, now: str) -> list[tuple[str, str, str]]:
    sides = (snapshot_of("x", read_xml([text.encode()])) for text in (was, now))
    return [(one.host, one.port, one.only) for one in compare(*sides).unseen]


def extra(state: str, ports: str, count: int, reason: str = "reset") -> str:
    why = f'<extrareasons reason="{reason}" count="{count}" proto="tcp" ports="{ports}"/>'
    return f'<extraports state="{state}" count="{count}">{why}</extraports>'


def test_a_port_that_opened_among_the_extra_ports_is_told() -> None:
    was = nmap_xml(host("198.18.0.1", port(22, "open") + extra("closed", "1-21,23-100", 99)), "1-100")
    now = nmap_xml(host("198.18.0.1", port(22, "open") + port(80, "open") + extra("closed", "1-21,23-79,81-100", 98)), "1-100")
    assert rows(was, now) == [("198.18.0.1", "tcp/80", "state", "closed", "open")]


def test_extra_ports_that_changed_their_state_are_one_row() -> None:
    was = nmap_xml(host("198.18.0.1", port(22, "open") + extra("closed", "1-21,23-100", 99)), "1-100")
    now = nmap_xml(host("198.18.0.1", port(22, "open") + extra("filtered", "1-21,23-100", 99, "no-response")), "1-100")
    assert rows(was, now) == [("198.18.0.1", "tcp/1-21,23-100", "state", "closed", "filtered")]


def test_extra_ports_of_mixed_states_differ_only_from_what_they_can_not_be() -> None:
    mixed = '<extraports state="closed" count="50"/><extraports state="filtered" count="49"/>'
    was = nmap_xml(host("198.18.0.1", port(22, "open") + port(80, "closed") + mixed.replace("49", "48")), "1-100")
    now = nmap_xml(host("198.18.0.1", port(23, "open") + mixed), "1-100")
    assert rows(was, now) == [
        ("198.18.0.1", "tcp/22", "state", "open", "closed or filtered"),
        ("198.18.0.1", "tcp/23", "state", "closed or filtered", "open"),
    ]


def test_a_range_that_was_scanned_in_one_only_is_not_compared() -> None:
    was = nmap_xml(host("198.18.0.1", port(22, "open") + port(8080, "open")), "22,8080")
    now = nmap_xml(host("198.18.0.1", port(22, "open") + port(443, "open")), "22,443")
    assert rows(was, now) == []
    assert unseen(was, now) == [("198.18.0.1", "tcp/443", "is"), ("198.18.0.1", "tcp/8080", "was")]


DOWN = '<host endtime="1760000000"><status state="down" reason="no-response"/><address addr="198.18.0.2" addrtype="ipv4"/></host>'


def test_a_host_that_was_down_in_both_is_no_difference_and_one_that_went_down_is() -> None:
    one = host("198.18.0.1", port(22, "open") + port(80, "open"))
    assert rows(nmap_xml(one + DOWN, "22,80", LIST, total=4), nmap_xml(one, "22,80", LIST, total=4)) == []
    gone = nmap_xml("", "22,80", LIST, total=4)
    assert rows(nmap_xml(one, "22,80", LIST, total=4), gone) == [("198.18.0.1", "", "host", "up (open: tcp/22,80)", "down")]


def test_a_host_of_which_it_is_not_known_whether_it_was_looked_at_is_not_gone() -> None:
    one = nmap_xml(host("198.18.0.1", port(22, "open")), "22", "nmap -iL list.txt", total=4)
    none = nmap_xml("", "22", "nmap -iL list.txt", total=4)
    assert rows(one, none) == []
    assert unseen(one, none) == [("198.18.0.1", "", "was")]
    other = nmap_xml("", "22", "nmap 198.18.9.0/30", total=4)
    assert rows(one, other) == []


def test_open_only_files_know_that_the_rest_is_not_open() -> None:
    args = "nmap --open 198.18.0.0/30"
    was = nmap_xml(host("198.18.0.1", port(22, "open") + port(80, "closed")), "22,80", LIST, total=4)
    assert rows(was, nmap_xml("", "22,80", args, total=4)) == [("198.18.0.1", "tcp/22", "state", "open", "closed or filtered")]


@pytest.mark.parametrize(
    ("args", "total", "found"),
    [
        ("nmap -p 22 -oX - 198.18.0.0/24", 256, 256),
        ("nmap -S 198.18.7.7 198.18.0.0/24", 256, 256),  # an address behind an option is no target
        ("nmap -n 198.18.0.1 198.18.0.2", 2, 2),  # behind a flag it is one
        ("nmap 198.18.0.0/24 www.example.org", 257, 0),  # what the name stood for is not known
        ("nmap --exclude 198.18.0.1 198.18.0.0/24", 255, 0),
        ("nmap -iL x 198.18.0.0/24", 256, 0),
        ("nmap 198.18.0.0/24", None, 0),
        ("nmap 'unclosed", 1, 0),
    ],
)
def test_targets_are_believed_only_if_their_number_is_right(args: str, total: int | None, found: int) -> None:
    assert sum(one.size for one in targets_of(args, total)) == found
    assert all(isinstance(one, Span) for one in targets_of(args, total))


def service(product: str, version: str = "", method: str = "probed") -> str:
    return f'<service name="http" product="{product}" version="{version}" method="{method}" conf="10"/>'


def test_services_are_compared_where_both_were_asked() -> None:
    old, new, guess = (
        nmap_xml(host("198.18.0.1", port(80, "open", inner=service(*one))), "80")
        for one in (("nginx", "1.22"), ("nginx", "1.24"), ("", "", "table"))
    )
    assert rows(old, new) == [("198.18.0.1", "tcp/80", "service", "http nginx 1.22", "http nginx 1.24")]
    assert rows(old, guess) == []


def test_scripts_are_compared_where_they_ran_in_both() -> None:
    title, key = '<script id="http-title" output="{}"/>', '<script id="ssl-cert" output="{}"/>'
    was = nmap_xml(host("198.18.0.1", port(80, "open", inner=title.format("a")) + port(81, "open", inner=title.format("b"))), "80-81")
    now = nmap_xml(host("198.18.0.1", port(80, "open", inner=title.format("c") + key.format("x")) + port(81, "open")), "80-81")
    assert rows(was, now) == [
        ("198.18.0.1", "tcp/80", "script http-title", "a", "c"),
        ("198.18.0.1", "tcp/81", "script http-title", "b", ""),
    ]


def test_names_are_compared_where_both_asked_and_their_order_means_nothing() -> None:
    def named(args: str, *names: str) -> str:
        return nmap_xml(host("198.18.0.1", port(22, "open"), names), "22", args)

    assert rows(named("nmap", "ns1.example.org"), named("nmap", "ns2.example.org")) == [
        ("198.18.0.1", "", "names", "ns1.example.org", "ns2.example.org")
    ]
    assert rows(named("nmap", "a", "b"), named("nmap", "b", "a")) == []
    assert rows(named("nmap", "a"), named("nmap -n")) == []


def test_a_host_with_two_entries_in_a_file_is_one_host() -> None:
    """ndiff pairs such entries in their order and tells of a host that came or went (nmap issue 591)."""

    def entry(name: str, number: int) -> str:
        return host("198.18.0.1", port(number, "open"), (name,))

    twice = nmap_xml(entry("ns1.example.org", 22) + entry("ns2.example.org", 80), "22,80")
    assert rows(twice, twice.replace("ns1", "ns3").replace("ns2", "ns1").replace("ns3", "ns2")) == []
    assert rows(twice, nmap_xml(entry("ns2.example.org", 22), "22,80")) == [
        ("198.18.0.1", "", "names", "ns1.example.org, ns2.example.org", "ns2.example.org")
    ]


def test_guesses_of_the_system_differ_only_if_they_have_none_in_common() -> None:
    def guessed(*names: str) -> str:
        matches = "".join(f'<osmatch name="{name}" accuracy="{90 + len(name) % 10}"/>' for name in names)
        return nmap_xml(host("198.18.0.1", port(22, "open"), inner=f"<os>{matches}</os>"), "22")

    assert rows(guessed("Linux 5", "Linux 6"), guessed("Linux 6", "Linux 4")) == []
    assert rows(guessed("Linux 5"), guessed()) == []
    assert rows(guessed("Linux 5"), guessed("BSD")) == [("198.18.0.1", "", "os", "Linux 5", "BSD")]


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    was, now = tmp_path / "a.xml", tmp_path / "b.xml"
    was.write_text(nmap_xml(host("198.18.0.1", port(22, "open") + port(80, "closed")), "22,80"))
    now.write_text(nmap_xml(host("198.18.0.1", port(22, "open") + port(80, "open", inner=service("nginx"))), "22,80"))
    return str(was), str(now)


def test_exit_codes_and_forms(files: tuple[str, str]) -> None:
    was, now = files
    same = invoke("diff", was, was)
    assert same.exit_code == 0
    assert "Nothing differs" in same.output
    table = invoke("diff", was, now)
    assert table.exit_code == 1
    assert all(word in table.output for word in ("198.18.0.1", "tcp/80", "closed", "open http"))
    text = invoke("diff", was, now, "--format", "text")
    assert text.exit_code == 1
    assert text.output.splitlines()[:4] == [f"--- {was}", f"+++ {now}", "@@ 198.18.0.1 tcp/80", "-state: closed"]
    told = invoke("diff", was, now, "--json")
    assert told.exit_code == 1
    said = json.loads(told.output)
    assert (said["equal"], [(one["was"], one["is"][:4]) for one in said["differences"]]) == (False, [("closed", "open")])
    assert invoke("diff", was, was, "--format", "text").output == ""
    assert json.loads(invoke("diff", was, was, "--json").output)["equal"] is True


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.xml"], "two sides"),
        (["a.xml", "a.xml", "a.xml"], "two sides"),
        (["a.xml", "missing.xml"], "can't be read"),
        (["a.xml", "a.xml", "--format", "xml"], "no format"),
        (["a.xml", "a.xml", "--ignore", "everything"], "can't be ignored"),
        (["a.xml", "--at", "yesterday"], "is not a time"),
        (["a.xml", "--at", "2199-01-01"], "in the future"),
        (["a.xml", "--at", "2026-01-01", "--zone", "nowhere"], "no zone"),
    ],
)
def test_bad_input_is_exit_code_2(files: tuple[str, str], arguments: list[str], words: str) -> None:
    folder = Path(files[0]).parent
    done = invoke("diff", *(str(folder / one) if one.endswith(".xml") else one for one in arguments))
    assert isinstance(done.exception, BadInput)
    assert words in str(done.exception)
    assert done.exception.exit_code == 2


def test_ignored_kinds_make_no_difference(tmp_path: Path) -> None:
    was, now = tmp_path / "a.xml", tmp_path / "b.xml"
    for file, stamp, version in ((was, "1", "1.22"), (now, "2", "1.24")):
        inner = service("nginx", version) + f'<script id="http-date" output="{stamp}"/>'
        file.write_text(nmap_xml(host("198.18.0.1", port(80, "open", inner=inner)), "80"))
    assert invoke("diff", str(was), str(now)).exit_code == 1
    assert invoke("diff", str(was), str(now), "--ignore", "script:http-date").exit_code == 1
    assert invoke("diff", str(was), str(now), "--ignore", "script:http-date", "--ignore", "service").exit_code == 0


def test_masscans_files_are_compared_where_the_user_says_what_was_scanned(tmp_path: Path) -> None:
    record = '{"ip": "%s", "timestamp": "1760000000", "ports": [{"port": %d, "proto": "tcp", "status": "open"}]},\n'
    was, now = tmp_path / "a.json", tmp_path / "b.json"
    was.write_text("[" + record % ("198.18.0.1", 22) + record % ("198.18.0.2", 22) + record % ("198.18.9.9", 22) + "]")
    now.write_text("[" + record % ("198.18.0.1", 22) + record % ("198.18.0.1", 9999) + "]")
    quiet = invoke("diff", str(was), str(now))
    assert quiet.exit_code == 0
    assert "not compared, since only one of the two looked there" in quiet.output
    assert "9999" in quiet.output
    stated = ("--targets", "198.18.0.0/24", "--ports", "1-1024")
    done = invoke("diff", str(was), str(now), *stated, "--json")
    said = json.loads(done.output)
    assert [(one["host"], one["port"], one["was"], one["is"]) for one in said["differences"]] == [
        ("198.18.0.2", "tcp/22", "open", "closed or filtered")
    ]
    assert [(one["host"], one["port"]) for one in said["not_compared"]] == [("198.18.0.1", "tcp/9999"), ("198.18.9.9", "")]
    for wrong in (stated[:2], stated[2:], ("--targets", "a.example.org", "--ports", "1"), ("--targets", "198.18.0.1", "--ports", "x")):
        assert isinstance(invoke("diff", str(was), str(now), *wrong).exception, BadInput)


@pytest.mark.skipif(shutil.which("nmap") is None, reason="nmap is not installed")
def test_two_scans_of_loopback_by_nmap_itself(tmp_path: Path) -> None:
    def scan(name: str, ports: str) -> str:
        file = tmp_path / name
        command = ["nmap", "-sT", "-n", "-Pn", "--unprivileged", "-p", ports, "-oX", str(file), "127.0.0.1"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        return str(file)

    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
        was = scan("a.xml", f"{number},1-20")
        again = scan("b.xml", f"{number},1-10")
    now = scan("c.xml", f"{number},1-20")
    assert invoke("diff", was, again).exit_code == 0
    done = invoke("diff", was, now, "--json")
    assert done.exit_code == 1
    (row,) = json.loads(done.output)["differences"]
    assert (row["port"], row["was"], row["is"]) == (f"tcp/{number}", "open", "closed")
