"""hping3: one SYN to each answered port by another program than ours, as a second opinion. Not by default: it confirms, it adds nothing.

Its exit status does not say whether a port is open, so that its output is read. IPv4 only.
"""

from __future__ import annotations

import ipaddress
import re

from processors.scan.probe import Host, HostEvidence, HostProbe, Traits
from processors.scan.probing.evidence import Evidence
from schemas.scope import Ask

MOST_PORTS = 20
SECONDS = 5.0


class Hping3(HostProbe):
    """`syn.answer` is the flags of the answer: SA open, RA closed."""

    traits = Traits(name="hping3", cost=2, yields=("facts",), needs=("hping3", "raw"), by_default=False)

    async def look(self, host: Host) -> HostEvidence | None:
        """The flags by port."""
        address = ipaddress.ip_address(host.address)
        if address.version != 4:
            return None
        found: dict[int, Evidence] = {}
        for port in sorted(host.known)[:MOST_PORTS]:
            arguments = ["hping3", "-S", "-n", "-c", "1", "-p", str(port), str(address)]
            flags = read_flags(await host.run(arguments, [Ask("tcp", port)], host.settings.hping_processes, SECONDS), port)
            if flags:
                found[port] = Evidence(facts={"syn.answer": flags})
        return HostEvidence(services=found)


def read_flags(text: str, port: int) -> str:
    """The TCP flags of the answer from a port, '' without one."""
    found = re.search(rf"\bsport={port} flags=([A-Z]+)\b", text)
    return found[1] if found else ""


PROBE = Hping3()
