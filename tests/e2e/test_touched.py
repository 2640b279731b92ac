"""`driftline touched` agrees with the capture of a whole look, IPv4 and IPv6, by address and kind."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_address

import pytest

from tests.e2e.capture import sent
from tests.e2e.conftest import World
from tests.pipelines import Row

pytestmark = [pytest.mark.kafka, pytest.mark.store, pytest.mark.namespace, pytest.mark.long, pytest.mark.timeout(400)]


def spelt_out(rows: list[Row]) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for row in rows:
        for number in range(int(row["first_ip"]), int(row["last_ip"]) + 1):
            address = ip_address(number)
            found[str(getattr(address, "ipv4_mapped", None) or address), row["kind"]] += row["packets"]
    return found


def test_the_table_holds_what_the_capture_saw(world: World) -> None:
    packets = [one for one in sent(world.packets) if one.kind != "neighbour"]
    until = max(one.at for one in packets)
    rows = world.pipeline.rows(
        "SELECT * FROM touches FINAL WHERE run_id IN (SELECT run_id FROM runs)"
        " AND (startsWith(subnet, '198.18.230.') OR startsWith(subnet, '2001:db8:18:e6:')) "
        "AND toUnixTimestamp64Milli(first_at) <= {t:Int64}",
        t=int(until * 1000) + 1,
    )
    assert all(row["exact"] for row in rows)
    assert spelt_out(rows) == Counter((one.to, one.kind) for one in packets)
    assert len({row["kind"] for row in rows}) >= 2


def test_the_command_says_how_many_when_and_by_whose_word(world: World) -> None:
    address = next(one.address for one in world.first.truth)
    packets = [one for one in sent(world.packets) if one.to == address and one.kind != "neighbour"]
    told = world.pipeline.json("touched", address)
    assert told["packets"] >= len(packets) > 100
    assert told["exact"] is True
    assert {row["grant_id"] for row in told["touches"]} >= {"full"}
    assert all(row["issued_by"] and row["agent_id"] and row["unit_id"] and row["ports"] is not None for row in told["touches"])
    shown = world.pipeline.cli("touched", address, "--from", "-2h")
    assert f"packets to {address} between" in shown.stderr
    each = world.pipeline.json("touched", address, "--each")
    assert sum(row["packets"] for row in each["touches"]) == each["packets"] >= told["packets"]


def test_nothing_is_said_clearly_with_up_to_when_that_is_known(world: World) -> None:
    shown = world.pipeline.cli("touched", "198.18.255.1")
    assert "No scanner of ours is known to have sent a packet to 198.18.255.1 up to" in shown.stderr
    assert "It is complete up to" in shown.stderr
    told = world.pipeline.json("touched", "198.18.255.1", "--to", "-1m")
    assert (told["packets"], told["touches"]) == (0, [])
    assert told["complete_to"] is not None
    world.pipeline.cli("touched", "nowhere.example", code=2)
    world.pipeline.cli("touched", "198.18.255.1", "--from", "now", "--to", "-1h", code=2)
