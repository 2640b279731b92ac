"""`driftline touched`: was it us?"""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from typing import Any

import typer

from infra.app.output import count, print_json, print_rows, tell
from infra.app.querying import rows_of
from infra.core.errors import BadInput
from producers.grants.wording import parse_past
from schemas.ids import subnet_of
from schemas.portset import parse_ports, show_ports

app = typer.Typer()
HELD = timedelta(seconds=5)
"""A scanner tells of a packet about a second after it left; one that can't reach Kafka stops sending within 5 s."""
ONE = "agent_id, zone, unit_id, attempt, run_id, campaign_id, grant_id, grant_revision, issued_by, kind"
QUERY = """
SELECT {first} AS first_at, {last} AS last_at, {one}, {ports} AS ports, {every} AS every_port, {packets} AS packets, {exact} AS exact
FROM touches AS t FINAL
WHERE t.subnet = '{subnet}' AND toIPv6('{address}') BETWEEN t.first_ip AND t.last_ip AND {when}
{group} ORDER BY first_at, last_at, kind, unit_id LIMIT {limit}
"""
SUMS = {
    "first": "min(t.first_at)",
    "last": "max(t.last_at)",
    "ports": "groupUniqArray(t.ports)",
    "every": "min(t.every_port)",
    "packets": "sum(t.packets)",
    "exact": "min(t.exact)",
}
EACH = {
    "first": "t.first_at",
    "last": "t.last_at",
    "ports": "[t.ports]",
    "every": "t.every_port",
    "packets": "t.packets",
    "exact": "t.exact",
}
MOST = 100_000
COLUMNS = (
    "first_at",
    "last_at",
    "agent_id",
    "kind",
    "ports",
    "packets",
    "unit",
    "attempt",
    "run",
    "campaign_id",
    "grant",
    "issued_by",
    "exact",
)
Row = dict[str, Any]


@app.command()
def touched(
    address: str = typer.Argument(help="The IP address."),
    since: str = typer.Option(
        None, "--from", help="From when on: -1h, '2d ago', 2027-01-31, 2027-01-31T18:00Z; default: all that is kept."
    ),
    until: str = typer.Option(None, "--to", help="Up to when; default: now."),
    each: bool = typer.Option(False, "--each", help="Second by second, instead of summed up by unit and kind."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON on standard output."),
) -> None:
    """Was it us? Which packets scanners sent to an address: when, which agent, for which unit, under whose grant."""
    target, now = _address(address), datetime.now(UTC)
    first = parse_past(since, now) if since else None
    last = parse_past(until, now) if until else now
    if first is not None and first > last:
        raise BadInput(f"'{since}' is after '{until or 'now'}'.", "Swap them.")
    rows = _rows(target, first, last, each)
    complete_to = _complete_to()
    total, exact = sum(int(row["packets"]) for row in rows), all(row["exact"] for row in rows)
    if as_json:
        told = {"address": target, "from": first, "to": last, "complete_to": complete_to, "packets": total, "exact": exact, "touches": rows}
        print_json(told)
        return
    span = f"between {_show(first)} and {_show(last)}" if first else f"up to {_show(last)}"
    filled = [name for name in COLUMNS if name != "campaign_id" or any(row[name] for row in rows)]
    print_rows(
        "touched", filled, [_short(row) for row in rows], False, f"No scanner of ours is known to have sent a packet to {target} {span}."
    )
    if rows:
        about = "" if exact else " at least: some were not counted by the tap (exact: no)"
        tell(f"{count(total, 'packet')} to {target} {span}{about}.")
    tell(_completeness(complete_to, last))


def _address(text: str) -> str:
    try:
        parsed = ipaddress.ip_address(text.strip())
    except ValueError:
        raise BadInput(f"'{text}' is no IP address.", "Give one, e.g. 198.18.1.7 or 2001:db8::7; names are not looked up here.") from None
    mapped = getattr(parsed, "ipv4_mapped", None)
    return str(mapped or parsed).partition("%")[0]


def _rows(target: str, first: datetime | None, last: datetime, each: bool) -> list[Row]:
    """What the table holds of this time: an entry counts whole if part of its second is in it."""
    when = [f"last_at >= {_sql(first)}"] if first else []
    when.append(f"first_at <= {_sql(last)}")
    sql = QUERY.format(
        **(EACH if each else SUMS),
        one=ONE,
        subnet=subnet_of(target),
        address=target,
        when=" AND ".join(f"t.{one}" for one in when),
        group="" if each else f"GROUP BY {ONE}",
        limit=MOST,
    )
    _, rows = rows_of(sql)
    return [{**row, "ports": _merged(row["ports"])} for row in rows]


def _merged(texts: list[str]) -> str:
    """The ports of several entries together."""
    known = ",".join(one for one in texts if one)
    return show_ports(parse_ports(known)) if known else ""


def _complete_to() -> datetime | None:
    """Up to when all that was sent is in the table; None while nobody knows."""
    _, rows = rows_of("SELECT complete_to FROM watermarks WHERE topic = 'touches'")
    moment: datetime | None = rows[0]["complete_to"] if rows else None
    return moment - HELD if moment is not None and moment.year > 1970 else None


def _completeness(complete_to: datetime | None, last: datetime) -> str:
    if complete_to is None:
        return "Up to when this is complete is not known: the archiver has not read all of the topic 'touches' yet."
    if complete_to >= last:
        return "For this time it is complete."
    return f"It is complete up to {_show(complete_to)}; what was sent later may not be here yet."


def _short(row: Row) -> Row:
    """A row for a line of a table."""
    some = "" if row["every_port"] else "some of "
    grant = f"{row['grant_id']} (revision {row['grant_revision']})"
    shown = {"unit": row["unit_id"][:8], "run": row["run_id"][:8], "grant": grant, "exact": "yes" if row["exact"] else "no"}
    return {**row, **shown, "ports": some + row["ports"]}


def _show(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def _sql(moment: datetime) -> str:
    return f"fromUnixTimestamp64Milli({round(moment.timestamp() * 1000)})"
