"""The installer behind `make demo` and `make test`: Debian packages, virtual environment, Kafka's jars; each only where missing.

`python3 -m infra.app.bootstrap demo|test` runs under the system's Python before anything is installed, so it needs the standard
library only and must parse under old Pythons. All it says goes to standard error. It never calls sudo.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.local import packages

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
STAMP = VENV / "driftline.json"
LOCKS = {"demo": ROOT / "requirements.lock", "test": ROOT / "requirements-dev.lock"}
TOOLS = ROOT / "infra" / "deploy" / "tools.lock"
JARS = ROOT / "infra" / "local" / "jars.py"
SIZES = {"demo": "about 430 MB to download, 1.2 GB on disk", "test": "about 480 MB to download, 1.3 GB on disk"}
POLICY = Path("/usr/sbin/policy-rc.d")
POLICY_TEXT = "#!/bin/sh\n# driftline: no daemon is started while its package is installed\nexit 101\n"
OFFLINE = """Without a network: on a machine that has one, with the same Python, run
    python3 -m pip download --require-hashes -d wheels -r infra/deploy/tools.lock
    python3 -m pip download --require-hashes -d wheels -r {lock}
then copy the folder here and run make again with WHEELS=wheels. Kafka's jars: name a folder in DRIFTLINE_BROKER__JARS.
Behind a company mirror: set PIP_INDEX_URL, or index-url in pip.conf."""


class Failure(Exception):
    """What went wrong and what to do about it, for a person."""


def say(text: str) -> None:
    """One line for the user."""
    print(text, file=sys.stderr, flush=True)


def run(*argv: object) -> bool:
    """Run a command with its output on standard error. Returns whether it succeeded."""
    environment = {
        **packages.environment(),
        "DEBIAN_FRONTEND": "noninteractive",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "UV_SYSTEM_CERTS": "true",
    }
    return subprocess.run([str(part) for part in argv], stdout=sys.stderr, cwd=ROOT, env=environment, check=False).returncode == 0


def fingerprint(kind: str) -> str:
    """Changes with everything that decides what the virtual environment holds."""
    parts = [LOCKS[kind].read_bytes(), TOOLS.read_bytes(), (ROOT / "pyproject.toml").read_bytes(), str(ROOT).encode(), sys.version.encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def installed() -> dict[str, str]:
    """What the last successful run installed: a fingerprint by name."""
    try:
        return dict(json.loads(STAMP.read_text()))
    except (OSError, ValueError):
        return {}


def is_current(kind: str) -> bool:
    """Whether the virtual environment is there and right. The one for tests holds all that the demo needs."""
    have = installed()
    return any(have.get(one) == fingerprint(one) for one in (kind, "test"))


def needed_packages(kind: str) -> list[str]:
    """The Debian packages to install, in a stable order."""
    wanted = {**packages.PROBES, **packages.LAB, **(packages.TESTS if kind == "test" else {})}
    names = packages.missing(wanted)
    if not VENV.exists() and importlib.util.find_spec("ensurepip") is None:
        names.append(f"python{sys.version_info[0]}.{sys.version_info[1]}-venv")
    return names


def able(names: list[str]) -> bool:
    """Whether these packages can be installed here. Says why not, and what the user can do."""
    if os.geteuid() == 0 and shutil.which("apt-get"):
        return bool(names)
    if names:
        reason = "there is no apt-get here" if os.geteuid() == 0 else "this is not run as root"
        say(f"Missing Debian packages: {' '.join(names)}. They are not installed, for {reason}; what needs them is left out.")
        say(f"To have them, as root: apt-get install --no-install-recommends {' '.join(names)}")
    return False


def announce(kind: str, names: list[str], environment: bool, jars: bool) -> None:
    """Say what will be installed and downloaded, and how much, before any of it happens."""
    if names:
        cost = packages.cost(names)
        if cost is None:
            say("Reading Debian's package lists …")
            run("apt-get", "update", "-q")
            cost = packages.cost(names)
        size = f"{cost.packages} packages in all, {cost.download} to download, {cost.disk} on disk" if cost else "size unknown"
        say(f"Debian packages to install: {' '.join(names)} ({size}). Their daemons are neither started nor enabled.")
    if environment:
        size = f"{SIZES[kind]}; less what caches hold"
        say(f"Python packages to install into {VENV.name}: {LOCKS[kind].name}, each checked against its hash ({size}).")
    if jars:
        say("Apache Kafka's jars to fetch: about 45 MB unless they are in the cache, each checked against its hash.")


def install_packages(names: list[str], kind: str) -> None:
    """Install Debian packages, and leave their daemons stopped and disabled. Raises Failure for tests, which need them all."""
    install = ("apt-get", "install", "-y", "-q", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120", *names)
    with no_daemons():
        # Old package lists name files that are gone: read them again, once.
        done = run(*install) or (run("apt-get", "update", "-q") and run(*install))
    for name in set(names) & set(packages.DAEMONS):
        for command in (("update-rc.d", packages.DAEMONS[name], "disable"), ("systemctl", "disable", packages.DAEMONS[name])):
            if shutil.which(command[0]):
                subprocess.run(command, capture_output=True, check=False, timeout=60)
    if not done and kind == "test":
        raise Failure("apt-get could not install the packages (its reason is above). Install them, then run make again.")
    if not done:
        say("apt-get could not install them; going on without.")


@contextmanager
def no_daemons() -> Iterator[None]:
    """Keep Debian from starting daemons meanwhile (policy-rc.d). One that a killed run of ours left is taken away too."""
    ours = not POLICY.exists() or POLICY.read_text() == POLICY_TEXT
    try:
        if ours:
            POLICY.write_text(POLICY_TEXT)
            POLICY.chmod(0o755)
        yield
    finally:
        if ours:
            POLICY.unlink()


def install_environment(kind: str) -> None:
    """Make or complete .venv: every file checked against the lock's hashes, then this tree itself, editable."""
    lock = LOCKS[kind]
    python = VENV / "bin" / "python"
    works = python.exists() and subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0
    if not works and not run(sys.executable, "-m", "venv", "--clear", VENV):
        raise Failure(f"{sys.executable} can't make a virtual environment. On Debian, as root: apt-get install python3-venv")
    wheels = os.environ.get("WHEELS")
    source = ("--no-index", "--find-links", Path(wheels).resolve()) if wheels else ()
    if not run(python, "-m", "pip", "install", "-q", "--require-hashes", *source, "-r", TOOLS):
        raise Failure("The Python package index can't be reached, or does not have what the lock names.\n" + OFFLINE.format(lock=lock.name))
    uv = (VENV / "bin" / "uv", "pip", "install", "--python", python)
    pip = (python, "-m", "pip", "install", "-q")
    for tool in (uv, pip):  # uv is several times faster; pip knows pip.conf
        # Without isolation what has to be built is built with the tools above, whose hashes were checked.
        if run(*tool, "--require-hashes", "--no-build-isolation", *source, "-r", lock):
            break
        say("That did not work." if tool is pip else "That did not work; trying again with pip …")
    else:
        raise Failure(f"What {lock.name} names could not be installed.\n" + OFFLINE.format(lock=lock.name))
    if not run(*pip, "--no-deps", "--no-build-isolation", "--no-index", "--editable", ROOT):
        raise Failure("Driftline itself could not be installed into .venv. Delete the folder .venv and run make again.")
    remember(kind, fingerprint(kind))


