"""Which Java runs the broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.core.errors import MissingPrerequisite
from infra.local.java import Java, find_java


def a_java(folder: Path, says: str) -> Path:
    executable = folder / "bin" / "java"
    executable.parent.mkdir(parents=True)
    executable.write_text(f"#!/bin/sh\necho '{says}' >&2\n")
    executable.chmod(0o755)
    return executable


@pytest.mark.parametrize(("version", "major"), [("25.0.2", 25), ("17", 17), ("21-ea", 21), ("1.8.0_392", 8)])
def test_the_major_version_is_read(version: str, major: int) -> None:
    assert Java(Path("java"), version).major == major


def test_the_packaged_java_runs_and_is_the_version_that_it_claims() -> None:
    java = find_java()
    assert java.has_aot
    assert find_java(java.executable).version == java.version


def test_a_home_folder_may_be_named(tmp_path: Path) -> None:
    executable = a_java(tmp_path, 'openjdk version "17.0.9" 2023-10-17')
    assert find_java(tmp_path) == Java(executable, "17.0.9")


def test_a_java_that_is_too_old_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingPrerequisite, match=r"needs Java 17 or newer.*is Java 11\.0\.21.*DRIFTLINE_BROKER__JAVA"):
        find_java(a_java(tmp_path, 'openjdk version "11.0.21" 2023-10-17'))


def test_a_java_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingPrerequisite, match=r"can't be run.*DRIFTLINE_BROKER__JAVA"):
        find_java(tmp_path / "nowhere")


def test_a_program_that_is_no_java_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingPrerequisite, match="does not answer like a Java"):
        find_java(a_java(tmp_path, "hello"))
