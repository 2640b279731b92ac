"""Memcached: does it tell its version without a password? (protocol.txt of memcached, text protocol)"""

from __future__ import annotations

import re

from processors.scan.probe import Service, ServiceProbe, Traits
from processors.scan.probing.evidence import Evidence, clean

PORT = 11211


class Memcached(ServiceProbe):
    """`version`, which reads nothing that is stored; on its port and on mute ones (it hangs up on the banner probe's GET)."""

    traits = Traits(name="memcached", cost=6, yields=("service", "product", "version", "facts"))

    async def look(self, service: Service) -> Evidence | None:
        """`memcached.auth`: none or required."""
        if service.known.service or not (service.port == PORT or service.mute):
            return None
        async with service.open() as wire:
            await wire.send(b"version\r\n")
            answer = await wire.read(until=b"\n")
        found = re.match(rb"VERSION ([\w.-]+)\r?\n", answer)
        if found:
            return Evidence(service="memcached", product="Memcached", version=clean(found[1]), facts={"memcached.auth": "none"})
        if answer.startswith(b"CLIENT_ERROR unauthenticated"):
            return Evidence(service="memcached", product="Memcached", facts={"memcached.auth": "required"})
        return None


PROBE = Memcached()
