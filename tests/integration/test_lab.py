"""The lab is real, its truth is right, and it leaves nothing behind: not after `down`, not after `kill -9`."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import psutil
import pytest

from infra.core.errors import MissingPrerequisite
from infra.local.lab.lab import Lab
from infra.local.lab.truth import ServiceTruth

pytestmark = pytest.mark.namespace
DAEMONS = {"nginx", "sshd", "redis-server", "memcached", "vsftpd", "mosquitto", "unshare", "nsenter"}


@pytest.fixture(autouse=True)
def _able() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    one = Lab(tmp_path, "dlt-", 211)
    one.up()
    try:
        yield one
    finally:
        one.down()


def connects(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=2):
            return True
    except OSError:
        return False


def certificate(address: str, port: int) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((address, port), timeout=2) as plain, context.wrap_socket(plain) as tls:
        found = tls.getpeercert(binary_form=True)
        assert found
        return sha256(found).hexdigest()


def reachable(lab: Lab) -> set[tuple[str, int]]:
    ports = (21, 22, 23, 80, 443, 1883, 6379, 8080, 11211)
    six = [address for address in lab.targets() if "/" not in address]
    return {(address, port) for address in [*lab.hosts(), *six] for port in ports if connects(address, port)}


def matches(lab: Lab) -> bool:
    truth = lab.truth()
    for one in truth:
        if one.certificate_sha256:
            assert certificate(one.address, one.port) == one.certificate_sha256
    return reachable(lab) == {(one.address, one.port) for one in truth}


def leftovers(folder: Path, lab: Lab) -> list[str]:
    """Everything that this lab put on the machine: its link, routes, processes and files other than its keys. A fence may stay."""
    found = [f"link {lab.interface}"] if (Path("/sys/class/net") / lab.interface).exists() else []
    routes = subprocess.run(["ip", "route"], capture_output=True, text=True, check=True, timeout=10).stdout
    found += [line for line in routes.splitlines() if lab.plan.network4 in line and not line.startswith("blackhole")]
    mine = str(folder)
    for process in psutil.process_iter(["name", "cmdline", "environ"]):
        if process.info["name"] in DAEMONS and mine in (process.info["environ"] or {}).get("DRIFTLINE_TEST_LAB", ""):
            found.append(f"process {process.info['name']}")
    return found + [str(path) for path in (folder / "lab").glob("*") if path.name != "keys"]


def wait_for_nothing(folder: Path, lab: Lab) -> list[str]:
    deadline = time.monotonic() + 5
    while (found := leftovers(folder, lab)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def test_the_truth_is_what_answers_before_and_after_the_change(lab: Lab) -> None:
    before = set(lab.truth())
    assert matches(lab)
    lab.change()
    changed = set(lab.truth())
    assert matches(lab)
    assert {(one.kind, one.port) for one in changed - before} == {("redis", 6379), ("https", 443)}
    assert {(one.kind, one.port) for one in before - changed} == {("memcached", 11211), ("https", 443)}
    assert {one.kind for one in before} == {"http", "https", "ssh", "redis", "memcached", "ftp", "mqtt"}


@pytest.mark.slow
def test_versions_are_those_that_nmap_sees(lab: Lab) -> None:
    if not shutil.which("nmap"):
        pytest.skip("nmap is not installed")
    for kind in ("ssh", "http", "ftp", "redis"):
        one = next(row for row in lab.truth() if row.kind == kind)
        command = ["nmap", "-n", "-Pn", "-sT", "-sV", "-p", str(one.port), one.address]
        output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        assert f"{one.product} {one.version}" in output


def test_a_trace_shows_the_router_before_the_host(lab: Lab) -> None:
    host = lab.plan.address4(2)
    output = subprocess.run(["traceroute", "-n", "-q", "1", host], capture_output=True, text=True, check=True, timeout=30).stdout
    assert [line.split()[1] for line in output.splitlines()[1:]] == [lab.plan.link4(2), host]


def test_no_host_has_a_way_out(lab: Lab) -> None:
    assert lab._namespaces is not None
    for host in ("router", *(one.name for one in lab.plan.hosts)):
        for family in ("-4", "-6"):
            shown = subprocess.run(
                lab._namespaces.at_host(host, "ip", family, "route", "show", "default"),
                capture_output=True,
                text=True,
                check=True,
                timeout=10,
            )
            assert shown.stdout == ""


def test_keys_and_certificates_survive_and_nothing_else(tmp_path: Path) -> None:
    def certificates(truth: list[ServiceTruth]) -> list[str | None]:
        return [one.certificate_sha256 for one in truth]

    lab = Lab(tmp_path, "dlt-", 212)
    with lab:
        first = certificates(lab.truth())
        lab.change()
    lab.down()
    assert wait_for_nothing(tmp_path, lab) == []
    with Lab(tmp_path, "dlt-", 212) as again:
        assert certificates(again.truth()) == first


SCRIPT = """
import sys
from pathlib import Path
from infra.local.lab.lab import Lab
lab = Lab(Path(sys.argv[1]), "dlt-", 213)
lab.up()
print("up", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A lab that another process runs."""
    environment = {**os.environ, "DRIFTLINE_TEST_LAB": str(tmp_path)}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            while process.stdout.readline().strip() != "up":
                assert process.poll() is None
            yield process
        finally:
            process.kill()


def test_kill_9_leaves_no_process_link_or_namespace_and_the_next_run_starts(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    lab = Lab(tmp_path, "dlt-", 213)
    assert {line.split()[0] for line in leftovers(tmp_path, lab)} >= {"link", "process"}
    other.send_signal(signal.SIGKILL)
    other.wait(timeout=10)
    assert wait_for_nothing(tmp_path, lab) == []
    with lab:
        assert connects(lab.plan.address4(4), 22)
    assert wait_for_nothing(tmp_path, lab) == []


def test_a_lab_that_runs_is_not_taken_over_but_can_be_cleaned_from_outside(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    lab = Lab(tmp_path, "dlt-", 213)
    with pytest.raises(MissingPrerequisite, match=f"started by process {other.pid}"):
        lab.up()
    assert connects(lab.plan.address4(4), 22)
    lab.clean()
    lab.clean()
    assert wait_for_nothing(tmp_path, lab) == []


def test_what_is_sent_to_a_lab_that_was_killed_goes_nowhere(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    """This machine may have a default route: it must not take what a scanner still sends."""
    other.kill()
    other.wait()
    gone = Lab(tmp_path, "dlt-", 213)
    assert wait_for_nothing(tmp_path, gone) == []
    for network in gone.networks():
        way = subprocess.run(["ip", "route", "get", network.split("/")[0]], capture_output=True, text=True, check=False)
        assert way.returncode != 0, way.stdout
    gone.clean()
    assert "blackhole" not in subprocess.run(["ip", "route", "show", gone.networks()[0]], capture_output=True, text=True, check=True).stdout
