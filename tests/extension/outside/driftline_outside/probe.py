"""Asks a beacon who it is and whether its door is open."""

from __future__ import annotations

import re

from processors.scan.probe import Evidence, Service, ServiceProbe, Traits


class Beacon(ServiceProbe):
    """One question, one line of answer."""

    traits = Traits(name="beacon", cost=6, yields=("service", "product", "version", "banner", "facts"))

    async def look(self, service: Service) -> Evidence | None:
        """`beacon.door`: open or shut."""
        if service.known.service not in ("", "beacon"):
            return None
        async with service.open() as wire:
            await wire.send(b"WHO\r\n")
            answer = (await wire.read(until=b"\n")).decode("utf-8", "replace")
        found = re.match(r"BEACON ([\d.]+) (open|shut)", answer)
        if found is None:
            return None
        return Evidence(service="beacon", product="Beacon", version=found[1], banner=answer, facts={"beacon.door": found[2]})
