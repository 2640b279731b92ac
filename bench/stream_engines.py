"""The engines that `make bench-stream` compares, and what each needs: an environment for quix-streams, Maven for Kafka Streams."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from bench.stream_job import CHANGE_HEADER, schemas
from bench.stream_rig import ROOT
from infra.core.errors import MissingPrerequisite

CACHE = Path(platformdirs.user_cache_dir("driftline")) / "bench"
QUIX = "quixstreams==3.28.1"
STEP_NEEDS = ("fastavro", "pydantic", "pydantic-settings", "platformdirs", "rfc8785", "google-re2", "structlog")
JAVA_OPTIONS = ("-XX:+UseSerialGC", "-Xmx1g")


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine. `share`: it gets one of so many parts of records and assets, since it is so much slower.

    `argv` begins its command and raises MissingPrerequisite where it can't be had; `changelog` names the topic of its state, `key_of` reads
    a key of it (None: not an asset's).
    """

    name: str
    module: str
    share: int
    argv: Callable[[], list[str]]
    changelog: str
    key_of: Callable[[bytes], str | None]
    makes_changelog: bool = False

    def command(self, arguments: list[str]) -> list[str]:
        """The whole command."""
        return [*self.argv(), *arguments, *((*schemas(), CHANGE_HEADER.hex()) if self.name == "Kafka Streams" else ())]


def _python(module: str) -> Callable[[], list[str]]:
    return lambda: [sys.executable, "-m", module]


def _quix() -> list[str]:
    """quix-streams pins an older confluent-kafka than ours: an environment of its own in the cache folder, made once by uv."""
    python = CACHE / QUIX / "bin" / "python"
    if not python.exists():
        uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
        try:
            for step in (["venv", "-q", str(python.parents[1])], ["pip", "install", "-q", "--python", str(python), QUIX, *STEP_NEEDS]):
                subprocess.run([uv, *step], check=True, capture_output=True, timeout=300)
        except (OSError, subprocess.SubprocessError) as error:
            shutil.rmtree(python.parents[1], ignore_errors=True)
            raise MissingPrerequisite(f"quix-streams can't be installed ({error}).", "It needs uv and a package registry.") from None
    return [str(python), "-m"]


def _java() -> list[str]:
    """Kafka Streams: built by Maven into the cache folder, once for each state of its source."""
    java, maven = shutil.which("java"), shutil.which("mvn")
    if not (java and maven and shutil.which("javac")):
        raise MissingPrerequisite("Kafka Streams can't be built.", "It needs a JDK ≥ 17 and Maven.")
    project, target = ROOT / "bench" / "streams-java", CACHE / "streams-java"
    newest = max(file.stat().st_mtime for file in project.rglob("*") if file.is_file())
    jar = target / "streams-java-1.jar"
    if not jar.exists() or jar.stat().st_mtime < newest:
        step = [maven, "-q", "-B", "-f", str(project / "pom.xml"), f"-Dfolder={target}", "package", "dependency:copy-dependencies"]
        try:
            subprocess.run([*step, f"-DoutputDirectory={target / 'lib'}"], check=True, capture_output=True, timeout=600)
        except (OSError, subprocess.SubprocessError) as error:
            raise MissingPrerequisite(f"Kafka Streams can't be built ({error}).", "Maven needs a repository that it can reach.") from None
    return [java, *JAVA_OPTIONS, "-cp", f"{jar}:{target}/lib/*", "bench.Job"]


def _plain(key: bytes) -> str | None:
    return None if key.startswith(b"\0") else key.decode()


def _before_name(key: bytes) -> str | None:
    """quix-streams writes `"<message key>"|"<name>"`."""
    return key.decode().rpartition("|")[0].strip('"') or None


OURS = Engine("ours", "bench.stream_ours", 1, _python("bench.stream_ours"), "{run}.state", _plain, makes_changelog=True)
STREAMS = Engine("Kafka Streams", "bench.Job", 1, _java, "{run}-ports-changelog", _plain)
QUIX_STREAMS = Engine(
    "quix-streams", "bench.stream_quix", 4, lambda: [*_quix(), "bench.stream_quix"], "changelog__{run}--{input}--default", _before_name
)
FAUST = Engine("Faust", "bench.stream_faust", 20, _python("bench.stream_faust"), "{run}.state", _plain, makes_changelog=True)
ENGINES = (OURS, STREAMS, QUIX_STREAMS, FAUST)
