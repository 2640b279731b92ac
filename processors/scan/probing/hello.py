"""Asks with a ClientHello alone which old TLS version a server still accepts: its ServerHello says so, no key need be exchanged."""

from __future__ import annotations

import ipaddress
import os
import struct

from processors.scan.probing.wire import Wire

NAMES = {(3, 0): "SSLv3", (3, 1): "TLSv1", (3, 2): "TLSv1.1"}
NUMBERS = {name: number for number, name in NAMES.items()}
HANDSHAKE, CLIENT_HELLO, SERVER_HELLO = 22, 1, 2
ANSWER_BYTES = 11  # a record's head (5), a handshake's (4), and the version (2)
SECONDS = 3.0
# Every cipher suite of TLS 1.0 and 1.1 that servers are known to have (RFC 2246, 4346, 4132, 4162, 4279, 4492), and RFC 5746's signal.
SUITES = bytes.fromhex(
    "c00a c009 c008 c007 c014 c013 c012 c011 0039 0033 0016 0038 0032 0013 0088 0087 0045 0044 009a 0099 0035 002f 0084 0041 0096 000a"
    "0005 0004 0007 0015 0012 0009 c019 c018 c017 c016 003a 0034 0089 0046 009b 001b 0018 001a 008d 008c 008b 008a 0014 0011 0008 0006 0003"
    "00ff"
)
GROUPS = bytes.fromhex("001d 0017 0018 0019 001e 0016 000e 000d")  # of which an ECDHE suite needs one (RFC 8422, 5.1.1)
POINT_FORMATS = bytes.fromhex("03 00 01 02")


async def oldest_talk(wire: Wire, most: str, name: str) -> str:
    """The version that a server chooses if we offer at most `most` (`TLSv1.1`, `TLSv1`): the highest that it has; '' if it refuses."""
    await wire.send(client_hello(NUMBERS[most], name))
    return version_in(await wire.read(until=b"\0never\0" * 8, limit=ANSWER_BYTES, seconds=SECONDS))


def client_hello(version: tuple[int, int], name: str) -> bytes:
    """A record with a ClientHello of TLS 1.0 or 1.1 (RFC 4346, 7.4.1.2), with the server's name where it has one (RFC 6066, 3)."""
    groups = struct.pack("!HHH", 10, 2 + len(GROUPS), len(GROUPS)) + GROUPS
    formats = struct.pack("!HH", 11, len(POINT_FORMATS)) + POINT_FORMATS
    extensions = server_name(name) + groups + formats
    body = (
        bytes(version)
        + os.urandom(32)
        + b"\0"  # no session
        + struct.pack("!H", len(SUITES))
        + SUITES
        + b"\x01\0"  # no compression
        + struct.pack("!H", len(extensions))
        + extensions
    )
    message = bytes([CLIENT_HELLO]) + len(body).to_bytes(3, "big") + body
    return struct.pack("!BBBH", HANDSHAKE, 3, 1, len(message)) + message


def server_name(name: str) -> bytes:
    """The extension that names the server; none for an address."""
    try:
        ipaddress.ip_address(name or "0.0.0.0")
    except ValueError:
        host = name.encode("ascii", "ignore")
        return struct.pack("!HHHBH", 0, 5 + len(host), 3 + len(host), 0, len(host)) + host
    return b""


def version_in(answer: bytes) -> str:
    """The version of a ServerHello; '' for an alert, or what is none."""
    if len(answer) < ANSWER_BYTES or answer[0] != HANDSHAKE or answer[5] != SERVER_HELLO:
        return ""
    return NAMES.get((answer[9], answer[10]), "")
