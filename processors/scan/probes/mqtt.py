"""MQTT: does the broker let a client without a password in? (MQTT 3.1.1) One CONNECT; if let in, the broker's own version is read."""

from __future__ import annotations

import re

from processors.scan.probe import Service, ServiceProbe, Traits
from processors.scan.probes.tls import context
from processors.scan.probing.evidence import Evidence, clean

PORTS = (1883, 8883)
CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x0a\x00\x00"  # 3.1 CONNECT: clean session, keep alive 10 s, empty client id
TOPIC = b"$SYS/broker/version"
SUBSCRIBE = b"\x82" + bytes([5 + len(TOPIC)]) + b"\x00\x01\x00" + bytes([len(TOPIC)]) + TOPIC + b"\x00"
DISCONNECT = b"\xe0\x00"
AUTH_OF_CODE = {0: "none", 4: "required", 5: "required"}  # 3.2.2.3


class Mqtt(ServiceProbe):
    """CONNECT without a name, on MQTT's ports and on mute ones."""

    traits = Traits(name="mqtt", cost=8, yields=("service", "product", "version", "facts"))

    async def look(self, service: Service) -> Evidence | None:
        """`mqtt.auth`: none or required."""
        if service.known.service or not (service.port in PORTS or service.mute):
            return None
        async with service.open(context() if service.known.tls else None) as wire:
            await wire.send(CONNECT)
            answer = await wire.read(limit=4)
            if len(answer) != 4 or answer[:2] != b"\x20\x02":
                return None
            auth = AUTH_OF_CODE.get(answer[3])
            told = b""
            if auth == "none":
                await wire.send(SUBSCRIBE)
                told = await wire.read(until=b"version 2", limit=512, seconds=1.0)
            await wire.send(DISCONNECT)
        version = re.search(rb"mosquitto version ([\d.]+)", told)
        return Evidence(
            service="mqtt",
            product="Mosquitto" if version else "",
            version=clean(version[1]) if version else "",
            facts={"mqtt.auth": auth} if auth else {},
        )


PROBE = Mqtt()
