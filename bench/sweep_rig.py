"""The ground of the sweep benchmark: two network namespaces and the link between them, which end with the processes that hold them.

The scanning side has 198.18.0.0/15 behind one gateway and no default route; the target answers as the kernel for every address that
it is told to have. Neither namespace has a name, so that even `kill -9` of the benchmark leaves nothing: both holders read a pipe
that only we hold, and the kernel takes namespaces and link away with the last process in them. Needs root.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from bench.measuring import Ran, run
from infra.core.errors import MissingPrerequisite

SCANNER, GATEWAY = "198.19.0.1", "198.19.0.2"
GROUND = "198.18.0.0/16"
# SYN cookies always: a listener that keeps a table of half-open connections would be the limit of what can be measured.
TARGET_SETTINGS = ("net.ipv4.tcp_syncookies=2", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.target.rp_filter=0")
Log = list[tuple[float, int]]
"""When the count of packets that the far end received was seen to have moved: monotonic seconds and the count. The last is of the end."""


class Rig:
    """A link whose far end answers on these (address, port); "0.0.0.0" stands for all it has.

    It has the addresses of `networks`, and resets what it does not answer on; all others are silent. `rules`: an nftables script for it.
    Entering raises MissingPrerequisite where this machine can't make it.
    """

    def __init__(self, listen: Iterable[tuple[str, int]], networks: Sequence[str] = (GROUND,), rules: str = "") -> None:
        self._listen, self._networks, self._rules = list(listen), networks, rules
        self._stack = ExitStack()

    def __enter__(self) -> Rig:
        if os.geteuid() != 0:
            raise MissingPrerequisite("Network namespaces need root.", "Run this as root.")
        try:
            self._holder = self._hold("cat")
            self._far = self._hold(sys.executable, "-m", "bench.sweep_responder")
            self._lay()
            if self._ask(json.dumps({"listen": self._listen})) != "ready":
                raise MissingPrerequisite("The answering side did not start.", "See what it said above.")
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def near(self, *argv: str) -> list[str]:
        """The command line that runs `argv` on the scanning side; it dies with us."""
        return ["setpriv", "--pdeathsig", "KILL", "nsenter", "-t", str(self._holder.pid), "-n", *argv]

    def far(self, *argv: str) -> list[str]:
        """The command line that runs `argv` on the answering side; it dies with us."""
        return ["setpriv", "--pdeathsig", "KILL", "nsenter", "-t", str(self._far.pid), "-n", *argv]

    def run(self, argv: Sequence[str], limit: float, environment: Mapping[str, str] | None = None) -> tuple[Ran, Log]:
        """Run a tool on the scanning side, for at most `limit` seconds; also what came over the link meanwhile, and when it ended."""
        self.log()
        ran, ended = run(self.near(*argv), limit, environment), time.monotonic()
        log = self.log()
        return ran, [*log, (ended, log[-1][1])] if log else []

    def log(self) -> Log:
        """What came over the link since the last call."""
        return [(at, count) for at, count in json.loads(self._ask("log"))]

    @property
    def gateway_mac(self) -> str:
        """The link-layer address that all probes are sent to."""
        shown = subprocess.run(self.far("ip", "-j", "link", "show", "target"), check=True, capture_output=True, text=True)
        return str(json.loads(shown.stdout)[0]["address"])

    def _hold(self, *argv: str) -> subprocess.Popen[str]:
        """A process in a network namespace of its own; its input is ours, and it ends when that does."""
        root = Path(__file__).parents[1]
        process = subprocess.Popen(
            ["unshare", "--net", *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True, cwd=root
        )
        self._stack.callback(_end, process)
        ours, theirs = Path("/proc/self/ns/net"), Path(f"/proc/{process.pid}/ns/net")
        deadline = time.monotonic() + 10
        while process.poll() is None and theirs.readlink() == ours.readlink() and time.monotonic() < deadline:
            time.sleep(0.005)
        if process.poll() is not None:
            raise MissingPrerequisite("The kernel gave no network namespace.", "It takes root, and a kernel with network namespaces.")
        return process

    def _lay(self) -> None:
        """Lay the link, the routes on both sides, and the rules. The gateway is a known neighbour: nobody's first probes wait for ARP."""
        near, far = str(self._holder.pid), str(self._far.pid)
        _do("ip", "link", "add", "scanner", "netns", near, "type", "veth", "peer", "name", "target", "netns", far)
        there = [
            "ip link set lo up",
            f"ip addr add {GATEWAY}/24 dev target",
            "ip link set target up",
            *(f"ip route add local {network} dev lo" for network in self._networks),
            *(f"sysctl -qw {setting}" for setting in TARGET_SETTINGS),
        ]
        here = [
            "ip link set lo up",
            f"ip addr add {SCANNER}/24 broadcast + dev scanner",
            "ip link set scanner up",
            f"ip neigh replace {GATEWAY} lladdr {self.gateway_mac} dev scanner nud permanent",
            f"ip route add {GROUND} via {GATEWAY}",
        ]
        _do(*self.far("sh", "-euc", "\n".join(there)))
        _do(*self.near("sh", "-euc", "\n".join(here)))
        if self._rules:
            _do(*self.far("nft", "-f", "-"), script=self._rules)

    def _ask(self, line: str) -> str:
        """Say a line to the answering side, and hear its answer."""
        assert self._far.stdin is not None
        assert self._far.stdout is not None
        self._far.stdin.write(line + "\n")
        self._far.stdin.flush()
        return self._far.stdout.readline().strip()


def sending(log: Log) -> tuple[int, float, float]:
    """How many packets came, in how many seconds from the first to the last, and how long after that the tool ended."""
    if len(log) < 3:
        return 0, 0.0, 0.0
    return log[-2][1] - log[0][1], log[-2][0] - log[0][0], log[-1][0] - log[-2][0]


def _do(*argv: str, script: str = "") -> None:
    done = subprocess.run(argv, input=script, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[0]
        raise MissingPrerequisite(f"The rig could not be laid: {reason}.", "It takes root, iproute2, util-linux and nftables.")


def _end(process: subprocess.Popen[str]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
