"""As much of DNS (RFC 1035, RFC 3596) as it takes to ask one server for the addresses of a name."""

from __future__ import annotations

import ipaddress
import secrets
import socket
import struct

A, CNAME, AAAA = 1, 5, 28
HEADER = struct.Struct(">HHHHHH")
ANSWER = struct.Struct(">HHIH")
MOST_CNAMES = 16
NAME_ERROR = 3


class DnsError(Exception):
    """The server answered with an error, or with what is no answer to the question."""


def query(server: tuple[str, int], name: str, seconds: float) -> set[str]:
    """The IPv4 and IPv6 addresses of a name, as text; empty if it has none. Raises OSError or DnsError where the server fails."""
    return set().union(*(_ask(server, name, kind, seconds) for kind in (A, AAAA)))


def question(number: int, name: str, kind: int) -> bytes:
    """A recursive query for one name. Raises DnsError for a name that can't be asked for."""
    labels = [label.encode("ascii") for label in name.split(".")]
    if not all(1 <= len(label) <= 63 for label in labels):
        raise DnsError(f"'{name}' is not a name")
    encoded = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return HEADER.pack(number, 0x0100, 1, 0, 0, 0) + encoded + struct.pack(">HH", kind, 1)


def addresses_in(reply: bytes, asked: bytes, kind: int) -> set[str]:
    """The addresses in a reply to `asked`, aliases followed. Raises DnsError for a failure or for hostile bytes."""
    try:
        number, flags, _, answers, _, _ = HEADER.unpack_from(reply)
        if number != HEADER.unpack_from(asked)[0] or not flags & 0x8000 or reply[12 : len(asked)].lower() != asked[12:].lower():
            raise DnsError("the reply answers another question")
        if flags & 0xF == NAME_ERROR:
            return set()
        if flags & 0xF:
            raise DnsError(f"the server says error {flags & 0xF}")
        return _collect(reply, len(asked), answers, kind)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise DnsError(f"the reply is broken: {error}") from None


def _collect(reply: bytes, at: int, answers: int, kind: int) -> set[str]:
    wanted = {_name(reply, HEADER.size)[0]}
    found: dict[str, set[str]] = {}
    aliases: dict[str, str] = {}
    for _ in range(answers):
        owner, at = _name(reply, at)
        record, family, _, length = ANSWER.unpack_from(reply, at)
        at += ANSWER.size
        data = reply[at : at + length]
        if record == CNAME and family == 1:
            aliases[owner] = _name(reply, at)[0]
        elif record == kind and family == 1 and len(data) == (4 if kind == A else 16):
            found.setdefault(owner, set()).add(str(ipaddress.ip_address(data)))
        at += length
    for _ in range(MOST_CNAMES):
        wanted |= {aliases[one] for one in wanted if one in aliases}
    return set().union(*(found.get(one, set()) for one in wanted))


def _name(reply: bytes, at: int) -> tuple[str, int]:
    """A name, compressed or not, and where it ends. Pointers go backwards only, so that no loop is possible."""
    labels, end, bound = [], 0, len(reply)
    while length := reply[at]:
        if length & 0xC0 == 0xC0:
            end = end or at + 2
            target = (length & 0x3F) << 8 | reply[at + 1]
            if target >= min(at, bound):
                raise DnsError("the reply is broken: a name points forwards")
            at = bound = target
            continue
        labels.append(reply[at + 1 : at + 1 + length].decode("ascii", "replace").lower())
        at += length + 1
        if len(labels) > 128:
            raise DnsError("the reply is broken: a name is too long")
    return ".".join(labels), end or at + 1


def _ask(server: tuple[str, int], name: str, kind: int, seconds: float) -> set[str]:
    asked = question(secrets.randbelow(1 << 16), name, kind)
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as udp:
        udp.settimeout(seconds)
        udp.connect(server)
        udp.send(asked)
        reply = udp.recv(4096)
    if len(reply) >= HEADER.size and HEADER.unpack_from(reply)[1] & 0x0200:
        reply = _over_tcp(server, asked, seconds)
    return addresses_in(reply, asked, kind)


def _over_tcp(server: tuple[str, int], asked: bytes, seconds: float) -> bytes:
    """The whole reply where it was cut: RFC 1035 4.2.2, two bytes of length before each message."""
    with socket.create_connection(server, timeout=seconds) as tcp, tcp.makefile("rwb") as stream:
        stream.write(struct.pack(">H", len(asked)) + asked)
        stream.flush()
        size = int.from_bytes(stream.read(2), "big")
        return stream.read(size)
