"""The differ: what another scanner's words for a known service change, and what they leave."""

from __future__ import annotations

import pytest

from schemas.events.observations import ServiceObservation
from tests.sightings import HOST, Bench, http, kinds, observation, service, sweep

NMAP = ("import:nmap",)
OWN_SSH = service(22, service="ssh", product="OpenSSH", version="9.2p1", banner="SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3")
NMAP_SSH = service(
    22, service="ssh", product="OpenSSH", version="9.2p1 Debian 2+deb12u3", cpes=("cpe:/a:openbsd:openssh:9.2p1",), evidence=NMAP
)
OWN_HTTP = service(80, service="http", product="Apache", version="2.4.54", http=http("Apache/2.4.54 (Unix)", title="hello"))
NMAP_HTTP = service(80, service="http", product="Apache httpd", version="2.4.54", cpes=("cpe:/a:apache:http_server:2.4.54",), evidence=NMAP)


@pytest.mark.parametrize(("own", "other"), [(OWN_SSH, NMAP_SSH), (OWN_HTTP, NMAP_HTTP)])
def test_another_scanners_words_for_the_same_product_change_nothing(own: ServiceObservation, other: ServiceObservation) -> None:
    bench = Bench()
    bench.feed(sweep("u1", 10, {HOST: [own.port]}), observation("u1", 11, own))
    known = bench.asset().services[0].seen
    assert known is not None
    again = [
        *(observation("import", 20, other) for _ in range(2)),
        observation("u2", 30, own),
        observation("import again", 40, other),
    ]
    assert bench.feed(*again) == []
    seen = bench.asset().services[0].seen
    assert seen is not None
    assert (seen.http, seen.facts, seen.banner) == (known.http, known.facts, known.banner)


def test_our_own_look_after_an_import_adds_what_the_import_lacked_and_no_more() -> None:
    bench = Bench()
    bench.feed(sweep("import", 10, {HOST: [80]}), observation("import", 11, NMAP_HTTP))
    (told,) = bench.feed(observation("u1", 20, OWN_HTTP))
    assert "product" not in told.summary.partition(":")[0]
    assert "http title" in told.summary
    assert bench.feed(observation("import", 30, NMAP_HTTP), observation("u2", 40, OWN_HTTP)) == []


@pytest.mark.parametrize(
    "other",
    [
        service(80, service="http", product="nginx", version="1.22.1"),
        service(80, service="http", product="Apache Tomcat", version="2.4.54", cpes=("cpe:/a:apache:tomcat:2.4.54",)),
    ],
)
def test_another_product_takes_the_place_of_all_that_was_known(other: ServiceObservation) -> None:
    bench = Bench()
    bench.feed(sweep("u1", 10, {HOST: [80]}), observation("u1", 11, OWN_HTTP))
    changes = bench.feed(observation("u2", 20, other))
    assert kinds(changes) == ["service_changed:80"]
    assert changes[0].after is not None
    assert (changes[0].after.product, changes[0].after.http) == (other.product, None)


def test_a_look_whose_own_banner_names_no_package_takes_the_revision_back() -> None:
    bench = Bench()
    bench.feed(sweep("u1", 10, {HOST: [22]}), observation("u1", 11, OWN_SSH))
    own_build = service(22, service="ssh", product="OpenSSH", version="9.2p1", banner="SSH-2.0-OpenSSH_9.2p1")
    (told,) = bench.feed(observation("u2", 20, own_build))
    assert told.after is not None
    assert "package.revision" not in told.after.facts
