"""Reads what traceroute and tcptraceroute print, and chooses between paths. Pure."""

from __future__ import annotations

import ipaddress
import re

from schemas.events.observations import Hop

MOST_HOPS = 10
HOP_LINE = re.compile(r"^\s*(\d{1,3})\s+(.*)$")


def read_path(text: str) -> tuple[Hop, ...] | None:
    """The hops of a run with -n, silent ones at the end cut off; None if nothing answered.

    Of several answers at one distance the lowest address is kept, so that balanced routes read the same each time.
    """
    hops = [hop for hop in map(_hop, text.splitlines()) if hop]
    while hops and not hops[-1].address:
        hops.pop()
    return tuple(hops) or None


def better(one: tuple[Hop, ...] | None, other: tuple[Hop, ...] | None, target: str) -> tuple[Hop, ...] | None:
    """The path that reaches the target, else the longer one, else the first."""
    return max((one, other), key=lambda path: (reaches(path, target), len(path or ())))


def reaches(path: tuple[Hop, ...] | None, target: str) -> bool:
    """Whether the last hop is the target."""
    return bool(path) and path is not None and path[-1].address == target


def _hop(line: str) -> Hop | None:
    found = HOP_LINE.match(line)
    if not found or not 1 <= int(found[1]) <= 255:
        return None
    answers: list[tuple[str, float | None]] = []
    words = found[2].split()
    for word, after in zip(words, [*words[1:], ""], strict=False):
        if _is_address(word):
            answers.append((str(ipaddress.ip_address(word)), None))
        elif after == "ms" and answers and answers[-1][1] is None and re.fullmatch(r"\d+(\.\d+)?", word):
            answers[-1] = (answers[-1][0], float(word))
    address, rtt = min(answers, key=lambda one: _order(one[0]), default=("", None))
    return Hop(ttl=int(found[1]), address=address, rtt_ms=rtt)


def _is_address(word: str) -> bool:
    try:
        ipaddress.ip_address(word)
    except ValueError:
        return False
    return True


def _order(address: str) -> tuple[int, int]:
    parsed = ipaddress.ip_address(address)
    return parsed.version, int(parsed)
