"""What every role tells about itself: four metrics for Prometheus, health, and readiness, on loopback.

`received`, `emitted`, `discarded` (with the stage) are counters, `lag` is how many records wait. `/healthz` answers 200 while
the loop turns,
`/readyz` once it can work, `/metrics` in Prometheus' text form, `/status` the same as JSON for `driftline status`.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

Stage = Literal["decode", "handle", "scope", "publish", "insert"]


class Telemetry:
    """The metrics of one process, and the health of each role in it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.received = Counter("driftline_received", "Records taken in", ["role"], registry=self.registry)
        self.emitted = Counter("driftline_emitted", "Records put out", ["role"], registry=self.registry)
        self.discarded = Counter("driftline_discarded", "Records put aside", ["role", "stage"], registry=self.registry)
        self.lag = Gauge("driftline_lag", "Records that wait", ["role"], registry=self.registry)
        self.reconciled = Gauge(
            "driftline_reconciled",
            "Rows of the last minutes that are lost, doubled or unknown",
            ["table", "verdict"],
            registry=self.registry,
        )
        self.counted = Gauge(
            "driftline_counted",
            "What the reconciler read of a partition since its start",
            ["topic", "partition", "kind"],
            registry=self.registry,
        )
        self.feeds = Gauge("driftline_intel_as_of", "As of when a feed is, in seconds since 1970", ["feed"], registry=self.registry)
        self.roles: set[str] = set()
        self.beats: dict[str, float] = {}
        self.deadlines: dict[str, float] = {}
        self.ready: set[str] = set()
        self.errors: dict[str, str] = {}
        self.details: dict[str, dict[str, object]] = {}
        self.started = time.time()

    def healthy(self, within: float = 60.0) -> bool:
        """Whether every role's loop turned lately, and none is over a time that it has set itself."""
        now, deadlines = time.monotonic(), list(self.deadlines.values())
        return all(now - beat < within for beat in self.beats.values()) and all(now < deadline for deadline in deadlines)

    def snapshot(self) -> dict[str, object]:
        """All of it as plain data."""
        roles = {
            role: {
                "ready": role in self.ready,
                "received": self.received.labels(role)._value.get(),  # noqa: SLF001  the client has no public reader
                "emitted": self.emitted.labels(role)._value.get(),  # noqa: SLF001
                "lag": self.lag.labels(role)._value.get(),  # noqa: SLF001
                "last_error": self.errors.get(role, ""),
                "details": self.details.get(role, {}),
            }
            for role in sorted(self.roles | set(self.beats))
        }
        return {"started": self.started, "healthy": self.healthy(), "roles": roles}


TELEMETRY = Telemetry()


class Meter:
    """One role's hand on the metrics."""

    def __init__(self, role: str, telemetry: Telemetry = TELEMETRY) -> None:
        self._role, self._all = role, telemetry
        self.beat()

    def beat(self) -> None:
        """The loop turned."""
        self._all.beats[self._role] = time.monotonic()

    @contextmanager
    def at_most(self, seconds: float) -> Iterator[None]:
        """What takes longer hangs: then the process is not healthy, and is started anew."""
        self._all.deadlines[self._role] = time.monotonic() + seconds
        try:
            yield
        finally:
            self._all.deadlines.pop(self._role, None)  # in a test two workers of a role may share a process

    def ready(self) -> None:
        """The role can work."""
        self._all.ready.add(self._role)

    def received(self, count: int = 1) -> None:
        """Records were taken in."""
        self._all.received.labels(self._role).inc(count)

    def emitted(self, count: int = 1) -> None:
        """Records were put out."""
        self._all.emitted.labels(self._role).inc(count)

    def discarded(self, stage: Stage, count: int = 1) -> None:
        """Records were put aside at this stage."""
        self._all.discarded.labels(self._role, stage).inc(count)

    def lag(self, count: int) -> None:
        """How many records wait."""
        self._all.lag.labels(self._role).set(count)

    def error(self, text: str) -> None:
        """What went wrong last, and when (UTC)."""
        self._all.errors[self._role] = f"{time.strftime('%H:%M:%SZ', time.gmtime())} {text[:500]}"


def serve(port: int, telemetry: Telemetry = TELEMETRY) -> ThreadingHTTPServer:
    """Answer health, readiness and metrics on loopback from a thread. Raises OSError if the port is taken."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            ready = bool(telemetry.roles) and telemetry.roles <= telemetry.ready
            answers: dict[str, Callable[[], tuple[int, str, bytes]]] = {
                "/healthz": lambda: (200 if telemetry.healthy() else 503, "text/plain", b"ok\n"),
                "/readyz": lambda: (200 if ready else 503, "text/plain", b"ready\n" if ready else b"not ready\n"),
                "/metrics": lambda: (200, "text/plain; version=0.0.4", bytes(generate_latest(telemetry.registry))),
                "/status": lambda: (200, "application/json", json.dumps(telemetry.snapshot()).encode()),
            }
            answer = answers.get(self.path)
            code, kind, body = answer() if answer else (404, "text/plain", b"not found\n")
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: health checks are no news."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 2.0}, name="telemetry", daemon=True).start()
    return server
