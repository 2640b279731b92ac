"""Targets as people write them: an address, a network, a range or a name. Pure: names are not resolved here."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from schemas.ids import Address

LIMIT_V6 = 256
LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
SHOWN = 80


class Span(NamedTuple):
    """Addresses first..last of one family (4 or 6) as numbers, both included."""

    version: int
    first: int
    last: int

    @property
    def size(self) -> int:
        """How many addresses it names."""
        return self.last - self.first + 1


class HostName(NamedTuple):
    """A name that somebody has yet to resolve, lower case, without the last dot."""

    text: str


def parse_target(text: str) -> Span | HostName:
    """What a target means: `198.18.0.7`, `198.18.0.0/24`, `198.18.0.1-198.18.0.9`, `198.18.0.1-9`, `2001:db8::1`, `www.example.org`.

    A network may have host bits set, as nmap takes it. Raises ValueError with a sentence for anything else.
    """
    word = text.strip()
    if not word:
        raise ValueError("An empty target names nothing.")
    if "/" in word:
        return _network(word)
    single = _address(word)
    if single is not None:
        return Span(single.version, int(single), int(single))
    left, dash, right = word.partition("-")
    start = _address(left.strip()) if dash else None
    if start is not None:
        return _range(word, start, right.strip())
    return _name(word)


def span_of(address: str) -> Span:
    """The span of one address. Raises ValueError for what is not an address that can be probed."""
    parsed = _address(address)
    if parsed is None:
        raise ValueError(f"'{show(address)}' is not an address.")
    return Span(parsed.version, int(parsed), int(parsed))


def too_many(span: Span, limit: int) -> str | None:
    """Why a span is refused for its size (`limit` addresses; an IPv6 one at most 256, a /120), or None if it is not."""
    if span.version == 6 and span.size > LIMIT_V6:
        return f"names {span.size} IPv6 addresses; IPv6 is never enumerated beyond {LIMIT_V6} (a /120): write the addresses that you mean"
    if span.size > limit:
        return f"names {span.size} addresses, the limit is {limit}; write the networks that you mean"
    return None


def show(text: str) -> str:
    """Someone's text, short enough for a message."""
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _address(text: str) -> Address | None:
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.scope_id:
            raise ValueError(f"'{show(text)}' holds the name of an interface, which means nothing elsewhere.")
        if parsed.ipv4_mapped:
            raise ValueError(f"'{show(text)}' is an IPv4 address in IPv6 dress: write {parsed.ipv4_mapped}.")
    return parsed


def _network(word: str) -> Span:
    try:
        network = ipaddress.ip_network(word, strict=False)
    except ValueError:
        raise ValueError(f"'{show(word)}' is not a network such as 198.18.0.0/24 or 2001:db8::/120.") from None
    _address(str(network.network_address))
    return Span(network.version, int(network.network_address), int(network.broadcast_address))


def _range(word: str, start: Address, right: str) -> Span:
    end = _address(right)
    if end is None and start.version == 4 and re.fullmatch(r"[0-9]{1,3}", right):
        end = _address(f"{str(start).rpartition('.')[0]}.{int(right)}")
    if end is None or end.version != start.version:
        raise ValueError(f"'{show(word)}' is not a range such as 198.18.0.1-198.18.0.9 or 198.18.0.1-9.")
    if int(end) < int(start):
        raise ValueError(f"The range '{show(word)}' runs backwards.")
    return Span(start.version, int(start), int(end))


def _name(word: str) -> HostName:
    """RFC 1123 names with underscores; a last label of digits is refused, as resolvers read `127.1` or `0x7f.1` as addresses."""
    try:
        ascii_form = word.rstrip(".").encode("idna").decode().lower()
    except UnicodeError:
        ascii_form = ""
    labels = ascii_form.split(".")
    numeric = re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1])
    if len(ascii_form) > 253 or numeric or not all(LABEL.fullmatch(label) for label in labels):
        raise ValueError(f"'{show(word)}' is not an address, a network, a range or a name.")
    return HostName(ascii_form)
