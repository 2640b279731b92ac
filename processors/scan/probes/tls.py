"""TLS handshake: version, certificate as presented, and whether TLS 1.0 or 1.1 (RFC 8996 forbids both) is still accepted."""

from __future__ import annotations

import re
import ssl
import warnings
from functools import cache

from processors.scan.probe import Service, ServiceProbe, Traits
from processors.scan.probing.certificates import read_certificate
from processors.scan.probing.evidence import Evidence
from schemas.events.observations import Certificate, TlsFacts

OUTDATED = (("TLSv1", ssl.TLSVersion.TLSv1), ("TLSv1.1", ssl.TLSVersion.TLSv1_1))
SPEAKS_FIRST = ("ssh", "ftp", "smtp", "pop3", "imap", "vnc", "mysql", "telnet", "redis")
SERVED_IN_CLEAR = re.compile(r"HTTP/1\.[01] (?:2\d\d|401|403|404)\b")  # a TLS port answers clear text with 400, a redirect or silence


@cache
def context(version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """A context that verifies nothing and takes any cipher, for one version or for all: it looks, it does not trust."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that these versions are outdated is the point
        made.minimum_version = version or ssl.TLSVersion.TLSv1
        made.maximum_version = version or ssl.TLSVersion.MAXIMUM_SUPPORTED
    return made


class Tls(ServiceProbe):
    """Three handshakes at most: the best that the server offers, then TLS 1.0 and 1.1 alone."""

    traits = Traits(name="tls", cost=8, yields=("tls",))

    async def look(self, service: Service) -> Evidence | None:
        """Facts of the handshake; nothing where the server spoke in clear text as it should."""
        if service.known.service in SPEAKS_FIRST or SERVED_IN_CLEAR.match(service.known.banner):
            return None
        async with service.open(context()) as wire:
            session = wire.tls
            if session is None:
                return None
            version, cipher, der = session.version() or "", session.cipher(), session.getpeercert(binary_form=True)
        outdated = tuple([name for name, number in OUTDATED if version == name or await self._accepts(service, number)])
        certificate, facts = read(der)
        return Evidence(
            tls=TlsFacts(version=version, cipher=cipher[0] if cipher else "", outdated=outdated, certificate=certificate), facts=facts
        )

    async def _accepts(self, service: Service, version: ssl.TLSVersion) -> bool:
        try:
            async with service.open(context(version)):
                return True
        except (OSError, TimeoutError):
            return False


def read(der: bytes | None) -> tuple[Certificate | None, dict[str, str]]:
    """The certificate's facts, or the fact that it can't be read."""
    if not der:
        return None, {}
    try:
        return read_certificate(der), {}
    except ValueError:
        return None, {"tls.certificate": "unreadable"}


PROBE = Tls()
