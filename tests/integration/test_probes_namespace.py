"""Sweeps and path probes over real links: scanner (dlp-a) — router (dlp-b) — services (dlp-c), none with a default route."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from infra.core.settings import ScannerSettings
from processors.scan.unit import UnitReport, choose_engine
from tests.namespaces import capturing, inside, ip, join, namespaces
from tests.scanning import NotingGate, is_open, make_unit, scan, wait_until

pytestmark = [pytest.mark.namespace, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

SCANNER, ROUTER, SERVICES = "dlp-a", "dlp-b", "dlp-c"
WEB4, WEB6 = "198.18.210.130", "2001:db8:210:2::10"
UNREACHABLE, PROHIBITED, DEAD, ROUTER4 = "198.18.210.200", "198.18.210.201", "198.18.210.77", "198.18.210.10"
QUICK = ScannerSettings(connect_timeout=0.8)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("network")
    with namespaces((SCANNER, ROUTER, SERVICES)), ExitStack() as stack:
        join((SCANNER, "dlpa0"), (ROUTER, "dlpb0"))
        join((ROUTER, "dlpb1"), (SERVICES, "dlpc0"))
        for namespace, address, device in (
            (SCANNER, "198.18.210.1/25", "dlpa0"),
            (ROUTER, f"{ROUTER4}/25", "dlpb0"),
            (ROUTER, "198.18.210.129/26", "dlpb1"),
            (SERVICES, f"{WEB4}/26", "dlpc0"),
            (SCANNER, "2001:db8:210:1::1/64", "dlpa0"),
            (ROUTER, "2001:db8:210:1::2/64", "dlpb0"),
            (ROUTER, "2001:db8:210:2::1/64", "dlpb1"),
            (SERVICES, f"{WEB6}/64", "dlpc0"),
        ):
            ip("-n", namespace, "addr", "add", address, "dev", device, *(["nodad"] if ":" in address else []))
        ip("-n", SCANNER, "route", "add", "198.18.210.128/25", "via", ROUTER4)
        ip("-n", SCANNER, "route", "add", "2001:db8:210:2::/64", "via", "2001:db8:210:1::2")
        ip("-n", SERVICES, "route", "add", "198.18.210.0/25", "via", "198.18.210.129")
        ip("-n", SERVICES, "route", "add", "2001:db8:210:1::/64", "via", "2001:db8:210:2::1")
        ip("-n", ROUTER, "route", "add", "unreachable", f"{UNREACHABLE}/32")
        ip("-n", ROUTER, "route", "add", "prohibit", f"{PROHIBITED}/32")
        in_router = ["ip", "netns", "exec", ROUTER, "sysctl", "-q", "-w"]
        subprocess.run([*in_router, "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.icmp_ratemask=0"], check=True)
        redis = ["redis-server", "--bind", "0.0.0.0", "::", "--port", "21700", "--protected-mode", "no", "--save", "", "--dir", str(folder)]
        process = subprocess.Popen(["ip", "netns", "exec", SERVICES, *redis], stdout=subprocess.DEVNULL)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        for address in (WEB4, WEB6):  # IPv6 takes a moment to find its neighbours on a new link
            inside(SCANNER, lambda address=address: wait_until(lambda: is_open(address, 21700)))  # type: ignore[misc]
        yield


def scan_inside(
    addresses: list[str], ports: str, *probes: str, engine: str = "syn", gate: NotingGate | None = None, settings: ScannerSettings = QUICK
) -> UnitReport:
    return inside(SCANNER, lambda: scan(make_unit(addresses, ports, probes), gate, settings, engine))


def test_the_syn_engine_is_chosen_where_raw_sockets_work(network: None) -> None:
    assert inside(SCANNER, lambda: choose_engine(QUICK))[0] == "syn"
    with namespaces(["dlp-lone"]):
        assert inside("dlp-lone", lambda: choose_engine(QUICK)) == ("syn", "raw sockets are allowed"), "loopback is swept like the rest"


@pytest.mark.parametrize("engine", ["syn", "connect"])
@pytest.mark.parametrize("address", [WEB4, WEB6])
def test_both_engines_tell_open_from_closed(network: None, engine: str, address: str) -> None:
    (sweep,) = scan_inside([address], "21690-21710", "redis", engine=engine).sweeps
    (host,) = sweep.hosts
    assert (sweep.engine, sweep.complete, host.answered) == (engine, True, (21700,))
    assert [(span.first, span.last) for span in host.closed] == [(21690, 21699), (21701, 21710)]
    assert sweep.recall_samples >= 21, "all ports answered, and some were asked again"
    assert sweep.recall_low <= sweep.recall <= sweep.recall_high


@pytest.mark.parametrize("engine", ["syn", "connect"])
@pytest.mark.parametrize("address", [UNREACHABLE, PROHIBITED])
def test_a_router_that_says_unreachable_is_believed(network: None, engine: str, address: str) -> None:
    # One probe each: Linux says so five times in a row to one asker, then once a second.
    (sweep,) = scan_inside([address], "21700", engine=engine, settings=QUICK.model_copy(update={"attempts": 1})).sweeps
    assert [(span.first, span.last) for span in sweep.hosts[0].unreachable] == [(21700, 21700)]


@pytest.mark.parametrize("engine", ["syn", "connect"])
def test_a_dead_neighbour_is_silent_even_when_our_kernel_calls_it_unreachable(network: None, engine: str) -> None:
    slow = ScannerSettings(connect_timeout=0.9, attempts=5)  # longer than the kernel's 3 s of ARP
    (sweep,) = scan_inside([DEAD, ROUTER4], "21700-21702", engine=engine, settings=slow).sweeps
    assert sweep.probed == (DEAD, ROUTER4)
    assert [(host.address, [(span.first, span.last) for span in host.closed]) for host in sweep.hosts] == [(ROUTER4, [(21700, 21702)])]


@pytest.mark.parametrize(("address", "hops"), [(WEB4, (ROUTER4, WEB4)), (WEB6, ("2001:db8:210:1::2", WEB6))])
@pytest.mark.parametrize("probe", ["traceroute", "tcptraceroute"])
def test_path(network: None, address: str, hops: tuple[str, ...], probe: str) -> None:
    (host,) = scan_inside([address], "21700", probe).hosts
    assert host.path is not None
    assert tuple(hop.address for hop in host.path) == hops
    assert [hop.ttl for hop in host.path] == [1, 2]


def test_no_path_without_leave_for_it(network: None, tmp_path: Path) -> None:
    gate = NotingGate(refuse=lambda address, ask: ask.kind == "path")
    # Seconds after another test's sweep the kernel still tells itself, on loopback, which neighbours were silent to ARP.
    to_itself = "(src host 198.18.210.1 and dst host 198.18.210.1)"
    with capturing(tmp_path, f"(icmp or udp or (ip and ip[8] < 30)) and not {to_itself}", SCANNER) as seen:
        (host,) = scan_inside([WEB4], "21700", "traceroute", "tcptraceroute", gate=gate).hosts
    assert host.path is None
    assert seen == []


@pytest.mark.parametrize("engine", ["syn", "connect"])
@pytest.mark.parametrize("address", [WEB4, WEB6])
def test_no_more_packets_leave_than_were_admitted_and_none_elsewhere(network: None, tmp_path: Path, engine: str, address: str) -> None:
    gate = NotingGate(refuse=lambda host, ask: ask.port == 21699)
    source = "2001:db8:210:1::1" if ":" in address else "198.18.210.1"
    # At the router: the fast ways out pass by a capture on the scanner itself.
    with capturing(tmp_path, f"inbound and src host {source} and not arp and not icmp6[0] >= 133", ROUTER) as seen:
        report = scan_inside([address], "21690-21710", engine=engine, gate=gate)
    assert report.hosts[0].services[0].facts == {"redis.auth": "none"}
    assert report.hosts[0].path is not None
    assert not [line for line in seen if ".21699: " in line]
    assert all(f"> {address}" in line for line in seen)
    assert len(seen) <= report.packets == gate.packets
    print(engine, address, "packets:", len(seen), "admitted:", report.packets)


def test_loss_is_seen_and_lowers_the_stated_recall(network: None) -> None:
    rules = "table netdev loss { chain in { type filter hook ingress device dlpc0 priority 0; numgen random mod 100 < 40 drop; }; }"
    nft = ["ip", "netns", "exec", SERVICES, "nft"]
    subprocess.run([*nft, rules], check=True)
    try:
        sweeps = {engine: scan_inside([WEB4], "21701-21997", engine=engine).sweeps[0] for engine in ("syn", "connect")}
    finally:
        subprocess.run([*nft, "delete table netdev loss"], check=True)
    for engine, sweep in sweeps.items():
        assert 0.2 < sweep.loss < 0.6
        found = sum(one.last - one.first + 1 for one in sweep.hosts[0].closed) / 297
        assert sweep.recall == pytest.approx(found, abs=0.12), "one window of 297 ports tells no more"
        # A connect has the two attempts of the settings; the SYN sweep goes on until little is missing.
        assert found < 0.96 if engine == "connect" else found > 0.98
