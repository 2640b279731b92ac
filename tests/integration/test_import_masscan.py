"""What masscan itself writes is read: a scan over a link between two namespaces, neither with a default route."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from producers.imports.opening import Scanner, items
from producers.imports.scanfile import Finish, HostSeen, ScanInfo
from tests.namespaces import inside, ip, join, namespaces
from tests.scanning import is_open, wait_until

pytestmark = [
    pytest.mark.namespace,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(shutil.which("masscan") is None, reason="masscan is not installed"),
]
SCANNER, SERVICES, TARGET = "dlim-a", "dlim-b", "198.18.211.2"
SERVE = "import socket, sys, threading; s = socket.create_server(('0.0.0.0', 21701)); threading.Event().wait()"


@pytest.fixture(scope="module")
def network() -> Iterator[str]:
    """The services' MAC address."""
    with namespaces((SCANNER, SERVICES)):
        join((SCANNER, "dlima0"), (SERVICES, "dlimb0"))
        ip("-n", SCANNER, "addr", "add", "198.18.211.1/24", "dev", "dlima0")
        ip("-n", SERVICES, "addr", "add", f"{TARGET}/24", "dev", "dlimb0")
        with subprocess.Popen(["ip", "netns", "exec", SERVICES, "python3", "-c", SERVE]) as server:
            try:
                inside(SCANNER, lambda: wait_until(lambda: is_open(TARGET, 21701)))
                shown = subprocess.run(["ip", "-n", SERVICES, "-br", "link", "show", "dlimb0"], check=True, capture_output=True, text=True)
                yield shown.stdout.split()[2]
            finally:
                server.terminate()


@pytest.mark.parametrize(("option", "scanner"), [("-oX", "masscan"), ("-oJ", "any"), ("-oD", "any")])
def test_what_masscan_writes_is_read(network: str, tmp_path: Path, option: str, scanner: Scanner) -> None:
    file = tmp_path / "found"
    command = ["masscan", TARGET, "-p21700-21705", "--adapter", "dlima0", "--adapter-ip", "198.18.211.9", "--adapter-port", "40000"]
    command += ["--router-mac", network.replace(":", "-"), "--rate", "200", "--wait", "1", option, str(file)]
    done = subprocess.run(["ip", "netns", "exec", SCANNER, *command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    info, *hosts, end = items(file, scanner)
    assert isinstance(info, ScanInfo)
    assert info.scanner == "masscan"
    assert isinstance(end, Finish)
    assert end.success
    found = {(one.address, port.port, port.state) for one in hosts if isinstance(one, HostSeen) for port in one.ports}
    assert found == {(TARGET, 21701, "open")}, file.read_text()
    assert all(one.at for one in hosts if isinstance(one, HostSeen))
