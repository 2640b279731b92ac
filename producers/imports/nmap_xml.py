"""nmap's XML, and masscan's in its likeness, as a stream: a host is handed on as soon as its element ends, so that memory stays flat.

The form is that of nmap's own DTD (https://nmap.org/book/nmap-dtd.html). XML comes from strangers: entities are refused where they are
declared (CWE-776, CWE-611), and a token, a depth or a host beyond its limit ends the reading.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

from producers.imports.scanfile import Finish, HostSeen, Item, PortSeen, Ranges, Rest, ScanInfo, Scanned
from schemas.events.base import PortRange, Transport
from schemas.portset import parse_ports, ranges, size, without

MOST_TOKEN = 8 << 20  # bytes between two elements: expat holds a token whole
MOST_DEPTH = 64
MOST_PORTS = 140_000  # named ports of one host: all of TCP and UDP
MOST_SCRIPTS = 20_000
MOST_TEXT = 4_096
MOST_NAMES = 16
MOST_SYSTEMS = 10
MOST_PORT_TEXT = 500_000
PLURALS = {"no-responses": "no-response", "resets": "reset"}
"""How nmap wrote the reason of several ports before 7.91."""
Attributes = dict[str, str]


class UnreadableScanError(ValueError):
    """The file is not what it should be, with a sentence; `cut_off`: it just ends too early."""

    def __init__(self, reason: str, cut_off: bool = False) -> None:
        super().__init__(reason)
        self.cut_off = cut_off


def read_xml(chunks: Iterable[bytes]) -> Iterator[Item]:
    """The head, the hosts and the end of a scan. Raises UnreadableScanError."""
    reader = _Reader()
    for chunk in chunks:
        reader.feed(chunk)
        yield from reader.taken()
    reader.feed(b"", last=True)
    yield from reader.taken()


@dataclass(slots=True)
class _Extra:
    """One `extraports`, or one of its `extrareasons`, which alone may say which ports it means."""

    state: str
    count: int
    reason: str = ""
    transport: Transport | None = None
    ports: Ranges | None = None


@dataclass(slots=True)
class _Host:
    """A host while its element is open."""

    at: int | None
    timed_out: bool
    address: str = ""
    status: str = ""
    reason: str = ""
    names: list[str] = field(default_factory=list)
    ports: list[PortSeen] = field(default_factory=list)
    extras: list[_Extra] = field(default_factory=list)
    systems: list[str] = field(default_factory=list)
    scripts: dict[str, str] = field(default_factory=dict)
    scripts_in_all: int = 0


class _Reader:
    """expat's handlers, and what they gather."""

    def __init__(self) -> None:
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.EntityDeclHandler = _no_entities
        parser.ExternalEntityRefHandler = _no_entities
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        self._parser, self._quiet, self._path = parser, 0, list[str]()
        self._items: list[Item] = []
        self._head: ScanInfo | None = None
        self._scanned: dict[Transport, Scanned] = {}
        self._told = False
        self._host: _Host | None = None
        self._port: dict[str, Any] | None = None
        self._cpe = ""
        self._success, self._total = False, None
        self._opened: dict[str, Callable[[Attributes], None]] = {
            "nmaprun": self._run,
            "scaninfo": self._scaninfo,
            "host": self._new_host,
            "finished": self._finished,
            "hosts": self._hosts,
        }
        self._within: dict[str, Callable[[_Host, Attributes], None]] = {
            "status": _status,
            "address": _address,
            "hostname": _hostname,
            "port": self._new_port,
            "state": self._state,
            "service": self._service,
            "script": self._script,
            "osmatch": _system,
            "extraports": _extraports,
            "extrareasons": _extrareasons,
        }

    _total: int | None

    def feed(self, chunk: bytes, last: bool = False) -> None:
        """Parse on. Raises UnreadableScanError."""
        self._quiet += len(chunk)
        if self._quiet > MOST_TOKEN:
            raise UnreadableScanError(f"It holds more than {MOST_TOKEN >> 20} MB between two elements.")
        try:
            self._parser.Parse(chunk, last)
        except expat.ExpatError as error:
            words = expat.ErrorString(error.code)
            raise UnreadableScanError(f"It is no XML in line {error.lineno}: {words}.", cut_off=last) from None
        except UnreadableScanError as error:
            raise UnreadableScanError(f"{error} (line {self._parser.CurrentLineNumber})") from None
        except (LookupError, ValueError) as error:  # what Python says of an encoding that is none, or not of single bytes
            raise UnreadableScanError(f"Its encoding can't be read: {error}.") from None

    def taken(self) -> list[Item]:
        """What is complete since the last call."""
        found, self._items = self._items, []
        return found

    def _start(self, tag: str, attributes: Attributes) -> None:
        self._quiet = 0
        if not self._path and tag != "nmaprun":
            raise UnreadableScanError(f"It is not nmap's or masscan's XML: its root is '{tag[:40]}', not 'nmaprun'.")
        self._path.append(tag)
        if len(self._path) > MOST_DEPTH:
            raise UnreadableScanError(f"Its elements are nested more than {MOST_DEPTH} deep.")
        if tag in self._opened:
            self._opened[tag](attributes)
        elif self._host is not None and tag in self._within:
            self._within[tag](self._host, attributes)
        self._cpe = ""

    def _end(self, tag: str) -> None:
        self._quiet = 0
        self._path.pop()
        if tag == "port" and self._port is not None and self._host is not None:
            self._host.ports.append(_port(self._port))
            self._port = None
        elif tag == "cpe" and self._port is not None and len(self._port["cpes"]) < MOST_NAMES:
            self._port["cpes"] = (*self._port["cpes"], self._cpe.strip()[:256])
        elif tag == "host" and self._host is not None:
            self._tell_head()
            if self._host.address:
                self._items.append(_done(self._host, self._scanned))
            self._host = None
        elif tag == "nmaprun":
            self._tell_head()
            self._items.append(Finish(self._success, self._total))

    def _text(self, text: str) -> None:
        self._quiet = 0
        if self._path[-1] == "cpe" and len(self._cpe) < MOST_TEXT:
            self._cpe += text[:MOST_TEXT]

    def _tell_head(self) -> None:
        if self._head is not None and not self._told:
            self._told = True
            self._items.append(ScanInfo(self._head.scanner, self._head.version, self._head.args, self._head.started, dict(self._scanned)))

    def _run(self, said: Attributes) -> None:
        if self._head is not None:
            raise UnreadableScanError("It holds one scan within another.")
        scanner = "masscan" if said.get("scanner") == "masscan" else "nmap"
        self._head = ScanInfo(scanner, said.get("version", "")[:40], said.get("args", "")[:MOST_TEXT], _milliseconds(said.get("start")))

    def _scaninfo(self, said: Attributes) -> None:
        transport = _transport(said.get("protocol"))
        if transport is not None and said.get("services"):
            self._scanned[transport] = Scanned(said.get("type", ""), port_ranges(said["services"]))

    def _new_host(self, said: Attributes) -> None:
        if self._host is not None:
            raise UnreadableScanError("It holds one host within another.")
        self._host = _Host(_milliseconds(said.get("endtime") or said.get("starttime")), said.get("timedout") == "true")

    def _finished(self, said: Attributes) -> None:
        self._success = said.get("exit", "success") == "success"

    def _hosts(self, said: Attributes) -> None:
        self._total = _number(said.get("total"))

    def _new_port(self, host: _Host, said: Attributes) -> None:
        transport, port = _transport(said.get("protocol")), _number(said.get("portid"))
        if len(host.ports) >= MOST_PORTS:
            raise UnreadableScanError(f"It names more than {MOST_PORTS} ports of one host.")
        self._port = None
        if transport is not None and port is not None and 1 <= port <= 65535:
            self._port = {"transport": transport, "port": port, "state": "", "cpes": (), "scripts": {}}

    def _state(self, _: _Host, said: Attributes) -> None:
        if self._port is not None:
            self._port |= {"state": said.get("state", "")[:40], "reason": said.get("reason", "")[:40]}

    def _service(self, _: _Host, said: Attributes) -> None:
        """nmap's `method` is `table` where it only looked the port's number up; masscan has a banner instead."""
        if self._port is None:
            return
        name, banner = said.get("name", ""), said.get("banner", "")
        tunnelled = said.get("tunnel") == "ssl" and name in ("http", "")
        self._port |= {
            "service": ("https" if name else "ssl") if tunnelled else name[:80],
            "product": said.get("product", "")[:256],
            "version": said.get("version", "")[:256],
            "extra": said.get("extrainfo", "")[:256],
            "banner": banner[:512],
            "guessed": said.get("method", "table") != "probed" and not banner,
        }

    def _script(self, host: _Host, said: Attributes) -> None:
        host.scripts_in_all += 1
        if host.scripts_in_all > MOST_SCRIPTS:
            raise UnreadableScanError(f"It holds the output of more than {MOST_SCRIPTS} scripts for one host.")
        scripts = host.scripts if self._port is None else self._port["scripts"]
        scripts[said.get("id", "")[:80]] = said.get("output", "")[:MOST_TEXT]


