"""One POST to a receiver: what became of it, within a time that it can't stretch. No redirect is followed, no answer's body is read."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import httpx

AGAIN = frozenset({408, 425, 429})
"""Statuses below 500 that may pass (RFC 9110, RFC 6585, RFC 8470). Any other is the receiver's last word."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`taken`: the receiver has it. Else why not, whether it is worth another attempt, and not before how many seconds."""

    taken: bool
    reason: str = ""
    again: bool = False
    after: float = 0.0


def post(url: str, headers: dict[str, str], body: bytes, timeout: float) -> Outcome:
    """Send it once. Raises nothing of the network's: that is an outcome."""
    return asyncio.run(_post(url, headers, body, timeout))


async def _post(url: str, headers: dict[str, str], body: bytes, seconds: float) -> Outcome:
    try:
        async with (
            asyncio.timeout(seconds),  # httpx's own limits are for each read: a receiver that drips would hold us for ever
            httpx.AsyncClient(timeout=seconds, follow_redirects=False, trust_env=False) as client,
            client.stream("POST", url, headers=headers, content=body) as answer,
        ):
            return outcome_of(answer.status_code, answer.headers.get("retry-after", ""), answer.headers.get("date", ""))
    except TimeoutError:
        return Outcome(False, f"no answer within {seconds:g} s", again=True)
    except httpx.HTTPError as error:
        return Outcome(False, f"{type(error).__name__}: {error}".rstrip(": "), again=True)
    except (httpx.InvalidURL, UnicodeError) as error:
        return Outcome(False, f"its address can't be used: {error}")


def outcome_of(status: int, retry_after: str = "", date: str = "") -> Outcome:
    """What a status says (RFC 9110). `Retry-After` counts as seconds, or as a date beside the answer's own."""
    if 200 <= status < 300:
        return Outcome(True)
    if 300 <= status < 400:
        return Outcome(False, f"it answered {status}: redirects are not followed")
    return Outcome(False, f"it answered {status}", status >= 500 or status in AGAIN, _seconds(retry_after, date))


def _seconds(retry_after: str, date: str) -> float:
    if retry_after.isascii() and retry_after.isdecimal():
        return float(retry_after[:9])
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - parsedate_to_datetime(date)).total_seconds())
    except (ValueError, TypeError):
        return 0.0
