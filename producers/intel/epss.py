"""EPSS: the daily scores of FIRST's Exploit Prediction Scoring System, as CSV (https://www.first.org/epss/data_stats).

The first line says the model and the day (`#model_version:v2025.03.14,score_date:2026-03-01T00:00:00+0000`), the second the columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from producers.intel.statements import EMPTY, FeedError, Fields, moment, shown, source

HEAD = re.compile(rb"#\s*model_version:([\w.\-]{1,64}),\s*score_date:([0-9T:+\-.Z]{10,40})")
COLUMNS = b"cve,epss,percentile"
NUMBER = rb"([01]?\.[0-9]{1,20}|[01]|[0-9](?:\.[0-9]{1,20})?[eE]-[0-9]{1,3})"
ROW = re.compile(rb"(CVE-[0-9]{4}-[0-9]{4,19})," + NUMBER + rb"," + NUMBER)


def read_epss(lines: Iterable[bytes], url: str = "") -> Iterator[Fields]:
    """The statements of a day, from its lines with their ends. Raises FeedError with the line that is wrong, or if the last was cut."""
    rows = iter(lines)
    head = HEAD.fullmatch(next(rows, b"").strip())
    if head is None:
        raise FeedError("line 1 is not '#model_version:…,score_date:…'")
    model, as_of = head[1].decode(), moment(head[2].decode(), "line 1: score_date")
    if next(rows, b"").strip() != COLUMNS:
        raise FeedError(f"line 2 is not '{COLUMNS.decode()}'")
    said = [source("epss", as_of, url)]
    line, number = b"\n", 2
    for number, line in enumerate(rows, 3):
        found = ROW.fullmatch(line.rstrip(b"\r\n"))
        if found is None:
            raise FeedError(f"line {number} is not a CVE and two numbers from 0 to 1: {shown(line[:80])}")
        score, percentile = float(found[2]), float(found[3])
        if score > 1 or percentile > 1:
            raise FeedError(f"line {number}: a score is above 1: {shown(line[:80])}")
        yield {
            **EMPTY,
            "cve": found[1].decode(),
            "epss": score,
            "epss_percentile": percentile,
            "epss_model": model,
            "sources": said,
            "as_of": as_of,
        }
    if not line.endswith(b"\n"):
        raise FeedError(f"line {number} is the last and has no end: the file was cut")
    if number == 2:
        raise FeedError("no score follows the header: the file was cut")
