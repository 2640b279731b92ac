"""TLS handshake: version, certificate as presented, and whether TLS 1.0 or 1.1 (RFC 8996 forbids both) is still accepted."""

from __future__ import annotations

import re
import ssl
import warnings
from functools import cache

from processors.scan.probe import Service, ServiceProbe, Traits
from processors.scan.probing.certificates import read_certificate
from processors.scan.probing.evidence import Evidence
from processors.scan.probing.hello import oldest_talk
from schemas.events.observations import Certificate, TlsFacts

OUTDATED = ("SSLv3", "TLSv1", "TLSv1.1")
SPEAKS_FIRST = ("ssh", "ftp", "smtp", "pop3", "imap", "vnc", "mysql", "telnet", "redis")
SERVED_IN_CLEAR = re.compile(r"HTTP/1\.[01] (?:2\d\d|401|403|404)\b")  # a TLS port answers clear text with 400, a redirect or silence


@cache
def context() -> ssl.SSLContext:
    """A context that verifies nothing and takes any cipher and version: it looks, it does not trust."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.options |= ssl.OP_NO_RENEGOTIATION  # a server may ask for another handshake as often as it likes
    made.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that these versions are outdated is the point
        made.minimum_version = ssl.TLSVersion.TLSv1
    return made


class Tls(ServiceProbe):
    """A handshake for the best that the server offers, left open for the probe that comes next; then what it says to old versions."""

    traits = Traits(name="tls", cost=8, yields=("tls",))

    async def look(self, service: Service) -> Evidence | None:
        """Facts of the handshake; nothing where the server spoke in clear text as it should."""
        if service.known.service in SPEAKS_FIRST or SERVED_IN_CLEAR.match(service.known.banner):
            return None
        async with service.open(context(), leave=True) as wire:
            session = wire.tls
            if session is None:
                return None
            version, cipher, der = session.version() or "", session.cipher(), session.getpeercert(binary_form=True)
        certificate, facts = read(der)
        return Evidence(
            tls=TlsFacts(
                version=version,
                cipher=cipher[0] if cipher else "",
                outdated=await self._outdated(service, version),
                certificate=certificate,
            ),
            facts=facts,
        )

    async def _outdated(self, service: Service, best: str) -> tuple[str, ...]:
        """Outdated versions that it accepts, oldest first. A server takes the highest that it shares with us (RFC 4346, 7.4.1.3)."""
        if best not in OUTDATED:
            best = await self._answer(service, "TLSv1.1")
        below = await self._answer(service, "TLSv1") if best == "TLSv1.1" else ""
        return tuple(name for name in OUTDATED if name in (best, below))

    async def _answer(self, service: Service, most: str) -> str:
        try:
            async with service.open() as wire:
                return await oldest_talk(wire, most, service.name)
        except (OSError, TimeoutError):
            return ""


def read(der: bytes | None) -> tuple[Certificate | None, dict[str, str]]:
    """The certificate's facts, or the fact that it can't be read."""
    if not der:
        return None, {}
    try:
        return read_certificate(der), {}
    except ValueError:
        return None, {"tls.certificate": "unreadable"}


PROBE = Tls()
