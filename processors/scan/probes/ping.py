"""Which addresses answer an ICMP echo, where the grant allows ICMP. It says that a host is there, not that it offers anything."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from infra.core.settings import ScannerSettings
from processors.scan.meter import Meter
from processors.scan.probe import AddressProbe, Traits
from processors.scan.sweep.echo import discover_echo


class Ping(AddressProbe):
    """One echo request an address and attempt."""

    traits = Traits(name="ping", cost=1, yields=("alive",), needs=("raw",), by_default=False)

    async def look(self, addresses: Sequence[str], meter: Meter, settings: ScannerSettings) -> Collection[str]:
        """The addresses that answered."""
        return await discover_echo(addresses, meter, settings)


PROBE = Ping()
