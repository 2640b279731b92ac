"""Builds the lab's network, inside namespaces that a single process holds: when that process ends, the kernel removes all of it.

The holder is `cat`, process 1 of a new PID namespace, with a mount namespace whose own /run hides the lab's names and files. It
reads a pipe that only we hold. So even `kill -9` of us leaves no process, namespace, link or file behind.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import psutil

from infra.core.errors import MissingPrerequisite
from infra.local.lab.plan import Plan

FOLDER = "/run/lab"
TAG = "driftline-lab"
LAST = 4_000_000_000  # the metric of a route that counts when there is no other
RULES, TABLE = 31_990, 1980  # before the main table's rule, and a table of the lab's own
ENTER = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private")
MOUNTS = f"mount -t tmpfs -o mode=755,size=32m tmpfs /run; mount -t proc proc /proc; mkdir -m 755 /run/netns /run/sshd {FOLDER}; "
TRIAL = MOUNTS + "ip netns add trial; ip -n trial link add trial0 type bridge; ip -n trial link add trial1 type veth peer name trial2"


def script(plan: Plan) -> str:
    """The shell script that lays the network, to be run inside the holder's namespaces. No namespace gets a default route."""
    port, router = plan.interface, "ip -n router"
    lines = [
        "ip netns add router",
        f"ip link add {port} type veth peer name uplink netns router",
        f"{router} link add lan type bridge",
        f"ip link set dev {port} addrgenmode none",
        *(f"{router} link set dev {name} addrgenmode none" for name in ("uplink", "lan")),
        f"ip addr add {plan.link4(1)}/30 dev {port}",
        f"ip addr add {plan.link6(1)}/64 dev {port} nodad",
        f"{router} addr add {plan.link4(2)}/30 dev uplink",
        f"{router} addr add {plan.link6(2)}/64 dev uplink nodad",
        f"{router} addr add {plan.address4(1)}/24 dev lan",
        f"{router} addr add {plan.address6(1)}/64 dev lan nodad",
        # Forwarded packets need a link-local address to ask for neighbours from (RFC 4861, 7.2.2).
        *(f"{router} addr add fe80::1/64 dev {name} nodad" for name in ("uplink", "lan")),
        f"ip link set {port} up",
        *(f"{router} link set {name} up" for name in ("lo", "uplink", "lan")),
        # Time-exceeded and unreachable messages are not thinned out, so that a trace or a sweep sees the same thing each time.
        "ip netns exec router sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.icmp_ratelimit=0",
    ]
    for host in plan.hosts:
        inside = f"ip -n {host.name}"
        lines += [
            f"ip netns add {host.name}",
            f"{router} link add to-{host.name} type veth peer name eth0 netns {host.name}",
            f"{router} link set dev to-{host.name} addrgenmode none",
            f"{router} link set to-{host.name} master lan up",
            f"{inside} link set dev eth0 addrgenmode none",
            f"{inside} addr add {plan.address4(host.number)}/24 dev eth0",
            f"{inside} link set lo up",
            f"{inside} link set eth0 up",
            f"{inside} route add {plan.link4(0)}/30 via {plan.address4(1)}",
            f"ip netns exec {host.name} sysctl -qw net.ipv4.ip_unprivileged_port_start=0 net.ipv4.icmp_ratelimit=0",
        ]
        if host.ipv6:
            lines += [
                f"{inside} addr add {plan.address6(host.number)}/64 dev eth0 nodad",
                f"{inside} route add {plan.link6(0)}/64 via {plan.address6(1)}",
            ]
    lines += [f"{command} 2>&- || true" for command in fence("del", plan)] + fence("add", plan)
    lines.append(f"ip route add {plan.network4} via {plan.link4(2)}")
    lines.append(f"ip route add {plan.network6} via {plan.link6(2)} dev {port} table {TABLE}")
    return "\n".join(lines)


