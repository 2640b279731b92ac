"""The jars of the broker, and that none but the pinned ones is run."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from infra.core.errors import MissingPrerequisite
from infra.local.jars import BINDING, KAFKA, LOCK, Jar, fetch_jars, find_jars, read_lock


def pinned(content: bytes) -> Jar:
    return Jar(hashlib.sha256(content).hexdigest(), len(content), "org.example:thing:1.0")


def test_the_lock_pins_kafka_and_its_log_binding_by_hash_and_names_no_registry() -> None:
    jars = read_lock()
    assert {KAFKA, BINDING} <= {jar.coordinate for jar in jars}
    assert len(jars) == len({jar.file_name for jar in jars}) == 46
    assert all(re.fullmatch(r"[0-9a-f]{64}", jar.sha256) and jar.size > 0 for jar in jars)
    assert not re.search(r"https?:|maven\.org|repo1", LOCK.read_text())


def test_one_version_of_kafka_is_pinned() -> None:
    versions = {jar.coordinate.split(":")[2] for jar in read_lock() if jar.coordinate.startswith("org.apache.kafka:")}
    assert versions == {KAFKA.split(":")[2]}


def test_a_cached_jar_as_pinned_is_used_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_network(monkeypatch)
    jar = pinned(b"content")
    path = tmp_path / jar.cached_path
    path.parent.mkdir(parents=True)
    path.write_bytes(b"content")
    assert fetch_jars(tmp_path, [jar]) == [path]


@pytest.mark.parametrize("present", [None, b"Content", b"cont"], ids=["absent", "changed", "cut off"])
def test_a_jar_that_is_not_as_pinned_is_fetched_anew_and_without_a_network_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, present: bytes | None
) -> None:
    without_network(monkeypatch)
    jar = pinned(b"content")
    if present is not None:
        (tmp_path / jar.cached_path).parent.mkdir(parents=True)
        (tmp_path / jar.cached_path).write_bytes(present)
    with pytest.raises(MissingPrerequisite, match=r"can't be downloaded.*DRIFTLINE_BROKER__JARS"):
        fetch_jars(tmp_path, [jar])


def test_a_named_folder_without_the_jars_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingPrerequisite, match=r"lacks 46 of Kafka's 46 jars.*python -m infra\.local\.jars"):
        find_jars(tmp_path)


def test_a_named_folder_with_another_content_is_refused(tmp_path: Path) -> None:
    for jar in read_lock():
        (tmp_path / jar.file_name).write_bytes(b"not Kafka")
    with pytest.raises(MissingPrerequisite, match="SHA-256 differs from the lock"):
        find_jars(tmp_path)


def without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request goes to a proxy on a port where nobody listens."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
