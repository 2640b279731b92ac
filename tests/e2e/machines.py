"""A machine of its own for the demo: a network, process and mount namespace in which it may use its usual names and ports."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.scanning import wait_until

# /sys shows the network that it was mounted in, so it is mounted anew. Process 1 only waits for its input to end.
BOOT = "mount -t sysfs sysfs /sys && ip link set lo up && echo ready && exec cat"
UNSHARE = ("unshare", "--net", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc", "--propagation", "private")


@dataclass(slots=True)
class Machine:
    """Where commands can be run, and what is left there."""

    first: int

    def inside(self, *argv: str) -> list[str]:
        """The command line that runs `argv` there."""
        return ["nsenter", "-t", str(self.first), "-n", "-p", "-m", *argv]

    def read(self, *argv: str) -> str:
        """What a short command prints there; empty if it fails."""
        return subprocess.run(self.inside(*argv), capture_output=True, text=True, timeout=20, check=False).stdout

    def start(self, argv: Sequence[str], environment: Mapping[str, str], folder: Path, name: str) -> Started:
        """Run a command there; its output goes to files of this name in the folder."""
        out, err = folder / f"{name}.out", folder / f"{name}.err"
        with out.open("wb") as output, err.open("wb") as errors:
            outer = subprocess.Popen(
                self.inside(*argv), env=dict(environment), cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=errors
            )
        wait_until(lambda: outer.poll() is not None or bool(psutil.Process(outer.pid).children()))
        return Started(outer, psutil.Process(outer.pid).children()[0], out, err)

    def leftovers(self) -> list[str]:
        """The processes and links there that a fresh machine does not have."""
        lines = [line.split(None, 2) for line in self.read("ps", "-eo", "pid,stat,args", "--no-headers").splitlines()]
        processes = [args for pid, state, args in lines if pid != "1" and state[0] != "Z" and not args.startswith("ps -eo")]
        links = [line.split(":")[1].strip() for line in self.read("ip", "-o", "link").splitlines()]
        return processes + [name for name in links if name.startswith("dl-")]


@dataclass(slots=True)
class Started:
    """A command that runs on a machine: `process` is itself, `outer` what entered the machine and hands on its exit code."""

    outer: subprocess.Popen[bytes]
    process: psutil.Process
    out: Path
    err: Path


@contextmanager
def machine() -> Iterator[Machine]:
    """A fresh machine with loopback and nothing else; all in it ends with the block."""
    outer = subprocess.Popen([*UNSHARE, "sh", "-c", BOOT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sys.stderr)
    assert outer.stdout is not None
    try:
        assert outer.stdout.readline() == b"ready\n"
        yield Machine(psutil.Process(outer.pid).children()[0].pid)
    finally:
        outer.kill()
        outer.communicate(timeout=20)
