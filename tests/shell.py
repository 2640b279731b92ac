"""Runs many `driftline` commands quickly: one process imports them all, and forks for each command as if it had been started for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

SERVER = """
import json, os, sys, traceback
import infra.app.cli as cli
cli.build(None)
for line in sys.stdin:
    job = json.loads(line)
    pid = os.fork()
    if pid == 0:
        for number, name in ((0, os.devnull), (1, job["out"]), (2, job["err"])):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
        os.environ.clear()
        os.environ.update(job["environment"])
        os.chdir(job["folder"])
        sys.argv = ["driftline", *job["arguments"]]
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code or 0
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Shell:
    """Where commands are run."""

    folder: Path
    commands: IO[str]
    codes: IO[str]

    def run(self, *arguments: str, folder: Path, **over: str) -> Done:
        """Run a command in this folder; `over` is added to an environment without settings. Fails the test at a traceback."""
        out, err = self.folder / "out", self.folder / "err"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DRIFTLINE_")}
        job = {"arguments": arguments, "folder": str(folder), "environment": kept | over, "out": str(out), "err": str(err)}
        self.commands.write(json.dumps(job) + "\n")
        self.commands.flush()
        done = Done(int(self.codes.readline()), out.read_text(), err.read_text())
        assert "Traceback" not in done.err, done.err
        return done


@contextmanager
def running_shell(folder: Path) -> Iterator[Shell]:
    """A shell until the end of the block."""
    with subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Shell(folder, process.stdin, process.stdout)
