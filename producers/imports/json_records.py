"""masscan's JSON (`-oJ`, `-oD`) and naabu's JSON lines, as a stream of hosts with a port each.

masscan's JSON is not quite JSON: the last record may have a comma behind it, the closing bracket may be missing, older versions end with
`{finished: 1}` (robertdavidgraham/masscan issues 314, 493, 726; pull request 147). So objects are read one by one, whatever is between.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from producers.imports.nmap_xml import UnreadableScanError, plain_address
from producers.imports.scanfile import Finish, HostSeen, Item, PortSeen, ScanInfo
from schemas.events.base import Transport

LATEST = 10**10  # seconds since 1970, in the year 2286
MOST_OBJECT = 1 << 20  # characters of one record
FINISHED = re.compile(r"\{\s*\"?finished\"?\s*:\s*1\s*\}")
BETWEEN = re.compile(r"[\s,\[\]\ufeff]*")
DECODER = json.JSONDecoder()


def read_masscan(chunks: Iterable[bytes]) -> Iterator[Item]:
    """masscan's records. Raises UnreadableScanError."""
    yield ScanInfo("masscan")
    for number, record in enumerate(objects(chunks), 1):
        yield from _told(number, record, _of_masscan)
    yield Finish(True)


def read_naabu(chunks: Iterable[bytes]) -> Iterator[Item]:
    """naabu's records. Raises UnreadableScanError."""
    yield ScanInfo("naabu")
    for number, record in enumerate(objects(chunks), 1):
        yield from _told(number, record, _of_naabu)
    yield Finish(True)


def objects(chunks: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The JSON objects of a text, in an array, a line each, or both half-way. Raises UnreadableScanError."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    rest, number = "", 0
    for chunk in chunks:
        rest += decoder.decode(chunk)
        found, rest = _complete(rest, number)
        number += len(found)
        yield from found
        if len(rest) > MOST_OBJECT:
            raise UnreadableScanError(f"Record {number + 1} is no JSON object, or longer than {MOST_OBJECT >> 10} KB.")
    rest = rest + decoder.decode(b"", final=True)
    found, rest = _complete(rest, number)
    yield from found
    if rest:
        raise UnreadableScanError(
            f"Record {number + len(found) + 1} is not whole: the text ends within it, or it is no JSON.", cut_off=True
        )


def _complete(text: str, number: int) -> tuple[list[dict[str, Any]], str]:
    """The objects that are whole, and what is left."""
    found: list[dict[str, Any]] = []
    at = _skip(text, 0)
    while at < len(text):
        ended = FINISHED.match(text, at)
        if ended:
            at = _skip(text, ended.end())
            continue
        if text[at] != "{":
            raise UnreadableScanError(f"Behind record {number + len(found)} stands no JSON object.")
        try:
            value, end = DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):  # also a number of more digits than Python takes
            break
        found.append(value)
        at = _skip(text, end)
    return found, text[at:]


def _skip(text: str, at: int) -> int:
    between = BETWEEN.match(text, at)
    return between.end() if between else at


def _told(number: int, record: dict[str, Any], read: Any) -> Iterator[HostSeen]:
    try:
        yield from read(record)
    except (ValueError, TypeError, AttributeError, KeyError, OverflowError) as error:
        words = f"it has no {error}." if isinstance(error, KeyError) else f"{type(error).__name__}: {str(error)[:120]}."
        words = str(error) if isinstance(error, UnreadableScanError) else words
        raise UnreadableScanError(f"Record {number} is not as the scanner writes it: {words}") from None


def _of_masscan(record: dict[str, Any]) -> Iterator[HostSeen]:
    """One address with its ports (`-oJ`), or with one port and a `rec_type` (`-oD`)."""
    seconds = int(record["timestamp"]) if "timestamp" in record else None
    if seconds is not None and not 0 <= seconds < LATEST:
        raise UnreadableScanError("its time is none.")
    at = None if seconds is None else seconds * 1000
    if "rec_type" in record:
        data = record.get("data") or {}
        ports = [{**record, "status": data.get("status", "open"), "reason": data.get("reason", ""), "service": data}]
    else:
        ports = record["ports"]
    for one in ports:
        address, service = plain_address(record["ip"]), one.get("service") or {}
        if one.get("proto", "tcp") == "icmp":
            yield HostSeen(address, at, "up", "echo-reply")
            continue
        seen = _port(int(one["port"]), str(one.get("proto", "tcp")), str(one.get("status", "open")), str(one.get("reason", "")))
        if seen is not None:
            name, banner = plain(service.get("name") or service.get("service_name")), plain(service.get("banner"))
            told = PortSeen(
                seen.port, seen.transport, seen.state, seen.reason, service=name[:80], banner=banner[:512], guessed=not (name or banner)
            )
            yield HostSeen(address, at, "up", ports=(told,))


def plain(value: object) -> str:
    """A text that can be written down: JSON may hold half of a surrogate pair, which UTF-8 can't."""
    return str(value or "").encode("utf-8", "replace").decode()


def _of_naabu(record: dict[str, Any]) -> Iterator[HostSeen]:
    """`{"ip", "port", "protocol", "timestamp"}`; before 2.1 the port was an object."""
    port, transport = record["port"], str(record.get("protocol", "tcp"))
    if isinstance(port, dict):
        transport = {0: "tcp", 1: "udp"}.get(port.get("Protocol", 0), "")
        port = port["Port"]
    stamp = record.get("timestamp")
    at = None
    if stamp:
        moment = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", str(stamp)))
        at = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    seen = _port(int(port), transport, "open", "")
    if seen is not None:
        yield HostSeen(plain_address(record["ip"]), at, "up", ports=(seen,))


def _port(port: int, transport: str, state: str, reason: str) -> PortSeen | None:
    """None for what has no ports that we know, such as SCTP."""
    if transport not in ("tcp", "udp") or port == 0:
        return None
    if not 1 <= port <= 65535:
        raise UnreadableScanError(f"there is no port {port}.")
    return PortSeen(port, Transport(transport), state[:40], reason[:40])
