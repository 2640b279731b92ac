"""The answering side of the sweep benchmark: real sockets of the kernel, in the network namespace that this process was started in.

Reads one JSON document on its first line of input: `listen`, a list of [address, port]. Says "ready" once all of them listen. Each
further line of input is answered with a log of how many packets the link has received. It ends when its input does, so that no crash of
the benchmark leaves it behind. The kernel answers, at the rate of its softirqs, and keeps nothing of who asked (SYN cookies); whoever
completes a connection is accepted and let go.

A link with no traffic of its own is as unlike a real network as can be, and masscan waits for a packet before it ends: so a broadcast
leaves every 20 ms.
"""

from __future__ import annotations

import json
import resource
import selectors
import socket
import sys
import time
from pathlib import Path

TRICKLE_SECONDS = 0.02
DISCARD = ("198.19.0.255", 9)
COUNTERS = Path("/proc/net/dev")
ACCEPTS_A_TURN = 256


def listening(places: list[tuple[str, int]]) -> list[socket.socket]:
    """A listening socket of each place."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, len(places) + 1024)), hard))
    found = []
    for place in places:
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(place)
        one.listen(4096)
        one.setblocking(False)
        found.append(one)
    return found


def received() -> int:
    """Packets that have come over the link so far."""
    for line in COUNTERS.read_text().splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == "target":
            return int(counters.split()[1])
    return 0


def let_go(listener: socket.socket) -> None:
    """Take the connections that wait and close them, a bounded number, so that the kernel has room for more."""
    for _ in range(ACCEPTS_A_TURN):
        try:
            listener.accept()[0].close()
        except OSError:
            return


def serve(selector: selectors.BaseSelector, trickle: socket.socket) -> None:
    """Answer until the input ends."""
    log: list[tuple[float, int]] = []
    due = time.monotonic()
    while True:
        for key, _ in selector.select(max(0.0, due - time.monotonic())):
            if isinstance(key.fileobj, socket.socket):
                let_go(key.fileobj)
            elif sys.stdin.readline():
                print(json.dumps(log), flush=True)
                log = []
            else:
                return
        if time.monotonic() >= due:
            due = time.monotonic() + TRICKLE_SECONDS
            trickle.sendto(b"", DISCARD)
            count = received()
            if not log or count != log[-1][1]:
                log.append((time.monotonic(), count))


def main() -> None:
    """Listen, say so, and answer."""
    line = sys.stdin.readline()
    if not line:
        return  # nobody wants it any more
    order = json.loads(line)
    with selectors.DefaultSelector() as selector, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trickle:
        for one in listening([(str(address), int(port)) for address, port in order["listen"]]):
            selector.register(one, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        trickle.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        print("ready", flush=True)
        serve(selector, trickle)


if __name__ == "__main__":
    main()