def jars_version() -> str:
    """Changes with the list of jars and with what fetches them."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(JARS.parent.glob("*jars*")) if path.is_file())).hexdigest()


def install_jars() -> None:
    """Fetch Kafka's jars and warm its start up. The broker does both itself where it must, so a failure here is not the end."""
    python = VENV / "bin" / "python"
    if run(python, "-m", "infra.local.jars") and run(python, "-m", "infra.local.broker"):
        remember("jars", jars_version())
    else:
        say("Kafka's jars could not be fetched; they are tried again when the broker starts.")


def remember(name: str, value: str) -> None:
    """Write into the stamp that this is done."""
    STAMP.write_text(json.dumps({**installed(), name: value}))


def main(kind: str) -> None:
    """Install what is missing for `kind`. Raises Failure."""
    if sys.version_info < (3, 11):  # noqa: UP036
        found = ".".join(str(part) for part in sys.version_info[:2])
        raise Failure(f"Driftline needs Python 3.11 or newer, and this is {found}. Name another one: make {kind} PYTHON=python3.12")
    names = needed_packages(kind)
    names = names if able(names) else []
    environment, jars = not is_current(kind), installed().get("jars") != jars_version()
    announce(kind, names, environment, jars)
    if names:
        install_packages(names, kind)
    if environment:
        install_environment(kind)
    if jars:
        install_jars()


def interrupt(number: int, frame: object) -> None:
    """Turn a signal into an exit that runs the clean-up on the way."""
    del frame
    sys.exit(128 + number)


if __name__ == "__main__":
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, interrupt)
    if sys.argv[1:] not in (["demo"], ["test"]):
        sys.exit("usage: python3 -m infra.app.bootstrap demo|test")
    try:
        main(sys.argv[1])
    except Failure as failure:
        say(str(failure))
        sys.exit(3)