def fence(verb: str, plan: Plan) -> list[str]:
    """The commands that add or take away what stands behind the lab's routes: a scanner that still sends when they vanish sends nowhere.

    Without it this machine's default route would take such packets. A killed lab leaves the fence; `lab down` takes it away. For IPv6 it
    is made of rules: of routes that differ in metric Linux takes the next one already while the first one's gateway does not answer.
    """
    rules = [f"ip -6 rule {verb} to {plan.network6} priority {number}" for number in (RULES, RULES + 1)]
    routes = [f"ip route {verb} blackhole {network} metric {LAST}" for network in (plan.network4, f"{plan.link4(0)}/30")]
    return [f"{rules[0]} lookup {TABLE}", f"{rules[1]} blackhole", *routes] if verb == "add" else [*rules, *routes]


def remove_fence(plan: Plan) -> None:
    """Take the fence away, if it is there. Only once nobody sends to the lab any more."""
    for command in fence("del", plan):
        subprocess.run(command.split(), capture_output=True, timeout=10, check=False)


def trial() -> str | None:
    """Try everything the lab needs of the kernel, in throw-away namespaces. Returns the refusal's text, or None."""
    command = [*ENTER, "--net", "sh", "-euc", TRIAL]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no reason given"])[-1]


class Namespaces:
    """The running network. `holder` is the process id of process 1 in it, as seen from here."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        # A session of its own: Ctrl-C goes to the driver, which takes the lab down in order. TAG and the name are for `running`.
        self._outer = subprocess.Popen(
            [*ENTER, "sh", "-euc", MOUNTS + "echo ready; exec cat", TAG, plan.interface],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            assert self._outer.stdout is not None  # noqa: S101
            said = self._outer.stdout.readline().decode().strip()
            if said != "ready":
                raise MissingPrerequisite(
                    f"The kernel refused the lab's namespaces: {said or 'no reason given'}.", "Run `make demo` on loopback."
                )
            self.holder = psutil.Process(self._outer.pid).children()[0].pid
            self._lay()
        except BaseException:
            self.close()
            raise

    def _lay(self) -> None:
        done = subprocess.run(self.inside("sh", "-euc", script(self._plan)), capture_output=True, text=True, timeout=30, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise MissingPrerequisite(f"The lab's network could not be made: {reason}.", "Run `make lab-down`, then try again.")

    def inside(self, *argv: str) -> list[str]:
        """The command line that runs `argv` in the lab's mount and PID namespace (and this machine's network)."""
        return ["nsenter", "-t", str(self.holder), "-m", "-p", *argv]

    def at_host(self, host: str, *argv: str) -> list[str]:
        """The command line that runs `argv` on a host of the lab."""
        return self.inside("ip", "netns", "exec", host, *argv)

    @property
    def folder(self) -> Path:
        """FOLDER of the lab, as seen from here."""
        return Path(f"/proc/{self.holder}/root{FOLDER}")

    def close(self) -> None:
        """End the holder, and with it everything in the lab. May be called twice."""
        if self._outer.poll() is None:
            self._outer.kill()  # --kill-child ends process 1 with it
        self._outer.wait(timeout=10)
        for pipe in (self._outer.stdin, self._outer.stdout):
            if pipe is not None:
                pipe.close()
        remove_interface(self._plan.interface)
        remove_fence(self._plan)


def running(interface: str) -> psutil.Process | None:
    """The process that holds the lab of this name, whoever started it."""
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if command[:1] == ["unshare"] and command[-2:] == [TAG, interface]:
            return process
    return None


def end(holder: psutil.Process, seconds: float = 5.0) -> None:
    """Kill a lab's holder and wait until process 1 of the lab, and so the whole lab, has ended."""
    family = [holder, *holder.children()]
    holder.kill()
    deadline = time.monotonic() + seconds
    while any(_lives(one) for one in family) and time.monotonic() < deadline:
        time.sleep(0.02)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def remove_interface(name: str, seconds: float = 5.0) -> None:
    """Take away the lab's link on this machine and wait until it is gone, with its routes."""
    path = Path("/sys/class/net") / name
    deadline = time.monotonic() + seconds
    while os.path.lexists(path):
        subprocess.run(["ip", "link", "del", name], capture_output=True, timeout=10, check=False)
        if time.monotonic() > deadline:
            raise MissingPrerequisite(f"The interface {name} of an earlier lab can't be removed.", f"Try `ip link del {name}` as root.")
        time.sleep(0.02)
