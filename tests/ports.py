"""Ports for what a test starts."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack

# Below what Linux gives to outgoing connections (ip_local_port_range begins at 32768), and above the program's own: of those,
# another test's connection could take one between this choice and the server's start.
CHOICE = range(20_000, 32_000)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that are free now, all different."""
    found: list[int] = []
    with ExitStack() as stack:
        for port in random.sample(CHOICE, len(CHOICE)):
            if len(found) == count:
                break
            one = stack.enter_context(socket.socket())
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
    return found
