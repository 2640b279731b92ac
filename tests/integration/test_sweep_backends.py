"""Every way out finds the same, sends only what is covered, and asks only neighbours that are covered; seen at the far end of a link.

Scanner (dls-a) — target (dls-b), which has addresses on the link and a network behind it, answered by the kernel.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from infra.core.settings import ScannerSettings
from processors.scan.meter import Meter
from processors.scan.scope.mask import column_of_texts
from processors.scan.sweep.backends import FAST, open_first, wanted_of
from processors.scan.sweep.ledger import Ledger, PortState
from processors.scan.sweep.routes import Route, on_link, route_to, routes_of, text_of
from processors.scan.sweep.syn import sweep_syn
from processors.scan.sweep.transmit import two_cores
from processors.scan.unit import UnitReport
from schemas.portset import expand
from tests.namespaces import capturing, inside, ip, join, namespaces
from tests.scanning import NotingGate, is_open, make_unit, scan, wait_until

pytestmark = [pytest.mark.namespace, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

SCANNER, TARGET = "dls-a", "dls-b"
BACKENDS = ["af_xdp", "tx_ring", "sendmmsg", "raw"]
NEAR = {4: ["198.18.213.10", "198.18.213.11"], 6: ["2001:db8:213::10", "2001:db8:213::11"]}
FAR = {4: ["198.18.214.7", "198.18.214.8"], 6: ["2001:db8:214::7", "2001:db8:214::8"]}
SERVICE, EVERYTHING = 21800, "198.18.214.66"


@pytest.fixture(scope="module")
def link(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("link")
    with namespaces((SCANNER, TARGET)), ExitStack() as stack:
        join((SCANNER, "dlsa0"), (TARGET, "dlsb0"))
        ip("-n", SCANNER, "addr", "add", "198.18.213.1/24", "dev", "dlsa0")
        ip("-n", SCANNER, "addr", "add", "2001:db8:213::1/64", "dev", "dlsa0", "nodad")
        for address in ("198.18.213.2/24", *(f"{one}/24" for one in NEAR[4])):
            ip("-n", TARGET, "addr", "add", address, "dev", "dlsb0")
        for address in ("2001:db8:213::2/64", *(f"{one}/64" for one in NEAR[6])):
            ip("-n", TARGET, "addr", "add", address, "dev", "dlsb0", "nodad")
        ip("-n", SCANNER, "route", "add", "198.18.214.0/24", "via", "198.18.213.2")
        ip("-n", SCANNER, "route", "add", "2001:db8:214::/64", "via", "2001:db8:213::2")
        ip("-n", TARGET, "route", "add", "local", "198.18.214.0/24", "dev", "lo")
        ip("-n", TARGET, "route", "add", "local", "2001:db8:214::/64", "dev", "lo")
        rules = (
            f"table ip everything {{ chain in {{ type nat hook prerouting priority -100; "
            f"ip daddr {EVERYTHING} tcp dport 1-20000 redirect to :{SERVICE}; }}; }}"
        )
        subprocess.run(["ip", "netns", "exec", TARGET, "nft", rules], check=True)
        redis = [
            "redis-server",
            "--bind",
            "0.0.0.0",
            "::",
            "--port",
            str(SERVICE),
            "--protected-mode",
            "no",
            "--save",
            "",
            "--dir",
            str(folder),
        ]
        process = subprocess.Popen(["ip", "netns", "exec", TARGET, *redis], stdout=subprocess.DEVNULL)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        for address in (*NEAR[4], *NEAR[6], *FAR[4], *FAR[6]):
            inside(SCANNER, lambda address=address: wait_until(lambda: is_open(address, SERVICE)))  # type: ignore[misc]
        yield


def settings_of(backend: str, **more: object) -> ScannerSettings:
    return ScannerSettings.model_validate({"connect_timeout": 0.8, "backend": backend, **more})


def sweep_inside(addresses: list[str], ports: str, settings: ScannerSettings, gate: NotingGate | None = None) -> UnitReport:
    return inside(SCANNER, lambda: scan(make_unit(addresses, ports), gate, settings, "syn"))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("where", [NEAR, FAR], ids=["neighbours", "behind-a-gateway"])
def test_every_way_out_finds_the_same_and_sends_nothing_else(
    link: None, tmp_path: Path, backend: str, version: int, where: dict[int, list[str]]
) -> None:
    first, second = where[version]
    gate = NotingGate(refuse=lambda address, ask: (address, ask.port) == (second, SERVICE))
    with capturing(tmp_path, "inbound and tcp and dst portrange 21790-21810", TARGET) as seen:
        (sweep,) = sweep_inside([first, second], "21790-21810", settings_of(backend), gate).sweeps
    hosts = {host.address: host for host in sweep.hosts}
    assert hosts[first].answered == (SERVICE,)
    assert hosts[second].answered == ()
    assert [(span.first, span.last) for span in hosts[second].not_probed] == [(SERVICE, SERVICE)]
    assert all(sum(span.last - span.first + 1 for span in host.closed) == 20 for host in hosts.values())
    syns = Counter(re.search(r"> (\S+): Flags \[S\]", line).group(1) for line in seen if "Flags [S]" in line)  # type: ignore[union-attr]
    wanted = {f"{address}.{port}" for address in (first, second) for port in range(21790, 21811)} - {f"{second}.{SERVICE}"}
    assert set(syns) <= wanted, "no port that is not covered got a SYN"
    assert len(syns) >= len(wanted) - 2, "a loaded machine's tcpdump may miss one; that each was sent, its answer shows"
    assert sweep.complete


def test_the_way_out_is_the_one_that_is_asked_for(link: None) -> None:
    def names() -> list[str]:
        interface, found = route_to(FAR[4][0]).interface, []
        for backend in ("auto", "af_xdp", "tx_ring", "sendmmsg"):
            sender, _ = open_first(interface, backend)
            assert sender is not None
            found.append(sender.name)
            sender.close()
        return found

    assert inside(SCANNER, names) == ["af_xdp", "af_xdp", "tx_ring", "sendmmsg"]
    assert wanted_of(ScannerSettings()) == "sendmmsg", "who watches a scanner of ordinary speed on its own machine sees what it sends"
    fast = ScannerSettings(packets_per_second=FAST)
    assert wanted_of(fast) == ("sendmmsg" if two_cores() else "auto")
    assert wanted_of(fast.model_copy(update={"backend": "af_xdp"})) == "af_xdp"


def test_a_queue_that_somebody_else_has_leaves_the_next_way(link: None) -> None:
    """Another process on the same interface: its AF_XDP socket has the queue."""
    hold = (
        "import socket, sys, time\n"
        "from processors.scan.sweep.xdp import XdpSender\n"
        "kept = XdpSender(socket.if_nametoindex('dlsa0'))\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = ["ip", "netns", "exec", SCANNER, os.sys.executable, "-c", hold]  # type: ignore[attr-defined]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"

        def second() -> tuple[str, set[str]]:
            sender, refused = open_first(route_to(FAR[4][0]).interface)
            assert sender is not None
            sender.close()
            return sender.name, set(refused)

        assert inside(SCANNER, second) == ("tx_ring", {"af_xdp"})
        holder.communicate()


def test_only_covered_neighbours_are_asked_where_they_are_and_only_who_tells_gets_a_probe(link: None, tmp_path: Path) -> None:
    there, absent, excluded = NEAR[4][0], "198.18.213.77", NEAR[4][1]
    covered = {there, absent}

    class Gate(NotingGate):
        def mask(self, unit: object) -> object:  # type: ignore[override]
            made = super().mask(unit)  # type: ignore[arg-type]
            covers = lambda addresses: np.array([text_of(one) in covered for one in addresses])  # noqa: E731
            object.__setattr__(made, "covers", covers) if hasattr(made, "__dict__") else None
            return made

    with capturing(tmp_path, "inbound and (arp or tcp)", TARGET) as seen:
        (sweep,) = sweep_inside(
            [there, absent, excluded], str(SERVICE), settings_of("sendmmsg"), Gate(lambda address, _: address == excluded)
        ).sweeps
    # Whom the kernel knows from other tests it asks again by itself, naming the hardware address: "who-has ADDRESS (MAC) tell …".
    asked = {found[1] for line in seen if (found := re.search(r"who-has (\S+) tell", line))}
    assert asked == covered
    assert not [line for line in seen if f"> {absent}." in line or f"> {excluded}." in line]
    assert {host.address: host.answered for host in sweep.hosts}[there] == (SERVICE,)
    assert absent in sweep.probed
    assert absent not in {host.address for host in sweep.hosts}, "silent on every port"


def test_a_host_that_answers_on_everything_is_quarantined_and_no_real_one_is(link: None, tmp_path: Path) -> None:
    real = FAR[4][0]
    settings = settings_of("sendmmsg", quarantine_ports=100)
    with capturing(tmp_path, f"inbound and tcp[tcpflags] == tcp-syn and dst host {EVERYTHING}", TARGET) as seen:
        report = sweep_inside([EVERYTHING, real], f"1-2000,{SERVICE}", settings)
    (sweep,) = report.sweeps
    assert [one.address for one in sweep.quarantined] == [EVERYTHING]
    assert "answered on" in sweep.quarantined[0].reason
    hosts = {host.address: host for host in sweep.hosts}
    assert hosts[real].answered == (SERVICE,)
    assert hosts[EVERYTHING].answered == ()
    assert len(seen) <= 100 + 200, "a hundred to see it, and what was on its way"
    assert [one.address for one in report.hosts] == [real], "nobody looks closer at what is not believed"
    print("probes to the host that answers on everything:", len(seen))


def test_the_kernels_resets_count_for_the_hosts_limit(link: None, tmp_path: Path) -> None:
    limit, ports = 40, 100
    unit = make_unit([EVERYTHING, FAR[4][0]], f"1-{ports}").model_copy(update={"per_host_per_second": limit})
    settings = settings_of("sendmmsg", quarantine_ports=ports + 1, attempts=1)

    def work() -> Ledger:
        ledger = Ledger(unit.addresses, expand(unit.tcp_ports), settings.attempts)
        asyncio.run(sweep_syn(ledger, Meter(NotingGate(), unit), settings))
        return ledger

    with capturing(tmp_path, f"inbound and tcp and dst host {EVERYTHING}", TARGET) as seen:
        ledger = inside(SCANNER, work)
    assert len(ledger.answered()[EVERYTHING]) == ports, "what was put off is asked in the end"
    assert np.count_nonzero(ledger.states == PortState.CLOSED) == ports, "nobody else sits out"
    times = np.sort([float(line[6:15]) + 60 * float(line[3:5]) for line in seen])
    resets = sum("Flags [R" in line for line in seen)
    assert resets >= ports
    assert len(times) >= 2 * ports
    most = max(np.searchsorted(times, times + 1.0) - np.arange(len(times)))
    print("most in a second:", most, "packets:", len(times), "seconds:", times[-1] - times[0])
    assert most <= 1.05 * limit + 1, "the reset of the last probe of a second comes after it"


@pytest.mark.parametrize("version", [4, 6])
def test_ways_of_many_are_the_ways_of_each(link: None, version: int) -> None:
    texts = (
        [f"198.18.{third}.{last}" for third in (213, 214, 215) for last in range(0, 256, 3)]
        if version == 4
        else [f"2001:db8:{third}::{last:x}" for third in (213, 214, 215) for last in range(0, 256, 3)]
    )

    def compare() -> None:
        found: dict[str, Route | None] = {}
        for group in routes_of(column_of_texts(texts, version)):
            found |= dict.fromkeys((texts[place] for place in group.places), group.route)
        for text in texts:
            try:
                assert found[text] == route_to(text)
            except OSError:
                assert found[text] is None

    inside(SCANNER, compare)
    assert inside(SCANNER, lambda: on_link(NEAR[version][0]))
    assert not inside(SCANNER, lambda: on_link(FAR[version][0]))


@pytest.mark.parametrize(("limit", "hosts"), [(5, 1), (40, 1), (300, 8)])
def test_no_second_of_a_capture_holds_more_than_the_limit(link: None, tmp_path: Path, limit: int, hosts: int) -> None:
    """Of one host: its own limit holds."""
    seconds = 6
    unit = make_unit([f"198.18.214.{20 + number}" for number in range(hosts)], f"1-{limit * seconds}").model_copy(
        update={"per_host_per_second": limit}
    )
    begun = time.monotonic()
    with capturing(tmp_path, "inbound and tcp[tcpflags] == tcp-syn", TARGET) as seen:
        inside(SCANNER, lambda: scan(unit, None, settings_of("sendmmsg", attempts=1), "syn"))
    assert time.monotonic() - begun < 3 * seconds + 5
    moments: dict[str, list[float]] = {}
    for line in seen:
        hour, minute, second = line.split()[0].split(":")
        to = re.search(r"> (\d+\.\d+\.\d+\.\d+)\.", line).group(1)  # type: ignore[union-attr]
        moments.setdefault(to, []).append(int(hour) * 3600 + int(minute) * 60 + float(second))
    assert len(moments) == hosts
    for times in moments.values():
        for first in times:
            assert sum(first <= one < first + 1 for one in times) <= 1.05 * limit
        assert len(times) - 1 >= 0.5 * limit * (times[-1] - times[0]), "0.95 on a machine that has nothing else to do (bench)"
