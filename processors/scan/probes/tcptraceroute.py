"""The path to a host by TCP SYNs to a port that answered, where traceroute did not get through. IPv6: traceroute's own TCP method."""

from __future__ import annotations

import ipaddress

from processors.scan.probe import Host, HostEvidence, HostProbe, Traits
from processors.scan.probing.paths import MOST_HOPS, reaches, read_path
from schemas.scope import Ask

SECONDS = 25.0
PLACES = 8


class TcpTraceroute(HostProbe):
    """One packet a hop, ten hops, to the lowest answered port."""

    traits = Traits(name="tcptraceroute", cost=MOST_HOPS + 1, yields=("path",), needs=("tcptraceroute", "traceroute", "raw"))

    async def look(self, host: Host) -> HostEvidence | None:
        """The path, unless it is known already."""
        address = ipaddress.ip_address(host.address)
        if address.is_loopback or reaches(host.path, host.address) or not host.known:
            return None
        port = min(host.known)
        limits = ["-n", "-q", "1", "-m", str(MOST_HOPS), "-w", "1"]
        if address.version == 4:
            arguments = ["tcptraceroute", *limits, str(address), str(port)]
        else:
            arguments = ["traceroute", "-6", "-T", *limits, "-p", str(port), str(address)]
        return HostEvidence(path=read_path(await host.run(arguments, [Ask("path"), Ask("tcp", port)], PLACES, SECONDS)))


PROBE = TcpTraceroute()
