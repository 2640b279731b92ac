"""What a host with many talkative services tells, made to fit a record: ports stay, details go. Pure."""

from __future__ import annotations

from schemas.events.observations import Certificate, HttpFacts, ServiceObservation

MOST_BYTES = 400 * 1024  # of all services of a host; with its names and path an observation stays below 512 KiB
MOST_NAMES = 100
STEPS = ((20, 128), (0, 32))  # names of a certificate that are kept, characters of each text


def fitted(services: tuple[ServiceObservation, ...]) -> tuple[ServiceObservation, ...]:
    """The services as they are if they fit together; else each that takes more than its equal part is cut, the same way each time."""
    sizes = [size(one) for one in services]
    if sum(sizes) <= MOST_BYTES:
        return services
    part = MOST_BYTES // len(services)
    return tuple(one if bytes_ <= part else cut(one, part) for one, bytes_ in zip(services, sizes, strict=True))


def size(service: ServiceObservation) -> int:
    """About its bytes in a record: names of fields, which Avro leaves out, weigh up what is empty here."""
    return len(service.model_dump_json(exclude_defaults=True).encode())


def cut(service: ServiceObservation, most: int) -> ServiceObservation:
    """The service with as much detail as fits; in the end its port alone."""
    for names, text in STEPS:
        smaller = shortened(service, names, text)
        if size(smaller) <= most:
            return smaller
    named = {"service": service.service[:32], "product": service.product[:32], "version": service.version[:32]}
    bare = ServiceObservation(port=service.port, transport=service.transport)
    smaller = bare.model_copy(update=named)
    return smaller if size(smaller) <= most else bare


def shortened(service: ServiceObservation, names: int, text: int) -> ServiceObservation:
    """The service with shorter texts and certificates."""
    tls, http = service.tls, service.http
    if tls is not None and tls.certificate is not None:
        tls = tls.model_copy(update={"certificate": _certificate(tls.certificate, names, text)})
    update = {
        "extra": service.extra[:text],
        "cpes": tuple(one for one in service.cpes if len(one) <= text),
        "banner": service.banner[:text],
        "facts": {name: value[:text] for name, value in service.facts.items()},
        "tls": tls,
        "http": _http(http, text) if http is not None else None,
    }
    return service.model_copy(update=update)


def _certificate(found: Certificate, names: int, text: int) -> Certificate:
    return found.model_copy(update={"names": found.names[:names], "subject": found.subject[:text], "issuer": found.issuer[:text]})


def _http(found: HttpFacts, text: int) -> HttpFacts:
    headers = {name: value[:text] for name, value in found.headers.items()}
    return found.model_copy(
        update={"title": found.title[:text], "server": found.server[:text], "location": found.location[:text], "headers": headers}
    )
