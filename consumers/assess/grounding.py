"""Whether what a model wrote rests on what it was given. Pure.

What can be checked is checked: CVE ids and addresses must have been given, a link by ourselves, and what stands in quotation marks or
backticks must stand in the data word for word. A sentence without any of these can still be wrong.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from typing import Any

CVE = re.compile(r"\bCVE-\d{4}-\d{4,19}", re.IGNORECASE)
LINK = re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s\"'<>`]{1,300}|\bwww\.[^\s\"'<>`]{1,300}", re.IGNORECASE)
ADDRESS = re.compile(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7})(?![\w:])", re.IGNORECASE)
QUOTES = (
    re.compile(r'"([^"\n]{1,1000})"'),
    re.compile("“([^“”\n]{1,1000})”"),
    re.compile("«([^«»\n]{1,1000})»"),
    re.compile(r"`{1,3}([^`]{1,1000})`{1,3}"),
)


def words_of(value: Any) -> str:
    """Every text and number of some data, one a line, in one spelling: what a quotation may come from."""
    return "\n".join(_plain(one) for one in _leaves(value))


def unfounded(text: str, given: str, links: str, cves: Iterable[str]) -> str | None:
    """What a text names or quotes that was not given, in words; None if all of it was.

    `given` and `links` come from `words_of`: what may be named and quoted, and where a link must stand, since people follow links.
    """
    known = {one.upper() for one in cves}
    for cve in CVE.findall(text):
        if cve.upper() not in known:
            return f"it names a CVE that was not given: {cve}"
    for link in LINK.findall(text):
        if _plain(link).rstrip(".,;:!?)]") not in links:
            return f"it names a link that was not given: {link[:100]}"
    for address in ADDRESS.findall(text):
        if _is_address(address) and not re.search(rf"(?<![\w.:]){re.escape(address.lower())}(?![\w:])(?!\.\d)", given):
            return f"it names an address that was not given: {address}"
    for pattern in QUOTES:
        for quoted in pattern.findall(text):
            plain = _plain(quoted)
            if plain.strip() and plain not in given and plain.rstrip(".,;:!?") not in given:
                return f"it quotes what is not in the data: {quoted[:100]!r}"
    return None


def _plain(text: str) -> str:
    """One spelling: lower case, single spaces."""
    return " ".join(text.lower().split())


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for one in value.values():
            yield from _leaves(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _leaves(one)
    elif isinstance(value, float):
        yield f"{value:g}"
    elif value is not None:
        yield str(value)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
