"""Makes the AOT cache (JEP 483, 514) that lets the broker start in about a second: classes already loaded and linked.

Made once for each Java, set of jars and set of JVM flags, by running a throwaway broker; kept in the cache folder. Without one the
broker starts all the same, in about three seconds.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path

import structlog

from infra.core.errors import DriftlineError
from infra.local.broker_config import HOST, JVM_FLAGS, BrokerPlan, Runtime, java_command, write_files
from infra.local.broker_owner import java_environment
from infra.local.broker_storage import format_storage
from infra.local.broker_wait import wait_until_ready
from infra.local.child import Child

_log = structlog.get_logger()

_TRAINING_SECONDS = 120


def cache_path(folder: Path, runtime: Runtime) -> Path:
    """The cache for this Java and these jars. The JVM itself refuses one whose jars changed their size or time."""
    digest = hashlib.sha256(f"{runtime.java} {JVM_FLAGS}".encode())
    for jar in runtime.jars:
        status = jar.stat()
        digest.update(f"{jar} {status.st_size} {status.st_mtime_ns}".encode())
    return folder / f"kafka-{digest.hexdigest()[:16]}.aot"


def ensure_cache(folder: Path, runtime: Runtime) -> Path | None:
    """The cache, made now (about ten seconds) if it is not there; None if this Java or this machine can't."""
    if not runtime.java.has_aot:
        return None
    path = cache_path(folder, runtime)
    if path.is_file():
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.is_file():
                _train(path, runtime)
    except (OSError, DriftlineError) as error:
        _log.warning("aot_cache_not_made", reason=str(error), effect="the broker starts more slowly")
        return None
    return path


def _train(path: Path, runtime: Runtime) -> None:
    _log.info("making_aot_cache", path=str(path), takes="about ten seconds, once")
    with tempfile.TemporaryDirectory(prefix="driftline-aot-", ignore_cleanup_errors=True) as scratch:
        port, controller_port = _free_ports(2)
        trial = BrokerPlan(Path(scratch), Path(scratch), port, controller_port, heap_mb=256)
        write_files(trial)
        format_storage(runtime, trial)
        draft = Path(scratch) / "kafka.aot"
        record = f"-XX:AOTCacheOutput={draft}"
        command = java_command(runtime, trial, "kafka.Kafka", trial.properties_file, flags=(record,))
        child = Child(command, trial.console_file, java_environment())
        try:
            wait_until_ready(child, trial, timeout=60)
            child.stop(_TRAINING_SECONDS)
        finally:
            child.kill()
        if not draft.is_file():
            raise DriftlineError("Java wrote none.", f"Look into {trial.console_file}.")
        # Other checkouts on this machine have their own; of those only the newest few are worth their space.
        for old in sorted(path.parent.glob("kafka-*.aot"), key=lambda one: one.stat().st_mtime)[:-3]:
            old.unlink(missing_ok=True)
        # Moved in two steps: the scratch folder may be on another file system, and a half cache must never have the name.
        shutil.move(draft, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in sockets]
