"""FTP: may anyone log in as `anonymous`? (RFC 1635)

Not intrusive: the name is a public convention by which a server offers itself to strangers, no password is guessed and nothing is
listed or written; nmap's ftp-anon, which does more, counts as safe as well.
"""

from __future__ import annotations

from processors.scan.probe import Service, ServiceProbe, Traits
from processors.scan.probing.evidence import Evidence


class FtpAnonymous(ServiceProbe):
    """USER anonymous, PASS, QUIT."""

    traits = Traits(name="ftp-anonymous", cost=10, yields=("facts",))

    async def look(self, service: Service) -> Evidence | None:
        """`ftp.anonymous`: yes or no."""
        if service.known.service != "ftp":
            return None
        async with service.open() as wire:
            await wire.read(until=b"\n", seconds=5.0)
            await wire.send(b"USER anonymous\r\n")
            answer = await wire.read(until=b"\n")
            if answer.startswith(b"331"):
                await wire.send(b"PASS anonymous@\r\n")
                answer = await wire.read(until=b"\n", seconds=5.0)
            await wire.send(b"QUIT\r\n")
        if answer[:3] in (b"230", b"530", b"331", b"421"):
            return Evidence(facts={"ftp.anonymous": "yes" if answer.startswith(b"230") else "no"})
        return None


PROBE = FtpAnonymous()
