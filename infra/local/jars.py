"""Fetches Kafka's jars once into a cache folder, and checks each against the SHA-256 in `kafka_jars.lock`.

`python -m infra.local.jars` does it with a progress display, so that a set-up step can; `python -m infra.local.jars lock` writes
the lock anew after KAFKA or BINDING was changed. Downloads go through jgo, which speaks the layout of Maven repositories.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import platformdirs

from infra.core.errors import MissingPrerequisite
from infra.core.settings import load_settings

KAFKA_VERSION = "4.3.0"
KAFKA = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"
# Kafka logs through slf4j 1.7 and brings log4j-core, not the binding between them. Resolved with Kafka it would pull in
# kafka-clients 3.9.1, so it is taken alone, in the version of that log4j-core.
BINDING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"
LOCK = Path(__file__).with_name("kafka_jars.lock")

Progress = Callable[[int, int], None]
"""Told the bytes fetched so far and the bytes to fetch."""


@dataclass(frozen=True, slots=True)
class Jar:
    """A jar as the lock pins it: its SHA-256 in hex, its size in bytes, its Maven coordinate group:artifact:version."""

    sha256: str
    size: int
    coordinate: str

    @property
    def file_name(self) -> str:
        """As Maven repositories name it."""
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"

    @property
    def cached_path(self) -> Path:
        """Where Maven's layout puts it, relative to the cache folder."""
        group, artifact, version = self.coordinate.split(":")
        return Path(*group.split("."), artifact, version, self.file_name)


def read_lock(path: Path = LOCK) -> list[Jar]:
    """The jars that are pinned, in the order of the class path."""
    rows = (line.split() for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return [Jar(sha256, int(size), coordinate) for sha256, size, coordinate in rows]


def cache_folder() -> Path:
    """Where everything of the broker that can be fetched or made again is kept."""
    return Path(platformdirs.user_cache_dir("driftline")) / "broker"


def find_jars(named: Path | None = None, progress: Progress | None = None) -> list[Path]:
    """The class path of the broker: from the folder `named` by the operator, else from the cache, fetching what is missing.

    Raises MissingPrerequisite if a jar is absent and can't be fetched, or is not the one that the lock pins.
    """
    jars = read_lock()
    return _from_folder(named, jars) if named else fetch_jars(cache_folder() / "jars", jars, progress)


def missing_bytes(named: Path | None = None) -> int:
    """How much `find_jars` would download."""
    return 0 if named else sum(jar.size for jar in read_lock() if not (cache_folder() / "jars" / jar.cached_path).is_file())


def fetch_jars(folder: Path, jars: list[Jar], progress: Progress | None = None) -> list[Path]:
    """Bring `jars` into `folder` and return their paths. A file there that is not as pinned is fetched anew."""
    paths = [folder / jar.cached_path for jar in jars]
    absent = [jar for jar, path in zip(jars, paths, strict=True) if not _is_pinned(path, jar)]
    if absent:
        with _alone(folder):
            # Another process may have fetched them while this one waited.
            absent = [jar for jar in absent if not _is_pinned(folder / jar.cached_path, jar)]
            _download(folder, absent, progress or (lambda _done, _total: None))
    return paths


def _from_folder(folder: Path, jars: list[Jar]) -> list[Path]:
    present = {path.name: path for path in folder.rglob("*.jar")}
    missing = [jar.file_name for jar in jars if jar.file_name not in present]
    if missing:
        raise MissingPrerequisite(
            f"The folder {folder} (DRIFTLINE_BROKER__JARS) lacks {len(missing)} of Kafka's {len(jars)} jars: {', '.join(missing[:5])}.",
            "Copy them there from a machine where `python -m infra.local.jars` ran.",
        )
    for jar in jars:
        if not _is_pinned(present[jar.file_name], jar):
            raise _not_pinned(jar, present[jar.file_name])
    return [present[jar.file_name] for jar in jars]


def _is_pinned(path: Path, jar: Jar) -> bool:
    try:
        if path.stat().st_size != jar.size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256
    except OSError:
        return False


def _not_pinned(jar: Jar, path: Path) -> MissingPrerequisite:
    return MissingPrerequisite(
        f"{path} is not the {jar.coordinate} that Driftline was tested with: its SHA-256 differs from the lock.",
        "It may be damaged or replaced: delete it, fetch it again from a source that you trust, and start again.",
    )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time fetches into the folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    except PermissionError as error:
        raise MissingPrerequisite(f"The cache folder {folder} can't be written: {error.strerror}.", "Set XDG_CACHE_HOME.") from None


def _download(folder: Path, jars: list[Jar], progress: Progress) -> None:
    from jgo.maven import MavenContext, PythonResolver

    total, done, lock = sum(jar.size for jar in jars), 0, Lock()

    @contextmanager
    def counted(_name: str, _size: int) -> Iterator[Callable[[int], None]]:
        def more(count: int) -> None:
            nonlocal done
            with lock:
                done += count
                progress(done, total)

        yield more

    context = MavenContext(resolver=PythonResolver(progress_callback=counted), repo_cache=folder, timeout=30)

    def fetch(jar: Jar) -> None:
        path = folder / jar.cached_path
        path.unlink(missing_ok=True)
        group, artifact, version = jar.coordinate.split(":")
        context.project(group, artifact).at_version(version).artifact().resolve()
        if not _is_pinned(path, jar):
            raise _not_pinned(jar, path)

    try:
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(fetch, jars))
    except (OSError, RuntimeError) as error:
        raise _download_failed(error, folder, total) from error