def _no_entities(*_: object) -> int:
    raise UnreadableScanError("It declares XML entities, which no scanner does.")


def _status(host: _Host, said: Attributes) -> None:
    state = said.get("state", "")
    host.status, host.reason = state if state in ("up", "down") else "", said.get("reason", "")[:40]


def _address(host: _Host, said: Attributes) -> None:
    if said.get("addrtype") not in ("ipv4", "ipv6"):
        return
    host.address = plain_address(said.get("addr", ""))


def _hostname(host: _Host, said: Attributes) -> None:
    """Names that a person typed (`user`) say nothing of the host."""
    name = said.get("name", "").lower().rstrip(".")
    if said.get("type", "PTR") == "PTR" and name and name not in host.names and len(host.names) < MOST_NAMES:
        host.names.append(name[:253])


def _system(host: _Host, said: Attributes) -> None:
    if said.get("name") and len(host.systems) < MOST_SYSTEMS:
        host.systems.append(said["name"][:256])


def _extraports(host: _Host, said: Attributes) -> None:
    if len(host.extras) > MOST_NAMES:
        raise UnreadableScanError("It holds more groups of other ports of one host than there are states.")
    host.extras.append(_Extra(said.get("state", "")[:40], _number(said.get("count")) or 0))


def _extrareasons(host: _Host, said: Attributes) -> None:
    """Takes the place of the group it explains; of nmap 7.91 and newer it says which ports it means."""
    if not host.extras or len(host.extras) > 4 * MOST_NAMES:
        return
    state = host.extras[-1].state
    if not host.extras[-1].reason:
        host.extras.pop()
    transport, ports = _transport(said.get("proto")), said.get("ports")
    known = port_ranges(ports) if ports and transport is not None else None
    reason = said.get("reason", "")[:40] or "unknown"
    host.extras.append(_Extra(state, _number(said.get("count")) or 0, PLURALS.get(reason, reason), transport, known))


