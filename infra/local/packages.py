"""Which Debian packages Driftline uses, which of them are missing, and what installing them takes.

Needs the standard library only: the installer reads it before the virtual environment exists.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

# package → a program that only it brings
PROBES = {"nmap": "nmap", "hping3": "hping3", "traceroute": "traceroute", "tcptraceroute": "tcptraceroute.mt"}
LAB = {
    "iproute2": "ip",
    "util-linux": "nsenter",
    "procps": "sysctl",
    "nginx": "nginx",
    "openssh-server": "sshd",
    "openssh-client": "ssh",
    "redis-server": "redis-server",
    "memcached": "memcached",
    "vsftpd": "vsftpd",
    "mosquitto": "mosquitto",
}
TESTS = {"kcat": "kcat", "tcpdump": "tcpdump", "nftables": "nft"}
# package → its system service, which the installer neither starts nor leaves enabled
DAEMONS = {
    "nginx": "nginx",
    "openssh-server": "ssh",
    "redis-server": "redis-server",
    "memcached": "memcached",
    "vsftpd": "vsftpd",
    "mosquitto": "mosquitto",
}


@dataclass(frozen=True)
class Cost:
    """What apt would do: packages with all that they pull in, and its own words for download and disk space."""

    packages: int
    download: str
    disk: str


def environment() -> dict[str, str]:
    """Our environment with the folders in PATH where Debian keeps daemons, which an ordinary user's PATH lacks."""
    return {**os.environ, "PATH": os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/local/sbin:/usr/sbin:/sbin"}


def missing(wanted: Mapping[str, str]) -> list[str]:
    """The packages whose program is not found, in the order given."""
    path = environment()["PATH"]
    return [package for package, program in wanted.items() if shutil.which(program, path=path) is None]


def cost(packages: Iterable[str]) -> Cost | None:
    """Ask apt what installing would take, without doing it. None where apt does not know (no apt, no package lists)."""
    command = ["apt-get", "install", "--assume-no", "--no-install-recommends", *packages]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env={**environment(), "LC_ALL": "C"}, timeout=120, check=False)
    except OSError:
        return None
    return parse_cost(done.stdout)


def parse_cost(output: str) -> Cost | None:
    """Read `apt-get install --assume-no`."""
    count = re.search(r"(\d+) newly installed", output)
    download = re.search(r"Need to get ([\d.,]+ [kMG]?B)", output)
    disk = re.search(r"After this operation, ([\d.,]+ [kMG]?B) of additional", output)
    if not count or not download:
        return None
    return Cost(int(count.group(1)), download.group(1), disk.group(1) if disk else "no")
