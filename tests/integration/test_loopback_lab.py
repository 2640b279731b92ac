"""The lab without root: its truth is what answers, and it leaves no process behind."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import pytest

from infra.core.errors import MissingPrerequisite
from infra.local.loopback_lab import ADDRESS, LoopbackLab

PORT = 25180


def connects(port: int) -> bool:
    try:
        with socket.create_connection((ADDRESS, port), timeout=2):
            return True
    except OSError:
        return False


def certificate(port: int) -> str:
    with socket.create_connection((ADDRESS, port), timeout=5) as plain:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(plain) as tls:
            return sha256(tls.getpeercert(binary_form=True) or b"").hexdigest()


def matches(lab: LoopbackLab) -> bool:
    truth = lab.truth()
    for one in truth:
        if one.certificate_sha256:
            assert certificate(one.port) == one.certificate_sha256
    return {port for port in lab.ports() if connects(port)} == {one.port for one in truth}


@pytest.mark.parametrize("bare", [False, True], ids=["as installed", "nothing installed"])
def test_the_truth_is_what_answers_before_and_after_the_change(tmp_path: Path, bare: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if bare:
        monkeypatch.setattr("infra.local.loopback_lab.missing", list)
    with LoopbackLab(tmp_path, PORT) as lab:
        before = {one.kind for one in lab.truth()}
        assert before >= {"http", "https", "ftp"}
        assert matches(lab)
        lab.change()
        assert {one.kind for one in lab.truth()} == before - {"ftp"} | {"telnet"}
        assert matches(lab)
        ports = lab.ports()
    assert not [port for port in ports if connects(port)]
    assert [path.name for path in (tmp_path / "loopback-lab").iterdir()] == ["keys"]


def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    with socket.create_server((ADDRESS, PORT + 20)), pytest.raises(MissingPrerequisite, match=f"Port {PORT + 20} .* in use"):
        LoopbackLab(tmp_path, PORT + 20).up()


SCRIPT = """
import sys
from pathlib import Path
from infra.local.loopback_lab import LoopbackLab
LoopbackLab(Path(sys.argv[1]), int(sys.argv[2])).up()
print("up", flush=True)
sys.stdin.read()
"""


def test_kill_9_leaves_no_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), str(PORT + 40)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        assert process.stdout is not None
        while process.stdout.readline().strip() != "up":
            assert process.poll() is None
        assert connects(PORT + 40)
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 5
    while connects(PORT + 40) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not connects(PORT + 40)
    with LoopbackLab(tmp_path, PORT + 40) as again:
        assert matches(again)
