"""Fetches a feed over HTTP into a file: only if it changed, only by http(s), within limits of size and time.

The body is taken as it comes and unpacked later, under the limits of `producers/intel/opening.py`: a server could pack a bomb into a
content encoding as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from producers.intel.statements import FeedError

MOST_REDIRECTS = 5
WAIT_SECONDS = 30.0
"""Longest wait for a connection or for the next bytes."""
Told = Callable[[int, int | None], None]
"""Is told how many bytes came, of how many (None: the server does not say)."""


@dataclass(frozen=True, slots=True)
class Validators:
    """What a server gave to ask later whether its text has changed (RFC 9110, 8.8): its ETag and Last-Modified, '' where it gave none."""

    etag: str = ""
    last_modified: str = ""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Most bytes of a body, and most seconds for all of it."""

    most: int
    seconds: float


def fetch(url: str, to: Path, known: Validators, bounds: Bounds, told: Told = lambda *_: None) -> Validators | None:
    """Put the body into a file; None if it has not changed since `known`. Raises FeedError with the reason."""
    try:
        return asyncio.run(_fetch(url, to, known, bounds, told))
    except TimeoutError:
        came = to.stat().st_size if to.exists() else 0
        raise FeedError(f"it took too long: {came} bytes came in time") from None
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise FeedError(f"it can't be fetched ({type(error).__name__}: {error})") from None


async def _fetch(url: str, to: Path, known: Validators, bounds: Bounds, told: Told) -> Validators | None:
    headers = {"User-Agent": "driftline", "Accept-Encoding": "identity"}
    headers |= {name: value for name, value in (("If-None-Match", known.etag), ("If-Modified-Since", known.last_modified)) if value}
    async with (
        asyncio.timeout(bounds.seconds),  # httpx's own limits are for each read: a server that drips would hold us for ever
        httpx.AsyncClient(timeout=WAIT_SECONDS, follow_redirects=False) as client,
    ):
        place = httpx.URL(url)
        for _ in range(MOST_REDIRECTS + 1):
            async with client.stream("GET", place, headers=headers) as response:
                if response.has_redirect_location:
                    place = _next_place(place, response)
                elif response.status_code == httpx.codes.NOT_MODIFIED and (known.etag or known.last_modified):
                    return None
                elif response.status_code == httpx.codes.OK:
                    await _save(response, to, bounds.most, told)
                    return Validators(_validator(response, "ETag", 512), _validator(response, "Last-Modified", 128))
                else:
                    raise FeedError(f"the server answers {response.status_code} {response.reason_phrase}".rstrip())
    raise FeedError(f"the server redirects more than {MOST_REDIRECTS} times")


def _validator(response: httpx.Response, name: str, most: int) -> str:
    """What the server gave, as it can be sent back; '' for what can't: half an ETag would match nothing."""
    value: str = response.headers.get(name, "")
    return value if len(value) <= most and value.isascii() and value.isprintable() else ""


def _next_place(place: httpx.URL, response: httpx.Response) -> httpx.URL:
    """Where a redirect leads. Raises FeedError where it leaves http(s), or encryption."""
    there = place.join(response.headers["Location"])
    if there.scheme not in ("http", "https") or (place.scheme == "https" and there.scheme != "https"):
        raise FeedError(f"the server redirects from {place.scheme} to {there.scheme or 'nowhere'}, which is not followed")
    return there


async def _save(response: httpx.Response, to: Path, most: int, told: Told) -> None:
    length = response.headers.get("Content-Length", "")
    total = int(length) if length.isdecimal() else None
    if total is not None and total > most:
        raise FeedError(f"it has {total} bytes, more than {most}")
    came = 0
    with to.open("wb", buffering=0) as file:
        async for chunk in response.aiter_raw():
            came += len(chunk)
            if came > most:
                raise FeedError(f"it has more than {most} bytes")
            file.write(chunk)
            told(came, total)
