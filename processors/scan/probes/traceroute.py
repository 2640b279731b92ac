"""The path to a host by traceroute: ICMP echo where raw sockets are allowed (one flow, so that balanced routes stay put), else UDP."""

from __future__ import annotations

import ipaddress

from processors.scan.probe import Host, HostEvidence, HostProbe, Traits, raw_sockets
from processors.scan.probing.paths import MOST_HOPS, read_path
from schemas.scope import Ask

QUERIES = 2
SECONDS = 15.0
PLACES = 8


class Traceroute(HostProbe):
    """Two packets a hop, ten hops."""

    traits = Traits(name="traceroute", cost=QUERIES * MOST_HOPS, yields=("path",), needs=("traceroute",))

    async def look(self, host: Host) -> HostEvidence | None:
        """The path, unless the host is this machine."""
        address = ipaddress.ip_address(host.address)
        if address.is_loopback:
            return None
        method = ["-I"] if raw_sockets() else []
        arguments = ["traceroute", f"-{address.version}", "-n", *method, "-q", str(QUERIES), "-m", str(MOST_HOPS), "-w", "1", str(address)]
        return HostEvidence(path=read_path(await host.run(arguments, [Ask("path")], PLACES, SECONDS)))


PROBE = Traceroute()
