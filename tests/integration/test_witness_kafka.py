"""What a scanner tells of its packets where the kernel gives it no tap, and of attempts whose result is never published."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from processors.scan.witness import witness
from schemas.events.touches import Touches
from schemas.portset import expand
from tests.scan_bench import Bench, wait_for
from tests.scan_samples import make_grant, make_unit, packets_on

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


@pytest.fixture
def bench(kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Scanners without CAP_NET_RAW, as far as the witness can tell."""

    def refused(_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(witness, "Tap", refused)
    with ExitStack() as stack:
        made = Bench(kafka, tmp_path, stack)
        made.say("grants", "lab", make_grant())
        yield made


def told(bench: Bench) -> Counter[tuple[str, int]]:
    found: Counter[tuple[str, int]] = Counter()
    for record in bench.events("touches"):
        assert isinstance(record, Touches)
        assert not record.exact
        for one in record.touches:
            assert one.first == one.last
            for port in expand(one.ports):
                found[one.first, port] += one.packets // len(expand(one.ports))
    return found


def test_what_the_gate_let_through_is_told_and_marked(bench: Bench) -> None:
    bench.push(*[make_unit(number, ports=5 + number) for number in range(1, 6)])
    bench.thread()
    wait_for(lambda: len(bench.sweeps()) == 5)
    sent = Counter((one.address, one.port) for one in packets_on(bench.wire))
    assert sent.total() == 40
    wait_for(lambda: told(bench) == sent)
    records = [one for one in bench.events("touches") if isinstance(one, Touches)]
    assert len({one.record_id for one in records}) == len(records)


def test_an_attempt_that_fails_or_is_revoked_is_told_too(bench: Bench) -> None:
    bench.thread()
    bench.push(make_unit(3, probes=("broken",)), make_unit(1, ports=1000, rate=50))
    wait_for(lambda: len(packets_on(bench.wire)) > 20)
    bench.say("grants", "lab", make_grant(2, revoked=True, reason="test"))
    wait_for(lambda: len(bench.sweeps()) == 2)
    assert all(not one.complete for one in bench.sweeps())
    sent = Counter((one.address, one.port) for one in packets_on(bench.wire))
    assert len({address for address, _ in sent}) == 2
    wait_for(lambda: told(bench) == sent)


def test_while_packets_leave_they_are_told_within_seconds(bench: Bench) -> None:
    bench.thread()
    bench.push(make_unit(1, ports=1000, rate=50))
    wait_for(lambda: told(bench).total() > 20)
    assert bench.sweeps() == []
