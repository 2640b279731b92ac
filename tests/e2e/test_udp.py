"""A UDP service from the target that somebody pushes to the row in ClickHouse, until it is gone."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.conftest import World
from tests.namespaces import inside, ip, namespaces
from tests.pipelines import Row

pytestmark = [pytest.mark.kafka, pytest.mark.store, pytest.mark.namespace, pytest.mark.slow, pytest.mark.timeout(300)]
TARGET, ADDRESS = "dlv-target", "198.18.248.2"
SERVICES = f"SELECT transport, port, service, status FROM services FINAL WHERE address = '{ADDRESS}' ORDER BY transport, port"  # noqa: S608


@contextmanager
def target() -> Iterator[None]:
    """A host behind a link of its own."""
    with namespaces((TARGET,)):
        ip("link", "add", "dlv-up", "type", "veth", "peer", "name", "down0", "netns", TARGET)
        try:
            ip("address", "add", "198.18.248.1/30", "dev", "dlv-up")
            ip("link", "set", "dlv-up", "up")
            ip("-n", TARGET, "address", "add", f"{ADDRESS}/30", "dev", "down0")
            ip("-n", TARGET, "link", "set", "down0", "up")
            yield
        finally:
            ip("link", "del", "dlv-up")


@contextmanager
def name_server() -> Iterator[None]:
    """Answers every DNS question with a refusal (RFC 1035, 4.1.1: RCODE 5)."""
    sock = inside(TARGET, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    ended = threading.Event()
    with sock:
        sock.bind((ADDRESS, 53))
        sock.settimeout(0.2)

        def serve() -> None:
            while not ended.is_set():
                try:
                    data, sender = sock.recvfrom(2048)
                except TimeoutError:
                    continue
                sock.sendto(data[:2] + b"\x80\x05" + data[4:], sender)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def test_a_udp_service_is_found_named_and_closed_again(world: World) -> None:
    pipeline = world.pipeline

    def services() -> list[Row]:
        return pipeline.rows(SERVICES)

    with target():
        pipeline.grant("udp", [f"{ADDRESS}/32"], tcp_ports="22", udp_ports="53,161", icmp=True)
        with name_server():
            run = pipeline.push("udp", [ADDRESS], "22,U:53,161", "udp", ("ping",))
            assert run["units"] == 2
            pipeline.scanned(run)
            found = [{"transport": "udp", "port": 53, "service": "dns", "status": "open"}]
            pipeline.until(lambda: services() == found, 30, "the name server's row")
        sweeps = pipeline.rows("SELECT transport, ports, complete, answered FROM sweeps FINAL WHERE run_id = {r:String}", r=run["run_id"])
        assert sorted((one["transport"], one["ports"], one["answered"]) for one in sweeps if one["complete"]) == [
            ("tcp", "22", 0),
            ("udp", "53,161", 1),
        ]
        pipeline.scanned(pipeline.push("udp-again", [ADDRESS], "U:53", "udp"))
        pipeline.until(lambda: [one["status"] for one in services()] == ["closed"], 60, "the closed port to be confirmed")
        kinds = [row["kind"] for row in pipeline.rows("SELECT kind FROM changes FINAL WHERE address = {a:String} AND port = 53", a=ADDRESS)]
        assert sorted(kinds) == ["service_closed", "service_opened"]
