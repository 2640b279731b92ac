"""Redis: does it answer PING and INFO without a password? Both are harmless and read nothing that is stored (RESP2)."""

from __future__ import annotations

import re

from processors.scan.probe import Service, ServiceProbe, Traits
from processors.scan.probes.tls import context
from processors.scan.probing.evidence import Evidence, clean

PORTS = (6379, 6380)


class Redis(ServiceProbe):
    """PING, then INFO server where it is answered."""

    traits = Traits(name="redis", cost=8, yields=("service", "product", "version", "facts"))

    async def look(self, service: Service) -> Evidence | None:
        """`redis.auth`: none, required, or protected (answers only to its own machine)."""
        if service.known.service != "redis" and (service.known.service or service.port not in PORTS):
            return None
        async with service.open(context() if service.known.tls else None) as wire:
            await wire.send(b"*1\r\n$4\r\nPING\r\n")
            answer = await wire.read(until=b"\n")
            if not answer.startswith(b"+PONG"):
                return read_refusal(answer)
            await wire.send(b"*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n")
            info = await wire.read(until=b"redis_version:", limit=8192)
            info += await wire.read(seconds=0.2) if info and b"\n" not in info.rpartition(b"redis_version:")[2] else b""
        version = re.search(rb"redis_version:([\w.]+)", info)
        return Evidence(
            service="redis", product="Redis", version=clean(version[1]) if version else "", banner="+PONG", facts={"redis.auth": "none"}
        )


def read_refusal(answer: bytes) -> Evidence | None:
    """What an answer other than PONG says."""
    if answer.startswith(b"-NOAUTH"):
        return Evidence(service="redis", product="Redis", banner=clean(answer), facts={"redis.auth": "required"})
    if answer.startswith(b"-DENIED"):
        return Evidence(service="redis", product="Redis", banner="-DENIED", facts={"redis.auth": "protected"})
    return None


PROBE = Redis()
