"""Times as people type them: windows (`mon-fri 22:00-24:00`), expiries (`30d`, `12h`, `2027-01-31`) and moments past (`-1h`). Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from infra.core.errors import BadInput
from schemas.events.grants import Window

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
WINDOW = re.compile(r"([a-z,-]+) +([0-9]{1,2}):([0-9]{2})-([0-9]{1,2}):([0-9]{2})")
SPAN = re.compile(r"([0-9]{1,5})([mhdw])")
AGO = re.compile(r"-?([0-9]{1,9})([smhdw])(?: ago)?")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_window(text: str) -> Window:
    """A weekly span in UTC. Raises BadInput for anything that is not like `mon-fri 22:00-24:00` or `sat,sun 00:00-24:00`."""
    wrong = BadInput(f"'{text}' is not a window.", "Write it in UTC as 'mon-fri 22:00-24:00' or 'sat,sun 00:00-24:00'.")
    found = WINDOW.fullmatch(text.strip().lower())
    if not found:
        raise wrong
    days: set[int] = set()
    for part in found[1].split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise wrong
        start, end = DAYS.index(first), DAYS.index(last or first)
        days |= set(range(start, end + 1)) if start <= end else {*range(start, 7), *range(end + 1)}
    begin, finish = int(found[2]) * 60 + int(found[3]), int(found[4]) * 60 + int(found[5])
    if not begin < finish <= 1440 or int(found[3]) > 59 or int(found[5]) > 59:
        raise wrong
    return Window(weekdays=tuple(sorted(days)), from_minute=begin, to_minute=finish)


def parse_expiry(text: str, now: datetime) -> datetime:
    """A moment in UTC: `30d` from now (m, h, d, w), a date, or a date and time (ISO 8601). Raises BadInput for anything else."""
    span = SPAN.fullmatch(text.strip())
    try:
        if span:
            return now + timedelta(**{UNITS[span[2]]: int(span[1])})
        moment = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise BadInput(f"'{text}' is not a time.", "Write '30d', '12h', '2027-01-31' or '2027-01-31T18:00Z'.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def parse_past(text: str, now: datetime) -> datetime:
    """A moment in UTC: `-1h` or `1h ago` (s, m, h, d, w), `now`, a date, or a date and time. Raises BadInput for anything else."""
    text = text.strip()
    span = AGO.fullmatch(text)
    try:
        if span:
            return now - timedelta(**{UNITS[span[2]]: int(span[1])})
        moment = now if text == "now" else datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise BadInput(f"'{text}' is not a time.", "Write '-1h', '2d ago', '2027-01-31' or '2027-01-31T18:00Z'.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
