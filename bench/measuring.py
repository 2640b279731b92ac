"""What a command took: wall time, CPU of it and all that it started, memory of its largest process. And the CPU of one that runs."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Ran:
    """One run: seconds, CPU seconds (user and system), MB, what it said. `status` None: it was ended when its time was over."""

    wall: float
    cpu: float
    memory: float
    status: int | None
    output: str
    errors: str


def run(argv: Sequence[str], limit: float, environment: Mapping[str, str] | None = None) -> Ran:
    """Run a command for at most `limit` seconds.

    The kernel counts the memory of whoever starts a process as its own, up to the exec; so GNU time starts it, where it is installed.
    """
    with tempfile.TemporaryDirectory(prefix="driftline-bench-") as folder:
        peak = Path(folder) / "peak"
        timed = ["time", "-q", "-f", "%M", "-o", str(peak)] if shutil.which("time") else []
        begun = time.perf_counter()
        process = subprocess.Popen(
            [*timed, *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        status, used, output, errors = _ended(process, limit)
        wall = time.perf_counter() - begun
        largest = float(peak.read_text()) if peak.exists() and status is not None else float(used.ru_maxrss)
    return Ran(wall, used.ru_utime + used.ru_stime, largest / 1024, status, output, errors)


def _ended(process: subprocess.Popen[bytes], limit: float) -> tuple[int | None, resource.struct_rusage, str, str]:
    """Wait until a process ends, or end its session; read all that it says meanwhile."""
    assert process.stdout is not None
    assert process.stderr is not None
    said = {"output": b"", "errors": b""}
    late = threading.Event()

    def stop() -> None:
        late.set()
        os.killpg(process.pid, signal.SIGKILL)

    def read(name: str, descriptor: int) -> None:
        with open(descriptor, "rb", closefd=False) as pipe:
            said[name] = pipe.read()

    timer = threading.Timer(limit, stop)
    readers = [
        threading.Thread(target=read, args=(name, pipe.fileno())) for name, pipe in (("output", process.stdout), ("errors", process.stderr))
    ]
    for one in (timer, *readers):
        one.start()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # it is waited for already
    timer.cancel()
    for reader in readers:
        reader.join()
    process.stdout.close()
    process.stderr.close()
    return (
        None if late.is_set() else process.returncode,
        used,
        said["output"].decode(errors="replace"),
        said["errors"].decode(errors="replace"),
    )


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, with all its threads (proc_pid_stat(5), fields 14 and 15); 0 if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