def _port(said: dict[str, Any]) -> PortSeen:
    return PortSeen(**said)


def _done(host: _Host, scanned: dict[Transport, Scanned]) -> HostSeen:
    return HostSeen(
        address=host.address,
        at=host.at,
        status=host.status,
        reason=host.reason,
        timed_out=host.timed_out,
        names=tuple(host.names),
        ports=tuple(host.ports),
        rest=tuple(_rest(host, scanned)),
        systems=tuple(host.systems),
        scripts=host.scripts,
    )


def _rest(host: _Host, scanned: dict[Transport, Scanned]) -> Iterator[Rest]:
    """The ports that are not named. Groups that don't say which ports they mean share those that are left, if their numbers add up."""
    left: dict[Transport, Ranges] = {}
    for transport, one in scanned.items():
        left[transport] = without(one.ports, ranges(port.port for port in host.ports if port.transport is transport))
    for extra in host.extras:
        if extra.ports is not None and extra.transport is not None and extra.count == size(extra.ports):
            yield Rest(extra.transport, extra.ports, frozenset({extra.state}), frozenset({extra.reason}))
            left[extra.transport] = without(left.get(extra.transport, ()), extra.ports)
    vague = [one for one in host.extras if one.ports is None]
    if vague and sum(one.count for one in vague) == sum(map(size, left.values())):
        states, reasons = frozenset(one.state for one in vague), frozenset(one.reason for one in vague)
        for transport, ports in left.items():
            if ports:
                yield Rest(transport, ports, states, reasons)


@functools.lru_cache(maxsize=256)
def port_ranges(text: str) -> Ranges:
    """Ports as nmap lists them, port 0 left out. Raises UnreadableScanError."""
    if len(text) > MOST_PORT_TEXT:
        raise UnreadableScanError("A list of ports in it is longer than all ports are.")
    try:
        kept = (part for part in text.split(",") if part and part not in ("0", "0-0"))
        mended = ",".join("1-" + part[2:] if part.startswith("0-") else part for part in kept)
        return parse_ports(mended) if mended else tuple[PortRange, ...]()
    except ValueError as error:
        raise UnreadableScanError(f"A list of ports in it can't be read: {error}") from None


def plain_address(text: str) -> str:
    """An address as RFC 5952 writes it. Raises UnreadableScanError for what is none, or names an interface."""
    try:
        parsed = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        raise UnreadableScanError(f"'{text[:80]}' is no IP address.") from None
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def _transport(text: str | None) -> Transport | None:
    return Transport(text) if text in ("tcp", "udp") else None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 12 else None


def _milliseconds(text: str | None) -> int | None:
    seconds = _number(text)
    return None if seconds is None else seconds * 1000