def _download_failed(error: Exception, folder: Path, size: int) -> MissingPrerequisite:
    number = error.errno if isinstance(error, OSError) else None
    if number in {errno.ENOSPC, errno.EDQUOT}:
        return MissingPrerequisite(f"The disk is full: Kafka's jars need {size / 1e6:.0f} MB in {folder}.", "Free some space.")
    if number in {errno.EACCES, errno.EROFS, errno.EPERM}:
        return MissingPrerequisite(f"The cache folder {folder} can't be written.", "Set XDG_CACHE_HOME to a folder that can.")
    return MissingPrerequisite(
        f"Kafka's jars ({size / 1e6:.0f} MB) can't be downloaded: {type(error).__name__}.",
        "Check the network and proxy, or copy the jars from another machine and name their folder with DRIFTLINE_BROKER__JARS.",
    )


def write_lock(folder: Path) -> None:
    """Resolve KAFKA and BINDING anew, trusting what the network gives now, and write the lock. For developers."""
    from jgo.maven import MavenContext

    context = MavenContext(repo_cache=folder, timeout=30)
    inputs, others = context.resolver.resolve([context.create_dependency(KAFKA)])
    artifacts = [one.artifact for one in [*inputs, *others] if one.scope in {None, "compile", "runtime"}]
    artifacts.append(context.create_dependency(BINDING).artifact)
    rows = []
    for artifact in sorted(artifacts, key=str):
        content = Path(artifact.resolve()).read_bytes()
        coordinate = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
        rows.append(f"{hashlib.sha256(content).hexdigest()} {len(content)} {coordinate}\n")
    LOCK.write_text("# SHA-256, bytes, Maven coordinate. Written by `python -m infra.local.jars lock`.\n" + "".join(rows))


def main() -> None:
    """Fetch what is missing, saying first how much."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn
    from rich.progress import Progress as Bar

    if sys.argv[1:] == ["lock"]:
        return write_lock(cache_folder() / "jars")
    named = load_settings().broker.jars
    console, size = Console(stderr=True), missing_bytes(named)
    if not size:
        find_jars(named)
        return None
    console.print(f"Kafka {KAFKA_VERSION}: {size / 1e6:.0f} MB to download into {named or cache_folder()}")
    with Bar("{task.description}", BarColumn(), DownloadColumn(), console=console) as bar:
        task = bar.add_task("Kafka", total=size)
        find_jars(named, lambda done, total: bar.update(task, completed=done, total=total))
    return None


if __name__ == "__main__":
    main()
