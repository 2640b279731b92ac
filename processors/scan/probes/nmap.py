"""nmap's service detection, for the ports whose product or version neither our probes nor the table of rules know.

python-nmap reads the result.

The arguments are fixed here; only a validated address and answered ports are added. `--unprivileged` keeps nmap to plain connects:
no raw packet, no ARP of its own.
"""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Any

import structlog

from processors.enrich.fingerprints import built_in
from processors.scan.probe import Host, HostEvidence, HostProbe, Traits
from processors.scan.probing.evidence import Evidence, observation
from schemas.scope import Ask

VERSION_INTENSITY = 5
HOST_SECONDS = 60
ARGUMENTS = ("-sV", "-sT", "-Pn", "-n", "--unprivileged", "--version-intensity", str(VERSION_INTENSITY), "--max-retries", "1")
LIMITS = ("--host-timeout", f"{HOST_SECONDS}s", "-oX", "-")

log = structlog.get_logger()


READ_TO_THE_END = frozenset({"http", "https", "redis", "memcached", "mqtt", "ssh"})  # what our probes of these don't learn, nmap won't


class Nmap(HostProbe):
    """One process a host, over the ports that the cheaper probes left open to question."""

    # One odd service got 15 connections, over 75 packets. More than 80 a port, and at 20 a second a host's budget would outlast the probe.
    traits = Traits(name="nmap", cost=80, yields=("service", "product", "version", "extra", "cpes"), needs=("nmap",))

    async def look(self, host: Host) -> HostEvidence | None:
        """What nmap recognised."""
        ports = sorted(port for port, known in host.known.items() if is_open_question(port, known))
        if not ports:
            return None
        xml = await host.run(
            arguments(host.address, ports), [Ask("tcp", port) for port in ports], host.settings.nmap_processes, HOST_SECONDS + 5
        )
        return HostEvidence(services=await asyncio.to_thread(read_xml, xml)) if xml else None


def is_open_question(port: int, known: Evidence) -> bool:
    """Whether nmap may learn more: it takes 10 s or so for a service that does not greet. What the table of rules names is known."""
    seen = built_in().identify(observation(port, known))
    return not seen.product or (not seen.version and seen.service not in READ_TO_THE_END)


def arguments(address: str, ports: list[int]) -> list[str]:
    """nmap's command line. Raises ValueError for what is no address."""
    parsed = ipaddress.ip_address(address)
    version = ("-6",) if parsed.version == 6 else ()
    return ["nmap", *version, *ARGUMENTS, *LIMITS, "-p", ",".join(str(int(port)) for port in ports), str(parsed)]


def read_xml(xml: str) -> dict[int, Evidence]:
    """Evidence by port from nmap's XML; names that nmap only guessed from the port number are left out."""
    import nmap

    try:
        scan: dict[str, Any] = nmap.PortScanner().analyse_nmap_xml_scan(xml)["scan"]
    except (nmap.PortScannerError, AttributeError, KeyError, ValueError) as error:
        log.warning("nmap_result_unreadable", error=str(error)[:200])
        return {}
    found: dict[int, Evidence] = {}
    for host in scan.values():
        for port, facts in host.get("tcp", {}).items():
            if facts["state"] == "open" and int(facts["conf"] or 0) > 3:
                found[int(port)] = Evidence(
                    service=facts["name"] or "",
                    product=facts["product"],
                    version=facts["version"],
                    extra=facts["extrainfo"],
                    cpes=(facts["cpe"],) if facts["cpe"] else (),
                )
    return found


PROBE = Nmap()
