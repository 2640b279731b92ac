"""`driftline identify` as a user calls it: lines in, lines out, bad lines by number, exit codes."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from infra.app.lines import MOST_LINE

GREETING = b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n"
PAGE = b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\n\r\n<html><title>Grafana</title>"


def call(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "infra.app.cli", "identify", *arguments], input=given, capture_output=True, timeout=60, check=False
    )


def line(raw: bytes, **said: object) -> bytes:
    return json.dumps({"banner_b64": base64.b64encode(raw).decode(), **said}).encode() + b"\n"


def rows(result: subprocess.CompletedProcess[bytes]) -> list[dict[str, Any]]:
    return [json.loads(one) for one in result.stdout.splitlines()]


def test_each_line_is_answered_with_the_rule_that_says_so() -> None:
    given = (
        line(GREETING, protocol="ssh", port=22)
        + b"\n"
        + line(PAGE, port=8443)
        + line(b"nothing known", protocol="ssh")
        + line(b"9.18.19", port=53)
    )
    result = call("--json", given=given)
    assert result.returncode == 0, result.stderr
    first, page, unknown, dns = rows(result)
    assert first == {
        "line": 1,
        "protocol": "ssh",
        "port": 22,
        "service": "ssh",
        "vendor": "OpenBSD",
        "product": "OpenSSH",
        "version": "9.2p1 Debian 2+deb12u3",
        "extra": None,
        "cpe23": "cpe:2.3:a:openbsd:openssh:9.2:p1:*:*:*:*:*:*",
        "distribution": "Debian",
        "revision": "2+deb12u3",
        "rule": "openssh-debian",
    }
    assert (page["line"], page["rule"]) == (3, "grafana")
    assert (unknown["line"], unknown["product"], unknown["rule"]) == (4, None, None)
    assert dns["cpe23"] == "cpe:2.3:a:isc:bind:9.18.19:*:*:*:*:*:*:*"


def test_what_a_line_holds_besides_comes_back_with_its_answer_which_no_field_can_pose_as() -> None:
    (row,) = rows(call("--json", given=line(GREETING, protocol="ssh", id=7, at={"ip": "198.18.0.1"}, product="mine", line=99)))
    assert (row["id"], row["at"]) == (7, {"ip": "198.18.0.1"})
    assert row["product"] != "mine"
    assert row["line"] == 1
    assert "banner_b64" not in row


def test_a_bad_line_is_told_by_number_and_the_others_are_answered(tmp_path: Path) -> None:
    bad = [
        b"not json",
        b"{}",
        b'{"banner": "a", "banner_b64": "YQ=="}',
        b'{"banner_b64": "?"}',
        b'{"banner": "a", "port": 65536}',
        b'{"banner": "\\ud800"}',
        b"[]",
    ]
    file = tmp_path / "grabs.jsonl"
    file.write_bytes(b"\n".join([*bad, b"x" * (3 * MOST_LINE), line(GREETING)]))
    result = call(str(file), "--json")
    assert result.returncode == 2
    assert [row["line"] for row in rows(result)] == [9]
    told = result.stderr.decode().splitlines()
    assert [one.partition(":")[0] for one in told] == [*(f"line {number}" for number in range(1, 9)), "error"]
    assert "8 lines could not be read" in told[-1]


def test_a_table_for_people() -> None:
    result = call(given=line(b"SSH-2.0-\x1b[31mOpenSSH_7.4"))
    assert result.returncode == 0
    assert b"banners" in result.stdout
    assert b"\x1b" not in result.stdout


def test_what_is_not_there_is_bad_input(tmp_path: Path) -> None:
    assert call(str(tmp_path / "none")).returncode == 2
    assert call("--recog", str(tmp_path)).returncode == 2
    assert call("--check").returncode == 2


def test_recog_is_asked_where_the_own_rules_know_nothing(tmp_path: Path) -> None:
    param = '<param pos="0" name="service.product" value="theirs"/>'
    rule = f'<fingerprint pattern="^(Open|Acme)SSH"><example>AcmeSSH</example>{param}</fingerprint>'
    bad = '<fingerprint pattern="(?=x)"/>'
    (tmp_path / "ssh.xml").write_text(f'<fingerprints matches="ssh.banner">{rule}{bad}</fingerprints>')
    result = call("--recog", str(tmp_path), "--json", given=line(GREETING) + line(b"SSH-2.0-AcmeSSH"))
    assert [row["rule"] for row in rows(result)] == ["openssh-debian", "recog:ssh:1"]
    assert b"1 rule from" in result.stderr
    assert b"recog:ssh:2" in result.stderr
    assert call("--recog", str(tmp_path), "--check").returncode == 0
    (tmp_path / "ssh.xml").write_text(f'<fingerprints matches="ssh.banner">{rule.replace(">AcmeSSH<", ">Other<")}</fingerprints>')
    assert call("--recog", str(tmp_path), "--check").returncode == 1
