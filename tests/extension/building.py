"""Builds wheels and throw-away environments, with what is at hand: uv where there is one, pip otherwise."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path


def build_wheel(source: Path, folder: Path) -> Path:
    """A wheel of a source tree. Built without isolation where this environment holds the build tools (that of `make test` does)."""
    alone = [] if importlib.util.find_spec("hatchling") is None else ["--no-isolation"]
    _run([sys.executable, "-m", "build", "--wheel", *alone, "--outdir", str(folder), str(source)])
    (wheel,) = folder.glob("*.whl")
    return wheel


def empty_environment(folder: Path, layered: bool = False) -> Path:
    """A fresh virtual environment's interpreter. `layered`: it sees what is installed here too, behind its own packages."""
    _run([sys.executable, "-m", "venv", "--without-pip", str(folder)])
    if layered:
        (site,) = folder.glob("lib/python*/site-packages")
        (site / "parent.pth").write_text(f"import site; site.addsitedir({sysconfig.get_paths()['purelib']!r})\n")
    return folder / "bin" / "python"


def install(python: Path, *arguments: str) -> None:
    """`pip install` into another environment."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if uv:
        _run([uv, "pip", "install", "--quiet", "--python", str(python), *arguments])
    else:
        _run([sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", *arguments])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
