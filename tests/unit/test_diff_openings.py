"""The differ: what opens, what changes, and what is told of it."""

from __future__ import annotations

import pytest

from infra.core.errors import Poison
from infra.core.settings import DifferSettings
from schemas.events.assets import ServiceStatus
from schemas.events.observations import ServiceObservation, TlsFacts
from schemas.ids import asset_key
from tests.sightings import HOST, ZONE, Bench, at, http, kinds, observation, service, sweep, tls

SSH = service(22, banner="SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n", evidence=("banner",))
UNIT = (sweep("u1", 10, {HOST: [22]}), observation("u1", 11, SSH))


def test_a_new_service_is_told_once_with_what_was_seen_of_it() -> None:
    bench = Bench()
    assert bench.feed(UNIT[0]) == []
    changes = bench.feed(UNIT[1])
    assert kinds(changes) == ["host_up", "service_opened:22"]
    assert [one.revision for one in changes] == [1, 2]
    after = changes[1].after
    assert after is not None
    assert (after.product, after.version) == ("OpenSSH", "9.2p1 Debian 2+deb12u3")
    assert any(one.startswith("fingerprints@") for one in after.evidence)
    assert changes[1].evidence_ids == (UNIT[1].observation_id, "u1")
    assert [(one.topic, one.route) for one in bench.emitted] == [("changes", "default|198.18.0.0/24")] * 2


def test_the_observation_may_come_before_the_sweep() -> None:
    ahead, behind = Bench(), Bench()
    ahead.feed(*UNIT)
    behind.feed(*reversed(UNIT))
    assert kinds(ahead.changes) == kinds(behind.changes)
    assert [(one.seen, one.status) for one in ahead.asset().services] == [(one.seen, one.status) for one in behind.asset().services]


def test_a_port_that_the_observation_lacks_is_told_without_details() -> None:
    bench = Bench()
    changes = bench.feed(sweep("u1", 10, {HOST: [22, 80]}), UNIT[1])
    assert kinds(changes) == ["host_up", "service_opened:22", "service_opened:80"]
    assert changes[2].after == service(80)


def test_without_an_observation_the_next_look_tells() -> None:
    bench = Bench()
    assert bench.feed(UNIT[0], UNIT[0]) == []
    assert kinds(bench.feed(sweep("u2", 20, {HOST: [22]}))) == ["host_up", "service_opened:22"]


def test_the_same_unit_again_changes_nothing() -> None:
    bench = Bench()
    bench.feed(*UNIT)
    before = dict(bench.state.values)
    assert bench.feed(*UNIT, *UNIT) == []
    assert bench.state.values == before


def test_a_look_that_knows_less_erases_nothing() -> None:
    bench = Bench()
    bench.feed(*UNIT)
    assert bench.feed(sweep("u2", 60, {HOST: [22]}), observation("u2", 61, service(22))) == []
    seen = bench.service(22).seen
    assert seen is not None
    assert seen.product == "OpenSSH"


def test_another_version_is_told_with_before_and_after() -> None:
    bench = Bench()
    bench.feed(*UNIT)
    newer = SSH.model_copy(update={"banner": "SSH-2.0-OpenSSH_9.6p1 Debian-1\r\n"})
    changes = bench.feed(sweep("u2", 60, {HOST: [22]}), observation("u2", 61, newer))
    assert kinds(changes) == ["service_changed:22"]
    assert changes[0].before is not None
    assert changes[0].after is not None
    assert (changes[0].before.version, changes[0].after.version) == ("9.2p1 Debian 2+deb12u3", "9.6p1 Debian 1")


def test_nmap_saying_the_same_at_more_length_is_no_change() -> None:
    bench = Bench()
    bench.feed(sweep("u1", 10, {HOST: [22]}), observation("u1", 11, service(22, product="OpenSSH", version="9.2p1")))
    longer = service(22, product="OpenSSH", version="9.2p1 Debian 2+deb12u3")
    assert bench.feed(sweep("u2", 60, {HOST: [22]}), observation("u2", 61, longer)) == []
    assert bench.feed(sweep("u3", 90, {HOST: [22]}), observation("u3", 91, service(22, product="OpenSSH", version="9.2p1"))) == []
    seen = bench.service(22).seen
    assert seen is not None
    assert seen.version == "9.2p1 Debian 2+deb12u3"


