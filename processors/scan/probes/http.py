"""GET / over HTTP or HTTPS: status, title, server and an allow-list of headers. The answer is parsed here, since it is hostile input."""

from __future__ import annotations

import re

from processors.enrich.texts import title_in
from processors.scan.probe import Service, ServiceProbe, Traits
from processors.scan.probes.tls import context
from processors.scan.probing.evidence import Evidence, clean
from schemas.events.observations import HttpFacts

MOST_BYTES = 64 * 1024
MOST_LINES = 100
SECONDS = 4.0
KEPT_HEADERS = frozenset(
    {
        "access-control-allow-origin",
        "content-security-policy",
        "content-type",
        "permissions-policy",
        "referrer-policy",
        "strict-transport-security",
        "via",
        "www-authenticate",
        "x-aspnet-version",
        "x-content-type-options",
        "x-frame-options",
        "x-generator",
        "x-powered-by",
    }
)
CHANGING = re.compile(r"nonce(-[\w+/=-]+|=\"[^\"]*\")|opaque=\"[^\"]*\"")  # CSP and digest nonces differ each time
SERVER = re.compile(r"(?P<product>[^/()]+?)(?:/(?P<version>[\w.+~-]+))?(?:\s+(?P<extra>.*))?$")


class Http(ServiceProbe):
    """One GET, with the pinned name as Host where there is one."""

    traits = Traits(name="http", cost=8, yields=("service", "product", "version", "extra", "http"))

    async def look(self, service: Service) -> Evidence | None:
        """Facts of the answer; nothing is sent where another service was recognised."""
        secure = service.known.tls is not None
        if service.known.service not in ("", "http") or not (secure or service.known.service):
            return None
        host = service.name or (f"[{service.address}]" if ":" in service.address else service.address)
        if service.port != (443 if secure else 80):
            host = f"{host}:{service.port}"
        request = f"GET / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: driftline\r\nAccept: */*\r\nConnection: close\r\n\r\n".encode(
            "ascii", "replace"
        )
        data = b""
        for _ in range(2 if service.left else 1):  # one that was left open may have ended meanwhile
            async with service.open(context() if secure else None) as wire:
                await wire.send(request)
                data = await wire.read_all(limit=MOST_BYTES, seconds=SECONDS)
            if data:
                break
        return read_answer(data, secure=secure)


def read_answer(data: bytes, *, secure: bool) -> Evidence | None:
    """An HTTP/1 answer (RFC 9112) as evidence, or None if it is none."""
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")[:MOST_LINES]
    found = re.match(rb"HTTP/1\.[01] (\d{3})(?: |$)", status)
    if not found:
        return None
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        headers.setdefault(clean(name).lower(), CHANGING.sub("nonce", clean(value)))
    server = SERVER.match(headers.get("server", ""))
    named = {key: clean(value) for key, value in (server.groupdict() if server else {}).items() if value}
    facts = HttpFacts(
        status=int(found[1]),
        title=clean(title_in(body)),
        server=headers.get("server", ""),
        location=headers.get("location", ""),
        headers={name: headers[name] for name in sorted(KEPT_HEADERS & headers.keys())},
    )
    return Evidence(
        service="https" if secure else "http",
        product=named.get("product", ""),
        version=named.get("version", ""),
        extra=named.get("extra", ""),
        banner=clean(status),
        http=facts,
    )


PROBE = Http()
