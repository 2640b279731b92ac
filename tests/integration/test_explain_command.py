"""`driftline explain` as a user calls it: a CVE from a file and from `intel`, a finding from `findings`, and what is neither."""

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
from schemas.events.intel import IntelRecord
from tests.findings import FINDING, AssessorBench, exposure

VECTOR = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"
RECORD = {
    "dataType": "CVE_RECORD",
    "dataVersion": "5.1",
    "cveMetadata": {"cveId": "CVE-2026-6387", "state": "PUBLISHED", "dateUpdated": "2026-03-01T00:00:00Z"},
    "containers": {
        "cna": {
            "title": "A flaw",
            "affected": [{"vendor": "Acme", "product": "Server", "defaultStatus": "affected"}],
            "metrics": [{"cvssV3_1": {"baseScore": 9.8, "vectorString": VECTOR}}],
        }
    },
}


def call(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "infra.app.cli", "explain", *arguments], capture_output=True, text=True, timeout=120, check=False, env=env
    )


def explained(*arguments: str, env: dict[str, str] | None = None) -> dict[str, Any]:
    result = call(*arguments, "--json", env=env)
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.fixture
def intel(tmp_path: Path) -> str:
    file = tmp_path / "cves.jsonl.gz"
    file.write_bytes(gzip.compress(json.dumps(RECORD).encode() + b"\n"))
    return str(file)


def test_a_cve_from_a_file_with_each_step(intel: str) -> None:
    found = explained("cve-2026-6387", "--intel", intel)
    steps = {one["rule"]: one["value"] for one in found["rules"]}
    assert steps["ssvc-exploitation"] == "unknown, counts as poc"
    assert (steps["ssvc-automatable"], steps["ssvc-technical-impact"]) == ("yes", "total")
    assert steps["ssvc-mission"] == "unknown, counts as medium"
    assert steps["ssvc-decision"].startswith("Track*: base 45 to 64.9")
    assert found["floor"] <= found["base_risk"] <= found["ceiling"]
    assert found["rank"] == "medium"
    assert all(one["source"] and one["input"] for one in found["rules"])


def test_where_it_stands_and_what_it_is_worth_count(intel: str) -> None:
    plain = explained("CVE-2026-6387", "--intel", intel)
    worse = explained("CVE-2026-6387", "--intel", intel, "--zone", "internet", "--criticality", "critical")
    assert {one["rule"]: one["value"] for one in worse["rules"]}["ssvc-mission"] == "high"
    assert worse["base_risk"] > plain["base_risk"]
    assert worse["rank"] == "critical"


def test_for_people(intel: str) -> None:
    result = call("CVE-2026-6387", "--intel", intel)
    assert all(word in result.stdout for word in ("A flaw", "ssvc-decision", "Track*", "floor 25, ceiling 84.9", "rank medium"))
    assert "Assumed: a service that is surely affected" in result.stderr
    assert "Known from cve as of 2026-03-01" in result.stderr


@pytest.mark.long
def test_what_is_neither_or_not_known(intel: str, tmp_path: Path) -> None:
    assert "neither a CVE's name nor a finding's id" in call("CVE-1").stderr
    assert "are for a CVE" in call("abcd", "--zone", "dmz").stderr
    assert "Nothing is known of CVE-2026-9999" in call("CVE-2026-9999", "--intel", intel).stderr
    (tmp_path / "broken").write_text("{}\n")
    for arguments in (("CVE-1",), ("CVE-2026-9999", "--intel", intel), ("CVE-2026-1111", "--intel", str(tmp_path / "broken"))):
        assert call(*arguments).returncode == 2


@pytest.mark.kafka
def test_from_the_topics(kafka: str, tmp_path: Path) -> None:
    prefix = f"explain{uuid4().hex[:8]}."
    settings = Settings(data_dir=tmp_path, kafka=KafkaSettings(bootstrap=kafka, prefix=prefix, partitions=1))
    own = {"DATA_DIR": str(tmp_path), "KAFKA__BOOTSTRAP": kafka, "KAFKA__PREFIX": prefix, "KAFKA__PARTITIONS": "1"}
    env = {**os.environ, **{f"DRIFTLINE_{name}": value for name, value in own.items()}}
    TopicAdmin(settings).apply()
    assert "Nothing is known of CVE-2026-1000" in call("CVE-2026-1000", env=env).stderr
    publisher = Publisher(settings, Codec())
    record = IntelRecord(cve="CVE-2026-1000", kev=True, as_of=datetime(2026, 3, 1, tzinfo=UTC))
    for one in (record, record.model_copy(update={"cvss": 9.8})):
        publisher.publish("intel", one.cve, one)
    finding = AssessorBench().one("exposures", exposure())
    publisher.publish("findings", finding.finding_id, finding)
    publisher.flush()
    assert "CVSS 9.8" in json.dumps(explained("CVE-2026-1000", env=env)["rules"])
    found = explained(FINDING[:8], env=env)
    assert (found["finding_id"], found["floor"], found["ceiling"], found["risk"], found["rank"]) == (FINDING, 30, 95, 50, "medium")
    row = {"rule": "redis-without-password", "input": "redis.auth=none", "value": "base 50", "source": "CWE-306"}
    assert found["rules"] == [row]
    assert "No finding has an id" in call("ffffffff", env=env).stderr
