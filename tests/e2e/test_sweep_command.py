"""`driftline sweep` as people run it: a process in a network namespace, real listeners behind a link, captures at the far end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from bench.measuring import Ran, run
from bench.sweep_capture import capturing
from bench.sweep_own import PROGRAM, Home, read
from bench.sweep_rig import Rig
from infra.core.settings import Settings
from processors.scan.scope.floors import Floors, save_floors
from processors.scan.scope.orders import frozen_networks
from schemas.events.grants import Grant
from schemas.signing import signed_bytes

NETWORK = "198.18.0.0/26"
OPEN = {(f"198.18.0.{host}", port) for host in range(0, 64, 3) for port in (80, 85, 99) if (host + port) % 2}
SECONDS = 60.0


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig(sorted(OPEN), (NETWORK,)) as made:
        yield made


def sweep(rig: Rig, home: Home, grant: Path, *more: str) -> Ran:
    ran, _ = rig.run([str(PROGRAM), "sweep", NETWORK, "-p", "80-99", "--grant", str(grant), *more], SECONDS, home.environment())
    return ran


@pytest.mark.namespace
def test_it_finds_just_what_is_open_and_says_what_it_may_have_missed(rig: Rig, home: Home) -> None:
    ran = sweep(rig, home, home.grant("whole"), "--json")
    assert (ran.status, ran.errors) == (0, "")
    found = read(ran.output)
    assert sorted(found.places) == sorted(OPEN)
    told = found.summary
    assert (told["open"], told["closed"], told["silent"], told["not_probed"]) == (len(OPEN), 64 * 20 - len(OPEN), 0, 0)
    assert told["asked"] == told["probed"] == 64 * 20
    assert 0.9 <= told["recall_low"] <= told["recall"] <= told["recall_high"] <= 1.0
    assert told["packets"] >= 64 * 20


@pytest.mark.namespace
def test_silence_is_told_as_silence(rig: Rig, home: Home) -> None:
    command = [str(PROGRAM), "sweep", "198.18.1.0-9", "198.18.0.1", "-p", "80", "--grant", str(home.grant("whole")), "--json"]
    ran, _ = rig.run(command, SECONDS, home.environment(connect_timeout=0.3))
    assert ran.status == 0
    told = read(ran.output).summary
    assert (told["hosts"], told["open"], told["closed"], told["silent"]) == (0, 0, 1, 10)


@pytest.mark.namespace
def test_people_get_a_table_and_a_line_of_the_whole(rig: Rig, home: Home) -> None:
    ran = sweep(rig, home, home.grant("whole"))
    lines = ran.output.splitlines()
    assert ran.status == 0
    first = next(line.split() for line in lines if line.startswith("198.18.0.0 "))
    assert first[1] == "85,99"
    assert "18 closed" in " ".join(first)
    assert lines[-1].startswith(f"{len(OPEN)} open ports on ")
    assert "estimated recall" in lines[-1]


@pytest.mark.namespace
def test_nothing_reaches_what_is_excluded_and_a_stray_packet_would_be_seen(rig: Rig, home: Home, tmp_path: Path) -> None:
    excluded = ("198.18.0.3/32", "198.18.0.32/27")
    grant = home.grant("less", exclusions=excluded)
    outside = " or ".join([*(f"dst net {network}" for network in excluded), f"not dst net {NETWORK}", "not tcp dst portrange 80-99"])
    with capturing(rig, outside, tmp_path) as strays, capturing(rig, "tcp", tmp_path / "all") as everything:
        ran = sweep(rig, home, grant, "--json")
    assert ran.status == 0
    found = read(ran.output)
    assert set(found.places) == {(address, port) for address, port in OPEN if int(address.split(".")[3]) < 32 and address != "198.18.0.3"}
    assert found.summary["excluded_addresses"] == 33
    assert len(everything) >= 31 * 20
    assert len(strays) == 0
    with capturing(rig, outside, tmp_path) as control:
        stray = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'stray', ('198.18.0.40', 80))"
        subprocess.run(rig.near("python3", "-c", stray), check=True)
    assert len(control) == 1


@contextmanager
def running(rig: Rig, home: Home, *more: str) -> Iterator[subprocess.Popen[str]]:
    """A slow sweep that has begun to send; it is killed in the end if it did not end by itself."""
    command = [str(PROGRAM), "sweep", NETWORK, "-p", "80-99", "--grant", str(home.grant("slow")), "--rate", "50", "--json", *more]
    rig.log()
    pipe = subprocess.PIPE
    with subprocess.Popen(rig.near(*command), env=home.environment(), text=True, stdout=pipe, stderr=pipe) as process:
        deadline, packets = time.monotonic() + SECONDS, 0
        while packets < 20:
            log = rig.log()
            packets += log[-1][1] - log[0][1] if log else 0
            assert time.monotonic() < deadline, "it did not begin"
            time.sleep(0.05)
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.namespace
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_with_what_was_found_until_then(rig: Rig, home: Home, number: signal.Signals, code: int) -> None:
    left = home.folder / "left"
    with running(rig, home, "--left", str(left)) as process:
        process.send_signal(number)
        output, _ = process.communicate(timeout=20)
    assert process.returncode == code
    first = read(output)
    told = first.summary
    assert told["stopped"] == "stopped"
    assert 0 < told["packets"] < 64 * 20
    assert 0 < told["probed"] < told["asked"] == told["probed"] + told["not_probed"] == 64 * 20
    command = [
        str(PROGRAM),
        "sweep",
        "--targets",
        str(left),
        "-p",
        "80-99",
        "--grant",
        str(home.grant("rest")),
        "--left",
        str(left),
        "--json",
    ]
    ran, _ = rig.run(command, SECONDS, home.environment())
    assert (ran.status, left.read_text()) == (0, ""), ran.errors
    assert {*first.places, *read(ran.output).places} == OPEN


@pytest.mark.namespace
def test_a_freeze_that_a_scanner_of_this_machine_hears_stops_it_within_two_seconds_and_no_second_one_runs_beside_it(
    rig: Rig, home: Home
) -> None:
    with running(rig, home) as process:
        second = sweep(rig, home, home.folder / "slow.json")
        assert (second.status, "Another sweep" in second.errors) == (4, True)
        save_floors(home.folder / "scanner-7" / "floors.json", Floors(frozen=frozen_networks(("::ffff:198.18.0.0/120",))))
        began = time.monotonic()
        rig.log()
        output, errors = process.communicate(timeout=20)
        log = rig.log()
    assert max((at for (_, before), (at, count) in pairwise(log) if count > before), default=began) - began < 2.0
    assert (process.returncode, "somebody froze" in errors) == (4, True)
    assert read(output).summary["not_probed"] > 0
    later = sweep(rig, home, home.folder / "slow.json")
    assert (later.status, "froze" in later.errors) == (4, True)


@pytest.mark.namespace
def test_a_link_that_goes_down_ends_it_with_1_and_what_was_found_until_then(home: Home) -> None:
    with Rig(sorted(OPEN), (NETWORK,)) as rig, running(rig, home) as process:
        subprocess.run(rig.near("ip", "link", "set", "scanner", "down"), check=True)
        output, errors = process.communicate(timeout=20)
    assert (process.returncode, "this machine refuses" in errors) == (1, True), errors
    told = read(output).summary
    assert 0 < told["probed"] < told["asked"]


@pytest.mark.long
@pytest.mark.namespace
def test_a_host_that_dies_of_it_halts_its_subnet_and_the_rest_is_probed(home: Home) -> None:
    dies, lives = "198.18.0.7", "198.18.1.7"
    rules = (
        f"table inet t {{\n chain i {{\n type filter hook prerouting priority 0;\n ip daddr {dies} quota over 6000 bytes drop\n }}\n }}\n"
    )
    with Rig([("0.0.0.0", port) for port in range(81, 1280, 10)], (NETWORK, f"{lives}/32"), rules) as rig:
        targets = ["198.18.0.7-9", lives]
        grant = home.grant("gentle", rate=200, per_host=40)
        ran, _ = rig.run([str(PROGRAM), "sweep", *targets, "-p", "80-1279", "--grant", str(grant), "--json"], 120, home.environment())
    assert (ran.status, "suspected_impact" in ran.errors) == (4, True), ran.errors
    told = read(ran.output).summary
    assert list(told["halted_subnets"]) == ["198.18.0.0/24"]
    assert dies in told["stopped"]
    assert 0 < told["not_probed"] < 3 * 1200, "the other subnet was probed to the end"
    assert (lives, 81) in read(ran.output).places


def refused(home: Home, grant: Path, *targets: str, ports: str = "80", more: tuple[str, ...] = ()) -> tuple[int | None, str]:
    """Exit code and words; none of these gets as far as a packet, and where one could, there is no link on which it might leave."""
    nowhere = ["unshare", "--net"] if os.geteuid() == 0 else []
    command = [str(PROGRAM), "sweep", *(targets or (NETWORK,)), "-p", ports, "--grant", str(grant), *more]
    ran = run([*nowhere, *command], SECONDS, home.environment())
    assert ran.output == ""
    return ran.status, ran.errors


def test_what_the_grant_does_not_cover_is_refused_with_exit_code_4(home: Home) -> None:
    grant = home.grant("some", rate=100, exclusions=("198.18.9.0/24",))
    for code, said in (
        refused(home, grant, "198.18.0.0/15"),
        refused(home, grant, "198.18.9.7"),
        refused(home, grant, more=("--rate", "101")),
        refused(home, home.grant("over", minutes=0.00001)),
    ):
        assert code == 4, said
        assert said.startswith("error: ")


def test_a_grant_that_is_not_trusted_here_is_refused_with_exit_code_4(home: Home, tmp_path: Path) -> None:
    path = home.grant("own")
    forged = json.loads(path.read_text()) | {"networks": ["198.19.0.0/16"]}
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(forged))
    code, said = refused(home, changed)
    assert (code, "does not fit" in said) == (4, True)
    (tmp_path / "elsewhere").mkdir()
    stranger = Home(tmp_path / "elsewhere").grant("own")
    code, said = refused(home, stranger)
    assert (code, "does not fit" in said) == (4, True)


def test_a_grant_that_this_machines_scanner_saw_revoked_is_refused(home: Home) -> None:
    path = home.grant("old")
    grant = Grant.model_validate_json(path.read_bytes())
    assert signed_bytes(grant)
    save_floors(Settings(data_dir=home.folder).data_dir / "scanner-0" / "floors.json", Floors({"old": grant.revision + 1}))
    code, said = refused(home, path)
    assert (code, "not newer" in said) == (4, True)
    assert datetime.now(UTC) < grant.expires_at


@pytest.mark.parametrize(
    ("targets", "ports", "said"),
    [
        (("www.example.org",), "80", "is a name"),
        (("2001:db8::/64",), "80", "/120"),
        (("198.18.0.300",), "80", "198.18.0.300"),
        ((NETWORK,), "0-9", "ports go from 1"),
        ((NETWORK,), "x", "not a port"),
    ],
)
def test_what_makes_no_sense_is_exit_code_2(home: Home, targets: tuple[str, ...], ports: str, said: str) -> None:
    code, words = refused(home, home.grant("any"), *targets, ports=ports)
    assert (code, said in words) == (2, True), words


@pytest.mark.namespace
def test_targets_come_from_a_file_too(rig: Rig, home: Home, tmp_path: Path) -> None:
    """A quarter of the network on the command line, two in the file, and an address that is in one of them again."""
    listed = tmp_path / "targets.txt"
    listed.write_text("# of the asset list\n198.18.0.16-198.18.0.31\n\n198.18.0.32/28  # printers\n198.18.0.40\n")
    words = ["198.18.0.0/28", "--targets", str(listed), "-p", "80-99", "--grant", str(home.grant("listed")), "--json"]
    ran, _ = rig.run([str(PROGRAM), "sweep", *words], SECONDS, home.environment())
    assert (ran.status, ran.errors) == (0, "")
    assert sorted(read(ran.output).places) == sorted(place for place in OPEN if int(place[0].rpartition(".")[2]) < 48)


def test_a_list_of_nothing_is_exit_code_2(home: Home, tmp_path: Path) -> None:
    empty = tmp_path / "targets.txt"
    empty.write_text("# later\n")
    grant = home.grant("any")
    for words, said in ((("--targets", str(empty)), "nothing to look at"), (("--targets", "/nonexistent"), "can't be read")):
        code, told = refused(home, grant, *words, ports="80")
        assert (code, said in told) == (2, True), told


def test_a_file_that_holds_no_grant_is_exit_code_2(home: Home, tmp_path: Path) -> None:
    for content in ("{}", "[]", "no JSON", "[" * 200_000):
        path = tmp_path / "nothing.json"
        path.write_text(content)
        assert refused(home, path)[0] == 2
    assert refused(home, tmp_path / "missing.json")[0] == 2
