"""The state store: what is kept in memory in front of RocksDB never says anything else than RocksDB."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from infra.kafka import statestore
from infra.kafka.deadletters import Fuse
from infra.kafka.statestore import StateStore


@pytest.mark.parametrize("seed", range(3))
def test_memory_in_front_says_what_was_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(statestore, "FRONT_BYTES", 3000)  # a dozen entries: most reads miss, halves change places all the time
    dice, truth = random.Random(seed), dict[tuple[int, str], bytes]()  # noqa: S311  repeatable, not secret
    store = StateStore(tmp_path, "cluster")
    for number in range(2000):
        partition, key = dice.randrange(2), f"k{dice.randrange(30)}"
        if dice.random() < 0.4:
            value = None if dice.random() < 0.2 else b"v%d" % number
            if dice.random() < 0.1:
                store.restore(partition, [(key.encode(), b"older"), (key.encode(), value)], number)
                store.settle()
            else:
                store.write(partition, {key: value}, number)
            truth.pop((partition, key), None)
            if value is not None:
                truth[partition, key] = value
        elif dice.random() < 0.01:
            store.wipe(partition)
            truth = {place: value for place, value in truth.items() if place[0] != partition}
        assert store.get(partition, key) == truth.get((partition, key))
    assert {(0, key): value for key, value in store.scan(0, "")} == {place: value for place, value in truth.items() if place[0] == 0}
    assert len(store._recent) + len(store._older) <= 3000 // statestore.OVERHEAD + 2
    store.close()


def test_what_was_restored_and_settled_outlives_a_crash_with_what_was_written_behind_it(tmp_path: Path) -> None:
    crash = "import os; from pathlib import Path; from infra.kafka.statestore import StateStore; store = StateStore(Path('.'), 'cluster');"
    work = "store.restore(0, [(b'a', b'1')], 7); store.settle(); store.write(1, {'b': b'2'}, 9); os._exit(0)"
    subprocess.run(
        [sys.executable, "-c", crash + work], cwd=tmp_path, check=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    )
    store = StateStore(tmp_path, "cluster")
    assert (store.get(0, "a"), store.offset(0), store.get(1, "b"), store.offset(1)) == (b"1", 7, b"2", 9)
    store.close()


def test_a_fuse_counts_many_as_it_counts_one_by_one() -> None:
    dice = random.Random(1)  # noqa: S311  repeatable, not secret
    for _ in range(50):
        verdicts = [dice.random() < 0.5 for _ in range(dice.randrange(300))]
        one, many = Fuse(), Fuse()
        for bad in verdicts:
            one.note(bad=bad)
        many.note_all(verdicts)
        assert one == many
