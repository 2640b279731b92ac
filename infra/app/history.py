"""The state of a zone as it was at some moment, from ClickHouse: the last change of each service and host until then.

Changes are kept for 400 days, what was swept for 90; what is older than that, and never changed since, is told by the current state.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

from infra.app.querying import rows_of
from producers.imports.comparing import HostView, PortKey, PortView, Snapshot
from producers.imports.scanfile import Rest
from producers.imports.snapshots import NOT_OPEN
from schemas.events.base import PortRange, Transport
from schemas.portset import joined, parse_ports, ranges, without

SERVICES = """
SELECT address, transport, port, argMax(kind, revision) AS last_kind, argMax(service_after, revision) AS service,
    argMax(product_after, revision) AS product, argMax(version_after, revision) AS version,
    argMax(certificate_sha256_after, revision) AS certificate
FROM changes FINAL WHERE zone = {zone} AND observed_at <= {at} AND port > 0
    AND kind IN ('service_opened', 'service_closed', 'service_changed', 'certificate_changed', 'service_flapping')
GROUP BY address, transport, port
"""
HOSTS = """
SELECT address, argMax(kind, revision) AS last_kind FROM changes FINAL
WHERE zone = {zone} AND observed_at <= {at} AND kind IN ('host_up', 'host_down') GROUP BY address
"""
UNCHANGED = """
SELECT address, transport, port, status, service, product, version, certificate_sha256 AS certificate FROM services FINAL
WHERE zone = {zone} AND first_seen <= {at}
    AND (address, transport, port) NOT IN (SELECT address, transport, port FROM changes WHERE zone = {zone})
"""
SWEPT = """
SELECT address, transport, groupUniqArray(ports) AS swept FROM sweeps FINAL ARRAY JOIN addresses AS address
WHERE zone = {zone} AND finished_at <= {at} AND complete AND recall >= {recall} AND address IN ({addresses})
GROUP BY address, transport
"""
MOST_ASKED = 2000
GOOD_RECALL = 0.9  # below it silence says nothing (DESIGN.md 4.4)
CERTIFICATE = "certificate"
STATES = {"service_closed": NOT_OPEN, "closed": NOT_OPEN, "service_flapping": frozenset({"open", "closed"})}


def snapshot_at(when: datetime, zone: str) -> Snapshot:
    """What was known of a zone's services at a moment. Raises MissingPrerequisite where ClickHouse does not answer."""
    ports: dict[str, dict[PortKey, PortView]] = {}
    for row in (*_rows(SERVICES, when, zone), *_rows(UNCHANGED, when, zone)):
        key = PortKey(Transport(row["transport"]), int(row["port"]))
        ports.setdefault(row["address"], {})[key] = _port(row)
    status = {row["address"]: "up" if row["last_kind"] == "host_up" else "down" for row in _rows(HOSTS, when, zone)}
    hosts = {address: HostView(status.get(address, ""), ports.get(address, {})) for address in ports.keys() | status.keys()}
    return Snapshot(f"{zone} at {when:%Y-%m-%d %H:%M:%S}Z", hosts, scripts=frozenset({CERTIFICATE}), words="driftline")


def with_looks(snapshot: Snapshot, when: datetime, zone: str, addresses: Collection[str]) -> Snapshot:
    """The same with the ports of these hosts that were swept until then and are not known: those had nothing open."""
    swept: dict[str, list[Rest]] = {}
    asked = sorted(addresses)
    for some in (asked[at : at + MOST_ASKED] for at in range(0, len(asked), MOST_ASKED)):
        for row in _rows(SWEPT, when, zone, addresses=", ".join(map(_text, some)), recall=GOOD_RECALL):
            transport, address = Transport(row["transport"]), str(row["address"])
            looked = joined(span for text in row["swept"] for span in _ports(text))
            known = snapshot.hosts[address].ports if address in snapshot.hosts else {}
            left = without(looked, ranges(key.port for key in known if key.transport is transport))
            if left:
                swept.setdefault(address, []).append(Rest(transport, left, NOT_OPEN))
    hosts = dict(snapshot.hosts)
    for address, rest in swept.items():
        hosts[address] = replace(hosts.get(address, HostView()), rest=tuple(rest))
    return replace(snapshot, hosts=hosts)


def _rows(sql: str, when: datetime, zone: str, **more: object) -> Iterator[dict[str, Any]]:
    at = f"fromUnixTimestamp64Milli({round(when.timestamp() * 1000)})"
    yield from rows_of(sql.format(zone=_text(zone), at=at, **more))[1]


def _port(row: dict[str, Any]) -> PortView:
    words = " ".join(filter(None, (row["service"], row["product"], row["version"])))
    scripts = {CERTIFICATE: row["certificate"]} if row["certificate"] else {}
    states = STATES.get(row.get("last_kind") or row.get("status", ""), frozenset({"open"}))
    return PortView(states, words if states != NOT_OPEN else None, scripts)


def _ports(text: str) -> tuple[PortRange, ...]:
    return parse_ports(text) if text else ()


def _text(value: str) -> str:
    """A text for SQL."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