NOISE = [
    (service(25, banner="220 a ESMTP Exim 4.96 Sat, 21 Nov"), service(25, banner="220 a ESMTP Exim 4.96 Sun, 22 Nov")),
    (service(80, http=http("nginx/1.22.1")), service(80, http=http("nginx/1.22.1", status=503, title="busy"))),
    (service(80, http=http("nginx", headers={"date": "Sat"})), service(80, http=http("nginx", headers={"date": "Sun"}))),
    (service(80, http=http(location="/in?session=1")), service(80, http=http(location="/in?session=2"))),
]


@pytest.mark.parametrize(("old", "new"), NOISE)
def test_noise_is_no_change_and_writes_no_state(old: object, new: object) -> None:
    bench = Bench()
    first, second = NOISE[[pair[0] for pair in NOISE].index(old)]  # type: ignore[arg-type]
    assert second == new
    bench.feed(sweep("u1", 10, {HOST: [first.port]}), observation("u1", 11, first))
    before = dict(bench.state.values)
    assert bench.feed(sweep("u2", 60, {HOST: [first.port]}), observation("u2", 61, second)) == []
    assert bench.state.values == before


@pytest.mark.parametrize(
    "new",
    [
        service(80, http=http("nginx/1.24.0", title="a")),
        service(80, http=http("nginx/1.22.1", title="b")),
        service(80, http=http("nginx/1.22.1", title="a", status=401)),
        service(80, http=http("nginx/1.22.1", title="a"), facts={"http.listing": "yes"}),
        service(80, http=http("nginx/1.22.1", title="a"), tls=tls("aa")),
    ],
)
def test_what_matters_is_told(new: object) -> None:
    bench = Bench()
    bench.feed(sweep("u1", 10, {HOST: [80]}), observation("u1", 11, service(80, http=http("nginx/1.22.1", title="a"))))
    changes = bench.feed(sweep("u2", 60, {HOST: [80]}), observation("u2", 61, new))  # type: ignore[arg-type]
    assert kinds(changes) == ["service_changed:80"]


def test_another_certificate_is_told_as_such() -> None:
    bench = Bench()
    bench.feed(sweep("u1", 10, {HOST: [443]}), observation("u1", 11, service(443, tls=tls("aa"))))
    changes = bench.feed(sweep("u2", 60, {HOST: [443]}), observation("u2", 61, service(443, tls=tls("bb"))))
    assert kinds(changes) == ["certificate_changed:443"]
    assert changes[0].before is not None
    assert changes[0].before.tls == tls("aa")
    assert changes[0].after is not None
    assert changes[0].after.tls == tls("bb")


def test_an_old_observation_that_comes_late_changes_nothing() -> None:
    bench = Bench()
    bench.feed(*UNIT)
    newer = SSH.model_copy(update={"banner": "SSH-2.0-OpenSSH_9.6p1 Debian-1\r\n"})
    bench.feed(sweep("u2", 60, {HOST: [22]}), observation("u2", 61, newer))
    before = dict(bench.state.values)
    assert bench.feed(*UNIT) == []
    assert bench.state.values == before


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (("198.18.0.1", "198.18.9.1", HOST), False),
        (("198.18.0.1", "", HOST), False),
        (("198.18.0.1", "198.18.9.2", HOST), True),
        (("198.18.0.1", HOST), True),
        (None, False),
    ],
)
def test_a_path_changes_where_hops_that_answered_differ(path: tuple[str, ...] | None, told: bool) -> None:
    bench = Bench()
    bench.feed(sweep("u1", 10, {HOST: [22]}), observation("u1", 11, SSH, path=("198.18.0.1", "198.18.9.1", HOST)))
    changes = bench.feed(sweep("u2", 60, {HOST: [22]}), observation("u2", 61, SSH, path=path))
    assert kinds(changes) == (["path_changed"] if told else [])
    if told:
        assert changes[0].path_before == ("198.18.0.1", "198.18.9.1", HOST)
        assert changes[0].path_after == path


