"""`driftline match` as a user calls it: evidence or CPE names in, verdicts with reasons out, from a file of records or from `intel`."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from infra.core.settings import KafkaSettings, Settings
from infra.kafka.client import Publisher
from infra.kafka.topics import TopicAdmin
from schemas.codec import Codec
from schemas.events.intel import AffectedProduct, IntelRecord, VersionRange

OPENSSH = {
    "dataType": "CVE_RECORD",
    "dataVersion": "5.1",
    "cveMetadata": {"cveId": "CVE-2026-6387", "state": "PUBLISHED", "dateUpdated": "2026-03-01T00:00:00Z"},
    "containers": {
        "cna": {
            "affected": [
                {
                    "vendor": "OpenBSD",
                    "product": "OpenSSH",
                    "defaultStatus": "unaffected",
                    "versions": [{"version": "8.5p1", "lessThanOrEqual": "9.7p1", "status": "affected", "versionType": "custom"}],
                }
            ],
            "metrics": [{"cvssV3_1": {"baseScore": 8.1}}],
        }
    },
}
DEBIAN = {"protocol": "ssh", "banner": "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n", "id": 7}


def call(
    *arguments: str, given: bytes = b"", command: str = "match", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "infra.app.cli", command, *arguments], input=given, capture_output=True, timeout=120, check=False, env=env
    )


def rows(result: subprocess.CompletedProcess[bytes]) -> list[dict[str, Any]]:
    return [json.loads(one) for one in result.stdout.splitlines()]


@pytest.fixture
def intel(tmp_path: Path) -> str:
    file = tmp_path / "cves.jsonl.gz"
    file.write_bytes(gzip.compress(json.dumps(OPENSSH).encode() + b"\n"))
    return str(file)


def test_every_form_of_a_line(intel: str) -> None:
    cpe = "cpe:2.3:a:openbsd:openssh:9.6:p1:*:*:*:*:*:*"
    given = [json.dumps(one) for one in (DEBIAN, cpe, {"cpe23": cpe, "host": "a"}, {"cpes": ["cpe:/a:openbsd:openssh:9.8p1"]})]
    result = call("--json", "--intel", intel, given="\n".join([*given, "cpe:/a:openbsd:openssh:8.0p1"]).encode())
    assert result.returncode == 0, result.stderr
    found = rows(result)
    assert [(one["line"], one["verdict"]) for one in found] == [(1, "possible"), (2, "affected"), (3, "affected")]
    assert found[0]["id"] == 7
    assert found[2]["host"] == "a"
    assert found[0]["confirm"].startswith("Confirm on the host: dpkg -l 'openssh*'")
    assert found[1]["reason"] == "9.6p1 is in 8.5p1 ≤ version ≤ 9.7p1, which the CVE record says is affected"
    assert (found[1]["confidence"], found[1]["cvss"]) == (0.85, 8.1)


def test_all_and_one_cve_tell_why_not(intel: str) -> None:
    for options in (("--all",), ("--cve", "cve-2026-6387")):
        (row,) = rows(call("--json", "--intel", intel, *options, given=b'"cpe:/a:openbsd:openssh:9.8p1"'))
        assert row["verdict"] == "not affected"
        assert "9.8p1 is not in 8.5p1 ≤ version ≤ 9.7p1" in row["reason"]
    assert rows(call("--json", "--intel", intel, "--cve", "CVE-2026-1", given=b'"cpe:/a:openbsd:openssh:9.6p1"')) == []


def test_what_identify_writes_is_read(intel: str) -> None:
    identified = call("--json", command="identify", given=json.dumps(DEBIAN).encode())
    (row,) = rows(call("--json", "--intel", intel, given=identified.stdout))
    assert (row["verdict"], row["id"], row["version"]) == ("possible", 7, "9.2p1")


def test_bad_lines_are_told_and_the_others_answered(intel: str) -> None:
    given = b'{"nope": 1}\nnot json\n[1]\n' + b"[" * 5000 + b'\n"cpe:/a:openbsd:openssh:9.6p1"\n{"cpe23": null}\n'
    result = call("--json", "--intel", intel, given=given)
    assert result.returncode == 2
    assert [one["line"] for one in rows(result)] == [5]
    told = result.stderr.decode()
    assert all(f"line {number}:" in told for number in (1, 2, 3, 4))
    assert "1 line named no product" in told


@pytest.mark.long
def test_files_that_are_none(tmp_path: Path, intel: str) -> None:
    broken = tmp_path / "broken.jsonl"
    for content in (b"{}\n", b"not json\n", b"\x1f\x8bnonsense", json.dumps({"cveMetadata": {}, "containers": 1}).encode()):
        broken.write_bytes(content)
        result = call("--intel", str(broken), given=b"")
        assert (result.returncode, result.stdout) == (2, b""), result.stderr
    assert call("--intel", str(tmp_path / "absent")).returncode == 2
    assert call(str(tmp_path / "absent"), "--intel", intel).returncode == 2


def test_for_people(intel: str) -> None:
    result = call("--intel", intel, given=b'"cpe:/a:openbsd:openssh:9.6p1"')
    assert "CVE-2026-6387" in result.stdout.decode()
    assert "affected" in result.stdout.decode()


@pytest.mark.kafka
def test_records_come_from_the_topic(kafka: str, tmp_path: Path) -> None:
    prefix = f"match{uuid4().hex[:8]}."
    settings = Settings(data_dir=tmp_path, kafka=KafkaSettings(bootstrap=kafka, prefix=prefix, partitions=1))
    own = {"DATA_DIR": str(tmp_path), "KAFKA__BOOTSTRAP": kafka, "KAFKA__PREFIX": prefix, "KAFKA__PARTITIONS": "1"}
    env = {**os.environ, **{f"DRIFTLINE_{name}": value for name, value in own.items()}}
    TopicAdmin(settings).apply()
    empty = call(given=b'"cpe:/a:acme:server_x:1.0"', env=env)
    assert (empty.returncode, "The topic intel is empty" in empty.stderr.decode()) == (0, True)
    affected = (AffectedProduct(vendor="Acme", product="Server X", source="cna", versions=(VersionRange(less_than="2.0"),)),)
    record = IntelRecord(cve="CVE-2026-1", affected=affected, as_of=datetime(2026, 3, 1, tzinfo=UTC))
    publisher = Publisher(settings, Codec())
    publisher.publish("intel", record.cve, record)
    publisher.flush()
    (row,) = rows(call("--json", given=b'"cpe:/a:acme:server_x:1.0"', env=env))
    assert (row["cve"], row["verdict"]) == ("CVE-2026-1", "affected")
