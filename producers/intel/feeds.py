"""The feeds by name: how a file of each is read into statements."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from producers.intel import cve, epss, kev, nvd
from producers.intel.json_stream import JsonStream
from producers.intel.opening import Opened, lines, open_feed
from producers.intel.statements import FeedError, Fields, Rejected

Statement = Fields | Rejected
MB = 1 << 20


@dataclass(frozen=True, slots=True)
class Feed:
    """A feed. `snapshot`: each file holds all of it, so that what is missing was withdrawn; otherwise it may hold a part.

    `files`: which files of a folder or zip belong to it; `most`: bytes that one may unpack to.
    """

    name: str
    snapshot: bool
    files: re.Pattern[str]
    most: int
    read: Callable[[Opened, str], Iterator[Statement]]


def statements(feed: Feed, path: Path, url: str = "") -> Iterator[Statement]:
    """What a file, folder or zip says. Raises FeedError that says which text is wrong and where, OSError for what can't be read."""
    for count, opened in enumerate(open_feed(path, feed.files, feed.most)):
        if count and feed.snapshot:
            raise FeedError(f"{path.name} holds more than one file of the feed")
        try:
            yield from feed.read(opened, url)
        except FeedError as error:
            inside = f"{opened.name}: " if opened.name != path.name else ""
            raise FeedError(f"{inside}{error}") from None


def _kev(opened: Opened, url: str) -> Iterator[Statement]:
    head, entries = JsonStream(opened.chunks).members(kev.MEMBERS)
    whole = list(entries)  # the date may stand behind them
    return kev.read_kev(head, whole, url)


def _epss(opened: Opened, url: str) -> Iterator[Statement]:
    return epss.read_epss(lines(opened.chunks), url)


def _cve(opened: Opened, url: str) -> Iterator[Statement]:
    empty = True
    for line, record in JsonStream(opened.chunks).values():
        empty = False
        yield cve.read_cve(record, f"line {line}", url)
    if empty:
        raise FeedError("it holds no record")


def _nvd(opened: Opened, url: str) -> Iterator[Statement]:
    head, entries = JsonStream(opened.chunks).members(nvd.MEMBERS)
    return nvd.read_nvd(head, entries, url)


BY_NAME: dict[str, Feed] = {
    one.name: one
    for one in (
        Feed("kev", True, re.compile(r".*\.json"), 64 * MB, _kev),
        Feed("epss", True, re.compile(r".*\.csv"), 256 * MB, _epss),
        Feed("cve", False, re.compile(r"CVE-[0-9]{4}-[0-9]{4,19}\.json"), 16_384 * MB, _cve),
        Feed("nvd", False, re.compile(r".*\.json"), 16_384 * MB, _nvd),
    )
}
