"""Hostile and odd versions: a verdict always comes, soon, and the order in which ranges stand changes nothing."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from infra.core.ports import Record, TableIndex
from processors.correlate.intel_sieve import IntelSieve
from processors.match.evidence import seen, seen_in
from processors.match.matching import keys_of, known, match
from processors.match.phrases import read
from processors.match.rulings import Verdict
from processors.match.versions import compare
from schemas.codec import Codec
from schemas.events.intel import AffectedProduct, IntelRecord, VersionChange, VersionRange, VersionStatus
from schemas.events.observations import ServiceObservation

CODEC = Codec()
AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
MOST_SECONDS = 0.02
SCHEMES = st.sampled_from(["", "semver", "custom", "rpm", "deb", "maven", "git", "nonsense"])
PLAIN = st.lists(st.integers(0, 5), min_size=1, max_size=3).map(lambda numbers: ".".join(map(str, numbers)))
ODD = st.one_of(
    PLAIN,
    st.text(max_size=40),
    st.from_regex(r"\A[0-9a-zA-Z.+~:_-]{0,30}\Z"),
    st.sampled_from(
        ["*", "n/a", "0", "2.*", "1.x", "< 2", "3 and prior", "1.2.3-rc1", "21.2R3-S7-EVO", "1:2-3+deb12u1", "١.٢", "next of 1.0"]
    ),
)
STATUS = st.sampled_from(VersionStatus)
NAMES = st.one_of(
    st.sampled_from(["acme", "Acme Inc.", "n/a", "server_x", "Server X", "Debian", "Red Hat", "openssh"]), st.text(max_size=20)
)


def spans(versions: st.SearchStrategy[str], schemes: st.SearchStrategy[str] = SCHEMES) -> st.SearchStrategy[VersionRange]:
    changes = st.lists(st.builds(VersionChange, at=versions, status=STATUS), max_size=3).map(tuple)
    return st.builds(
        VersionRange,
        status=STATUS,
        version=versions,
        after=st.booleans(),
        less_than=st.one_of(st.just(""), versions),
        less_than_or_equal=st.one_of(st.just(""), versions),
        scheme=schemes,
        changes=changes,
    )


def products(versions: st.SearchStrategy[str]) -> st.SearchStrategy[AffectedProduct]:
    return st.builds(
        AffectedProduct,
        vendor=NAMES,
        product=NAMES,
        source=st.sampled_from(["cna", "CISA-ADP", "nvd"]),
        package=st.one_of(st.just(""), NAMES),
        collection=st.sampled_from(["", "https://packages.debian.org/", "https://access.redhat.com/x", "\0://"]),
        cpes=st.lists(st.one_of(st.just("cpe:2.3:a:acme:server_x:*:*:*:*:*:*:*:*"), st.text(max_size=30)), max_size=2).map(tuple),
        platforms=st.lists(st.sampled_from(["Windows", "Linux", "SRX", ""]), max_size=2).map(tuple),
        default_status=STATUS,
        versions=st.lists(spans(versions), max_size=4).map(tuple),
    )


SEEN = st.builds(
    lambda cpe, version, builder, revision: seen((cpe,), version, builder, revision),
    st.one_of(
        st.builds("cpe:2.3:a:acme:server_x:{}:*:*:*:*:*:*:*".format, st.one_of(PLAIN, ODD)),
        st.just("cpe:/a:openbsd:openssh:9.2p1"),
        st.text(),
    ),
    ODD,
    st.sampled_from(["", "Debian", "Red Hat", "Ubuntu", "FreeBSD"]),
    ODD,
)


@given(SEEN, st.lists(products(ODD), max_size=4))
def test_a_verdict_always_comes_and_soon(shown: object, affected: list[AffectedProduct]) -> None:
    from processors.match.evidence import Seen

    assert isinstance(shown, Seen)
    record = IntelRecord(cve="CVE-2026-1", affected=tuple(affected), as_of=AS_OF)
    found = match(shown, known(record))
    assert found is None or (0 <= found.confidence <= 1 and found.reason and found.verdict in Verdict)
    sieve = IntelSieve(CODEC.header("intel"))
    whole = Record("intel", 0, 0, AS_OF, record.cve, record)
    for one in (whole, whole._replace(event=None, raw=CODEC.encode("intel", record))):
        index = TableIndex(sieve.keys_of)
        index.change(None, one)
        assert found is None or any(record.cve in index.entries.get(key, ()) for key in shown.keys)
        assert set(sieve.keys_of(one)) >= {key for key in keys_of(record) if not key.endswith("/")}


@given(SEEN, st.lists(products(PLAIN), min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_the_order_of_ranges_and_statements_changes_nothing(shown: object, affected: list[AffectedProduct], luck: object) -> None:
    import random

    from processors.match.evidence import Seen

    assert isinstance(shown, Seen)
    assert isinstance(luck, random.Random)
    mixed = [one.model_copy(update={"versions": tuple(luck.sample(one.versions, len(one.versions)))}) for one in affected]
    luck.shuffle(mixed)
    verdicts = [match(shown, known(IntelRecord(cve="CVE-2026-1", affected=tuple(one), as_of=AS_OF))) for one in (affected, mixed)]
    said = [one and (one.verdict, one.confidence, one.product, one.version) for one in verdicts]
    assert said[0] == said[1]


@given(ODD, ODD, SCHEMES)
def test_comparing_is_symmetric_and_a_version_is_itself(left: str, right: str, scheme: str) -> None:
    forth, back = compare(left, right, scheme), compare(right, left, scheme)
    assert (forth is None) == (back is None)
    assert forth is None or forth == -(back or 0)
    assert compare(left, left, scheme) in (0, None)


@given(PLAIN, PLAIN, PLAIN, st.sampled_from(["", "semver", "rpm", "maven"]))
def test_ends_of_a_range(low: str, high: str, version: str, scheme: str) -> None:
    """What plain numbers say, by lists of numbers: start ≤ version < end."""
    numbers = [tuple(int(one) for one in (*text.split("."), "0", "0")[:3]) for text in (low, version, high)]
    if scheme == "rpm" and len({text.count(".") for text in (low, high, version)}) > 1:
        return  # for rpm 1.0 is after 1
    if numbers[0] >= numbers[2] or not any(numbers[0]):
        return
    one = AffectedProduct(
        vendor="acme",
        product="server_x",
        default_status=VersionStatus.UNAFFECTED,
        versions=(VersionRange(version=low, less_than=high, scheme=scheme),),
    )
    found = match(seen((f"cpe:/a:acme:server_x:{version}",)), known(IntelRecord(cve="CVE-2026-1", affected=(one,), as_of=AS_OF)))
    assert found is not None
    assert (found.verdict is Verdict.AFFECTED) == (numbers[0] <= numbers[1] < numbers[2])


@given(st.text(max_size=600), st.text(max_size=600), st.lists(st.text(max_size=200), max_size=3))
def test_hostile_services_show_something_or_nothing(version: str, banner: str, cpes: list[str]) -> None:
    seen_in(ServiceObservation(port=22, version=version, banner=banner[:512], cpes=tuple(cpes)))


def test_no_text_takes_long() -> None:
    shapes = ["1.", "1a", "a1-", "((", "-", "~", "1-", "<= ", "1.2, ", "and prior ", "deb1", "el9_", ".x", "0" * 50 + "."]
    for shape in shapes:
        for size in (99, 4_000, 100_000):
            text = (shape * size)[:size]
            began = time.perf_counter()
            for scheme in ("", "semver", "rpm", "deb", "maven"):
                compare(text, f"{text}1", scheme)
            read(text, text)
            found = seen((f"cpe:2.3:a:acme:server_x:{text}:*:*:*:*:*:*:*",), text, "Debian", text)
            one = AffectedProduct(
                vendor=text, product=text, package=text, versions=(VersionRange(version=text, less_than=text, scheme="deb"),)
            )
            match(found, known(IntelRecord(cve="CVE-2026-1", affected=(one,), as_of=AS_OF)))
            assert time.perf_counter() - began < MOST_SECONDS * 5, (shape, size)
