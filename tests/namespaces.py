"""Network namespaces for tests: made, entered and removed here, never with a default route."""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tests.scanning import wait_until

CLONE_NEWNET = 0x40000000
Result = TypeVar("Result")


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@contextmanager
def namespaces(names: Sequence[str]) -> Iterator[None]:
    """Fresh namespaces with loopback up; whatever an earlier run left under these names goes first."""
    for name in names:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
    try:
        for name in names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        yield
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def join(one: tuple[str, str], other: tuple[str, str]) -> None:
    """Lay a link between two namespaces, each given as (namespace, interface)."""
    ip("link", "add", one[1], "netns", one[0], "type", "veth", "peer", "name", other[1], "netns", other[0])
    for namespace, interface in (one, other):
        ip("-n", namespace, "link", "set", interface, "up")


def inside(name: str, work: Callable[[], Result]) -> Result:
    """Do work in a thread that lives in the namespace, as do the threads and processes that it starts."""
    results: list[Result] = []
    failures: list[BaseException] = []

    def enter() -> None:
        try:
            descriptor = os.open(f"/run/netns/{name}", os.O_RDONLY)
            try:
                if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
            finally:
                os.close(descriptor)
            results.append(work())
        except BaseException as error:  # noqa: BLE001  handed to the caller's thread
            failures.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


@contextmanager
def capturing(folder: Path, expression: str, namespace: str | None = None, interface: str = "any") -> Iterator[list[str]]:
    """Collect tcpdump's lines for a filter; the list is complete once the block is left. Its end is proved by a marker packet."""
    prefix = ["ip", "netns", "exec", namespace] if namespace else []
    lines, errors = folder / "capture.txt", folder / "capture.err"
    seen: list[str] = []
    command = [
        *prefix,
        "tcpdump",
        "-i",
        interface,
        "-n",
        "-l",
        "--immediate-mode",
        "-s",
        "256",
        "-B",
        "16384",
        f"({expression}) or udp port 21998",
    ]
    with lines.open("wb") as output, errors.open("wb") as trouble:
        process = subprocess.Popen(command, stdout=output, stderr=trouble)
    try:
        wait_until(lambda: b"listening on" in errors.read_bytes())
        yield seen
        mark = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'end', ('127.0.0.1', 21998))"
        subprocess.run([*prefix, "python3", "-c", mark], check=True)
        wait_until(lambda: b".21998: UDP" in lines.read_bytes())
    finally:
        process.terminate()
        process.wait()
    seen += [line for line in lines.read_text().splitlines() if line and "21998" not in line]
