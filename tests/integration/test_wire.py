"""A conversation costs what it makes the kernel send, seen by the other side's own count, whoever is at the other end."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from infra.core.errors import DriftlineError
from infra.core.settings import ScannerSettings
from processors.scan.probes.tls import context
from processors.scan.probing.account import DRIPS, counted
from processors.scan.probing.wire import dial
from tests.scanning import NotingGate, make_certificate, make_unit, scan

COST = 8
TLS_SERVER = """
import asyncio, ssl, sys
async def serve():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*sys.argv[1:])
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(serve())
"""

FLOOD = """
import socket, sys, time
with socket.create_server(("127.0.0.1", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    peer, _ = listener.accept()
    end = time.monotonic() + 8
    with peer:
        while time.monotonic() < end:
            peer.sendall((b"\\x16\\x03\\x03\\x40\\0" + bytes(16384)) * 16)  # a record of 4,096 HelloRequests (RFC 5246, 7.4.1.1)
"""
TICKETS = """
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(*sys.argv[1:])
context.num_tickets = 60_000  # of some 220 bytes, as soon as hands are shaken (RFC 8446, 4.6.1)
with socket.create_server(("127.0.0.1", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    context.wrap_socket(listener.accept()[0], server_side=True)
"""


@contextmanager
def serving(answer: list[bytes], pause: float) -> Iterator[tuple[int, list[int]]]:
    """A server on loopback that writes these pieces, each as a segment, until it is reset. Gives its port and what it received of ours."""
    heard: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            peer, _ = listener.accept()
            with peer, suppress(OSError):
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                segments = 0
                try:
                    for piece in answer:
                        peer.sendall(piece)
                        segments = segments_heard(peer)
                        time.sleep(pause)
                finally:
                    heard.append(max(segments, segments_heard(peer)))

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], heard
        thread.join(20)


def segments_heard(sock: socket.socket) -> int:
    """tcpi_segs_in of struct tcp_info."""
    with suppress(OSError):
        return int.from_bytes(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 144)[140:144], "little")
    return 0


@contextmanager
def running(program: str, *arguments: str) -> Iterator[int]:
    """A hostile server in a process of its own, as fast as the machine lets it be. Gives its port."""
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            assert server.stdout is not None
            yield int(server.stdout.readline())
        finally:
            server.kill()


async def longest_pause(pauses: list[float]) -> None:
    """Note for how long the event loop kept a task waiting."""
    while True:
        before = time.monotonic()
        await asyncio.sleep(0.01)
        pauses.append(time.monotonic() - before)


async def talk(port: int, limit: int) -> tuple[bytes, int]:
    """All that it says, and how many packets were paid for."""
    paid = [0]

    async def admit(packets: int) -> None:
        paid[0] += packets
        await asyncio.sleep(packets / 4000)

    said = b""
    with suppress(OSError, TimeoutError):
        async with dial("127.0.0.1", port, admit, COST) as wire:
            said = await wire.read_all(limit=limit, seconds=5.0)
    return said, paid[0]


def test_an_honest_answer_is_read_whole_and_paid_by_the_packet() -> None:
    with serving([b"x" * 1400] * 40, 0.0005) as (port, heard):
        said, paid = asyncio.run(talk(port, 1 << 20))
    assert len(said) == 40 * 1400
    assert heard[0] <= paid <= heard[0] + COST


def test_who_drips_his_answer_is_hung_up_on() -> None:
    with serving([b"x"] * 5000, 0.0004) as (port, heard):
        said, paid = asyncio.run(talk(port, 1 << 20))
    assert 0 < len(said) < 1000
    assert heard[0] <= COST + DRIPS + 150, "some are on their way before anybody looks"
    assert paid >= heard[0] - 5, "what left is paid for, afterwards"
    print(f"{heard[0]} packets, {paid} paid for, {len(said)} bytes")


def test_a_refusal_of_the_gate_while_it_talks_ends_it() -> None:
    async def refuse(packets: int) -> None:
        if packets != COST:
            raise DriftlineError("no more")

    async def work(port: int) -> None:
        async with dial("127.0.0.1", port, refuse, COST) as wire:
            await wire.read_all(limit=1 << 20, seconds=5.0)

    with serving([b"x"] * 300, 0.001) as (port, _), pytest.raises(DriftlineError, match="no more"):
        asyncio.run(work(port))


def test_the_kernel_counts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        told = counted(client)
        assert told is not None
        assert told[0] >= 2, "SYN and ACK"
    assert counted(client) is None


@pytest.mark.parametrize("waits", [False, True], ids=["talks at once", "talks when its options are refused"])
def test_a_telnet_server_is_heard_behind_its_negotiation(waits: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in range(2):  # the sweep's connect, and the probe's
                peer, _ = listener.accept()
                with peer, suppress(OSError):
                    peer.sendall(b"\xff\xfd\x18\xff\xfb\x01\xff\xfb\x03")
                    if waits:
                        peer.settimeout(5)
                        refused = b""
                        while refused != b"\xff\xfc\x18\xff\xfe\x01\xff\xfe\x03":
                            refused += peer.recv(64) or b"closed" * 3
                    peer.sendall(b"\r\nMikroTik v6.49.10 (stable)\r\nLogin: ")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        report = scan(make_unit(["127.0.0.1"], str(port), ("banner",)), None, ScannerSettings(connect_timeout=0.5), "connect")
    (service,) = report.hosts[0].services
    assert "MikroTik v6.49.10" in service.banner
    assert "\ufffd" not in service.banner


def test_a_handshake_that_is_given_up_as_it_ends_leaves_no_number_that_the_next_socket_cannot_have(tmp_path: Path) -> None:
    """A busy scanner lost many services so: asyncio takes no socket whose number one of its transports still has, here for 30 s."""
    certificate, key, _ = make_certificate(tmp_path, "wire.example")

    async def admit(packets: int) -> None:
        pass

    async def hold(port: int) -> None:
        async with dial("127.0.0.1", port, admit, COST, context()):
            await asyncio.sleep(10)

    async def work(port: int) -> None:
        for turns in range(12):
            given_up = asyncio.create_task(hold(port))
            for _ in range(turns):
                await asyncio.sleep(0)
                time.sleep(0.002)  # noqa: ASYNC251  the other side answers while our loop is busy
            asyncio.get_running_loop().call_later(0.001, given_up.cancel)
            time.sleep(0.004)  # noqa: ASYNC251  its answer and the end of our patience are found in the same turn
            await asyncio.gather(given_up, return_exceptions=True)
            async with dial("127.0.0.1", port, admit, COST):  # RuntimeError: File descriptor 9 is used by transport
                pass

    with subprocess.Popen([sys.executable, "-c", TLS_SERVER, certificate, key], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            asyncio.run(work(int(server.stdout.readline())))
        finally:
            server.terminate()


def test_a_handshake_without_end_is_given_up_and_keeps_nobody_waiting() -> None:
    """OpenSSL skips HelloRequests in a handshake, however many; whoever sends them faster than we read them held the scanner for good."""

    async def admit(packets: int) -> None:
        pass

    async def work(port: int) -> float:
        pauses = [0.0]
        watching = asyncio.create_task(longest_pause(pauses))
        await asyncio.sleep(0)
        with pytest.raises((ConnectionAbortedError, ConnectionResetError)):
            async with dial("127.0.0.1", port, admit, COST, context()):
                pass
        await asyncio.sleep(0.05)
        watching.cancel()
        return max(pauses)

    with running(FLOOD) as port:
        assert asyncio.run(work(port)) < 1.0


def test_what_a_server_says_to_tls_alone_is_paid_for_before_more_is_read(tmp_path: Path) -> None:
    """Tickets without end: 4,760 packets left within 4 s for the price of 8."""
    certificate, key, _ = make_certificate(tmp_path, "wire.example")
    paid = [0]

    async def admit(packets: int) -> None:
        paid[0] += packets
        await asyncio.sleep(packets / 100)

    async def work(port: int) -> tuple[bytes, int, int]:
        async with dial("127.0.0.1", port, admit, COST, context()) as wire:
            said = await wire.read_all(limit=1 << 16, seconds=2.0)
            return said, (counted(wire._socket) or (0, 0))[0], paid[0]

    with running(TICKETS, str(certificate), str(key)) as port:
        said, sent, paid_then = asyncio.run(work(port))
    assert said == b""
    assert sent <= paid_then + 4 * DRIPS, "of what left, no more is unpaid than what answered the last that was read"


def test_a_conversation_that_is_excluded_meanwhile_says_no_more() -> None:
    """A revocation ends the unit; an exclusion, or fewer ports, end what was open. The banner probe sent its question 1.2 s after it."""
    excluded = threading.Event()
    heard: list[tuple[bytes, float]] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            listener.accept()[0].close()  # the sweep's
            peer, _ = listener.accept()
            with peer:
                excluded.set()
                began, said = time.monotonic(), b""
                peer.settimeout(5)
                with suppress(OSError):
                    said = peer.recv(64)
                heard.append((said, time.monotonic() - began))

        thread = threading.Thread(target=serve)
        thread.start()
        unit = make_unit(["127.0.0.1"], str(listener.getsockname()[1]), ("banner",))
        scan(unit, NotingGate(refuse=lambda address, ask: excluded.is_set()), ScannerSettings(connect_timeout=0.5), "connect")
        thread.join(10)
    ((said, seconds),) = heard
    assert said == b""
    assert seconds < 1.0
