"""Reads what the server says first; if it stays silent, says a line of HTTP, to which most text protocols answer something telling.

Where HTTP usually listens it says its line at once: waiting for a greeting there takes a second a port for nothing.
"""

from __future__ import annotations

from processors.enrich.table import built_in_table
from processors.scan.probe import Service, ServiceProbe, Traits
from processors.scan.probing.evidence import Evidence
from processors.scan.probing.greetings import read_greeting
from processors.scan.probing.telnet import negotiates, text_and_reply
from processors.scan.probing.wire import Wire

GREETING_SECONDS = 1.2
ROUNDS = 3
NUDGE = b"GET / HTTP/1.0\r\n\r\n"


class Banner(ServiceProbe):
    """The server's greeting."""

    traits = Traits(name="banner", cost=6, yields=("service", "product", "version", "extra", "banner"))

    async def look(self, service: Service) -> Evidence | None:
        """The greeting, or the answer to the nudge."""
        async with service.open() as wire:
            data = b"" if waits_for_a_question(service.port) else await wire.read(seconds=GREETING_SECONDS)
            if not data:
                await wire.send(NUDGE)
                data = await wire.read(until=b"\n", seconds=GREETING_SECONDS)
            if negotiates(data):
                data = await after_negotiation(wire, data)
        return read_greeting(data) if data else None


async def after_negotiation(wire: Wire, data: bytes) -> bytes:
    """What a Telnet server says once its options are refused."""
    said, reply = text_and_reply(data)
    for _ in range(ROUNDS):
        if said.strip() or not reply:
            break
        await wire.send(reply)
        more, reply = text_and_reply(await wire.read(seconds=GREETING_SECONDS))
        said += more
    return said or data


def waits_for_a_question(port: int) -> bool:
    """Whether what usually listens there is silent until it is asked. Who greets all the same is heard as well, nudged or not."""
    return "http" in built_in_table().of_port(port)


PROBE = Banner()