def test_times_are_written_when_they_are_so_much_newer() -> None:
    bench = Bench(DifferSettings(seen_minutes=5))
    bench.feed(*UNIT)
    bench.feed(sweep("u2", 200, {HOST: [22]}), observation("u2", 201, SSH))
    assert bench.asset().last_seen == at(11)
    bench.feed(sweep("u3", 400, {HOST: [22]}), observation("u3", 401, SSH))
    assert bench.asset().last_seen == at(400)


def test_a_tarpit_does_not_grow_the_state_without_bound() -> None:
    bench = Bench()
    bench.feed(sweep("u1", 10, {HOST: range(1, 3001)}, ports="1-3000"), observation("u1", 11))
    assert len(bench.asset().services) == 1000
    assert bench.service(1).status is ServiceStatus.OPEN


def chatty(port: int, length: int = 512) -> ServiceObservation:
    names = tuple(f"{number:03}.{'x' * 240}" for number in range(100))
    certificate = tls("ab" * 32).certificate
    assert certificate is not None
    worst = TlsFacts(version="TLSv1.3", certificate=certificate.model_copy(update={"names": names}))
    return service(port, service="http", product="p" * length, banner="é" * length, tls=worst)


def test_a_host_that_answers_everywhere_with_much_to_say_stays_small() -> None:
    """Kafka refuses a record of more than 1 MB: the role would fail at the same record for ever."""
    bench, ports = Bench(), range(1, 1001)
    bench.feed(sweep("u1", 10, {HOST: ports}), observation("u1", 11, *map(chatty, ports)))
    value = bench.state.values[asset_key(ZONE, HOST)]
    assert len(value) < 400_000
    assert len(bench.asset().services) == 1000
    assert bench.service(1).seen == chatty(1)
    assert bench.service(1000).seen == service(1000, service="http")
    told = [one for one in bench.changes if one.port == 1000]
    assert [one.after for one in told] == [service(1000, service="http")]
    assert bench.feed(sweep("u2", 500, {HOST: ports}), observation("u2", 501, *map(chatty, ports))) == []
    for number, unit in enumerate(("u3", "u4", "u5", "u6")):
        missed = 4000 * (number + 1)
        bench.feed(sweep(unit, missed, closed={HOST: "1-1000"}))
    assert len(bench.state.values[asset_key(ZONE, HOST)]) < 512_000


def test_a_banner_that_varies_does_not_take_details_away() -> None:
    bench, ports = Bench(), range(1, 7)
    bench.feed(sweep("u1", 10, {HOST: ports}), observation("u1", 11, *map(chatty, ports)))
    kept = [one.seen for one in bench.asset().services]
    assert bench.service(4).seen == chatty(4)
    assert bench.service(6).seen == service(6, service="http")
    longer = [chatty(port).model_copy(update={"banner": "é" * 600}) for port in ports]
    assert bench.feed(sweep("u2", 500, {HOST: ports}), observation("u2", 501, *longer)) == []
    assert [one.seen for one in bench.asset().services] == kept


@pytest.mark.parametrize("address", ["198.18.1.7", "198.18.0.256", "nonsense"])
def test_an_address_outside_its_subnet_is_poison(address: str) -> None:
    with pytest.raises(Poison, match=address):
        Bench().feed(sweep("u1", 10, {address: [22]}))


def test_a_tombstone_is_poison() -> None:
    from infra.core.ports import Context, FixedTables, MemoryState, Record
    from infra.core.settings import DifferSettings
    from processors.diff.differ import Differ
    from schemas.codec import Codec
    from tests.sightings import START

    step = Differ(DifferSettings(), Codec())
    with pytest.raises(Poison):
        list(step.handle(Record("probes", 0, 0, START, "k", None), Context(0, 1, MemoryState(), FixedTables())))
