"""Names through a real DNS server on loopback, and through the system's resolver."""

from __future__ import annotations

import ipaddress
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from infra.core.errors import Backpressure
from processors.plan.dns import AAAA, CNAME, A, DnsError, addresses_in, query, question
from processors.plan.resolving import Resolver, server_of, through_system, usable

ALIASES = {"alias.example": "web.example"}
ZONE: dict[tuple[str, int], list[str]] = {
    ("web.example", A): ["198.18.0.8", "198.18.0.7"],
    ("web.example", AAAA): ["2001:db8::7"],
    ("many.example", A): [f"198.18.1.{number}" for number in range(100)],
}


def wire(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def answer(asked: bytes, *, cut: bool = False) -> bytes:
    """What an honest server says; names that begin with 'slow' are answered never, with 'broken' by an error."""
    labels, at = [], 12
    while asked[at]:
        labels.append(asked[at + 1 : at + 1 + asked[at]].decode())
        at += asked[at] + 1
    name, (kind,) = ".".join(labels), struct.unpack_from(">H", asked, at + 1)
    records, owner = [], b"\xc0\x0c"
    alias = ALIASES.get(name)
    if alias:
        records.append(owner + struct.pack(">HHIH", CNAME, 1, 60, len(wire(alias))) + wire(alias))
        name, owner = alias, wire(alias)
    for text in ZONE.get((name, kind), []):
        data = ipaddress.ip_address(text).packed
        records.append(owner + struct.pack(">HHIH", kind, 1, 60, len(data)) + data)
    code = 2 if name.startswith("broken") else 0 if any(one == name for one, _ in ZONE) else 3
    flags = 0x8180 | code | (0x0200 if cut else 0)
    kept = [] if cut else records
    return asked[:2] + struct.pack(">HHHHH", flags, 1, len(kept), 0, 0) + asked[12:] + b"".join(kept)


class Udp(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        asked, sock = self.request
        if b"slow" not in asked:
            reply = answer(asked)
            sock.sendto(reply if len(reply) <= 512 else answer(asked, cut=True), self.client_address)


class Tcp(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        (length,) = struct.unpack(">H", self.rfile.read(2))
        reply = answer(self.rfile.read(length))
        self.wfile.write(struct.pack(">H", len(reply)) + reply)


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server() -> Iterator[tuple[str, int]]:
    # A port that is free for TCP first: those are what other tests take. Of UDP ports hardly any is in use.
    tcp = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Tcp)
    address = ("127.0.0.1", tcp.server_address[1])
    with socketserver.ThreadingUDPServer(address, Udp) as udp:
        udp.daemon_threads = True
        with serving(udp), serving(tcp):
            yield address


def test_both_families_aliases_and_cut_replies(server: tuple[str, int]) -> None:
    assert query(server, "web.example", 2) == {"198.18.0.7", "198.18.0.8", "2001:db8::7"}
    assert query(server, "alias.example", 2) == {"198.18.0.7", "198.18.0.8", "2001:db8::7"}
    assert len(query(server, "many.example", 2)) == 100
    assert query(server, "nowhere.example", 2) == set()
    with pytest.raises(DnsError, match="error 2"):
        query(server, "broken.example", 2)


def test_the_resolver_answers_for_a_run_and_leaves_out_what_does_not_resolve(server: tuple[str, int]) -> None:
    resolver = Resolver((f"{server[0]}:{server[1]}",))
    found = resolver.resolve("run", ["web.example", "nowhere.example", "broken.example", "many.example"])
    assert found["web.example"] == ("198.18.0.7", "198.18.0.8", "2001:db8::7")
    assert set(found) == {"web.example", "many.example"}
    assert len(found["many.example"]) == 64


def test_a_second_server_is_asked_when_the_first_fails(server: tuple[str, int]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        dead = f"127.0.0.1:{deaf.getsockname()[1]}"
    found = Resolver((dead, f"{server[0]}:{server[1]}")).resolve("run", ["web.example"])
    assert found["web.example"][0] == "198.18.0.7"


def test_slow_names_hold_up_nobody_for_long_and_count_as_unresolved_in_the_end(server: tuple[str, int]) -> None:
    resolver = Resolver((f"{server[0]}:{server[1]}",), seconds=1.0, burst=0.2)
    held_up = 0
    while True:
        began = time.monotonic()
        try:
            found = resolver.resolve("run", ["slow.example", "web.example"])
        except Backpressure:
            held_up += 1
            assert held_up < 20
            assert time.monotonic() - began < 1
        else:
            break
    assert held_up >= 2
    assert set(found) == {"web.example"}


def test_the_answers_of_a_run_stay_as_they_were(server: tuple[str, int]) -> None:
    resolver = Resolver((f"{server[0]}:{server[1]}",))
    before = resolver.resolve("run", ["web.example"])
    ZONE["web.example", A].append("198.18.0.9")
    try:
        assert resolver.resolve("run", ["web.example"]) == before
        assert "198.18.0.9" in resolver.resolve("another run", ["web.example"])["web.example"]
    finally:
        ZONE["web.example", A].pop()


def test_the_systems_resolver_knows_this_machine() -> None:
    assert "127.0.0.1" in through_system("localhost")
    assert through_system("nowhere.invalid") == set()
    assert Resolver().resolve("run", ["localhost"])["localhost"][0] == "127.0.0.1"


def test_only_what_can_be_probed_is_kept() -> None:
    assert usable({"2001:DB8::1", "198.18.0.9", "198.18.0.7", "fe80::1%eth0", "::ffff:1.2.3.4"}) == (
        "198.18.0.7",
        "198.18.0.9",
        "2001:db8::1",
    )


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("198.18.0.53", ("198.18.0.53", 53)),
        ("127.0.0.1:5353", ("127.0.0.1", 5353)),
        ("2001:db8::53", ("2001:db8::53", 53)),
        ("[2001:db8::53]:5353", ("2001:db8::53", 5353)),
    ],
)
def test_servers_as_the_settings_write_them(text: str, server: tuple[str, int]) -> None:
    assert server_of(text) == server


def test_hostile_replies_are_errors_and_never_loops() -> None:
    asked = question(7, "web.example", A)
    good = answer(asked)
    assert addresses_in(good, asked, A) == {"198.18.0.7", "198.18.0.8"}
    loop = good[:12] + good[12 : len(asked)] + b"\xc0" + bytes([len(asked)]) + good[len(asked) + 2 :]
    bad = [good[:5], b"", b"\0\0" + good[2:], good[:2] + b"\0\0" + good[4:], good[:-3] + b"", loop, answer(question(7, "other.example", A))]
    for reply in bad[:4] + bad[5:]:
        with pytest.raises(DnsError):
            addresses_in(reply, asked, A)
    assert addresses_in(bad[4], asked, A) <= {"198.18.0.7", "198.18.0.8"}


def test_an_address_of_somebody_else_in_the_reply_is_ignored() -> None:
    asked = question(7, "web.example", A)
    data = ipaddress.ip_address("10.0.0.1").packed
    stray = wire("evil.example") + struct.pack(">HHIH", A, 1, 60, 4) + data
    reply = asked[:2] + struct.pack(">HHHHH", 0x8180, 1, 1, 0, 0) + asked[12:] + stray
    assert addresses_in(reply, asked, A) == set()
