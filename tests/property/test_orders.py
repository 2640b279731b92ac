"""What is frozen is the same for who reads the whole log of commands and for who reads what compaction left of it."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from processors.scan.scope.orders import Orders, key_of_order
from schemas.events.grants import Command, CommandKind

AT = datetime(2026, 5, 1, tzinfo=UTC)
commands = st.builds(
    lambda agent, kind, network: Command(
        agent_id=agent, kind=kind, networks=network if kind in (CommandKind.FREEZE, CommandKind.THAW) else (), issued_by="x", issued_at=AT
    ),
    st.sampled_from(("*", "me", "other")),
    st.sampled_from(sorted(CommandKind)),
    st.sampled_from(
        [(), ("198.18.0.0/24",), ("198.18.1.0/24",), ("198.18.0.0/16",), ("0.0.0.0/0",), ("::/0",), ("::ffff:198.18.0.0/120",), ("::/64",)]
    ),
)
logs = st.lists(commands, max_size=12)


def fold(log: list[Command]) -> Orders:
    orders = Orders()
    for one in log:
        orders = orders.after(one, "me")
    return orders


def compacted(log: list[Command]) -> list[Command]:
    """The last record of each key, in the order of the log."""
    last = {key_of_order(one): at for at, one in enumerate(log)}
    return [one for at, one in enumerate(log) if last[key_of_order(one)] == at]


@given(logs, st.integers(0, 12))
def test_compaction_up_to_anywhere_changes_no_order(log: list[Command], upto: int) -> None:
    whole, rest = fold(log), fold([*compacted(log[:upto]), *log[upto:]])
    assert (set(rest.frozen), rest.draining) == (set(whole.frozen), whole.draining)


@given(logs, st.integers(0, 12))
def test_reading_the_log_again_over_what_was_saved_changes_nothing(log: list[Command], upto: int) -> None:
    orders = Orders(frozen=fold(log[:upto]).frozen)
    for one in log:
        orders = orders.after(one, "me")
    assert set(orders.frozen) == set(fold(log).frozen)
