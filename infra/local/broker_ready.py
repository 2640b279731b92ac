"""Asks a Kafka broker for its metadata, with one request over a plain socket.

A client library would do, but each reconnects by its own back-off and logs every refused try; a start is measured in tenths of
seconds. Format: "Kafka protocol guide", Metadata request and response version 4, request header version 1. A broker that wants a login
answers before it nothing but ApiVersions (version 0).
"""

from __future__ import annotations

import socket
import struct

_METADATA, _VERSION, _NO_TOPICS = 3, 4, 0
_API_VERSIONS = 18


def answers(host: str, port: int, timeout: float = 2.0, login: bool = False) -> bool:
    """Whether the broker at host:port answers a metadata request and names at least one live broker.

    With `login` only that it answers: before one has logged in it tells no more.
    """
    client = b"driftline"
    if login:
        body = struct.pack(">hhih", _API_VERSIONS, 0, 1, len(client)) + client
    else:
        body = struct.pack(">hhih", _METADATA, _VERSION, 1, len(client)) + client + struct.pack(">ib", _NO_TOPICS, 0)
    try:
        with socket.create_connection((host, port), timeout) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            with connection.makefile("rb") as stream:
                (size,) = struct.unpack(">i", stream.read(4))
                answer = stream.read(size)
        if login:
            return struct.unpack_from(">ih", answer) == (1, 0)  # correlation id, error
        # correlation id, throttle time, then the number of brokers
        correlation, _throttle, brokers = struct.unpack_from(">iii", answer)
    except (OSError, struct.error):
        return False
    return bool(correlation == 1 and brokers > 0)
