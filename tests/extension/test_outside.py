"""A package outside the tree adds a probe, a rule and a sink: built, installed beside Driftline, seen at work."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.extension.building import build_wheel, empty_environment, install
from tests.pipelines import running_pipeline

OUTSIDE = Path(__file__).parent / "outside"
MOST_LINES = 40


class _Beacon(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        if self.rfile.readline(100) == b"WHO\r\n":
            self.wfile.write(b"BEACON 3.1 open\r\n")


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A scanner that resets its connections is no news."""


@contextmanager
def beacon() -> Iterator[int]:
    """A service that no built-in probe knows; gives its port."""
    with _Server(("127.0.0.1", 0), _Beacon) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


def test_each_part_is_short() -> None:
    for file in (OUTSIDE / "driftline_outside").glob("*.py"):
        assert len(file.read_text().splitlines()) <= MOST_LINES, file.name


@pytest.mark.kafka
@pytest.mark.store
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_package_outside_the_tree_adds_a_probe_a_rule_and_a_sink(tmp_path: Path) -> None:
    python = empty_environment(tmp_path / "venv", layered=True)
    install(python, "--no-deps", str(build_wheel(OUTSIDE, tmp_path / "dist")))
    with beacon() as port, running_pipeline(tmp_path / "data", str(python)) as pipeline:
        pipeline.grant("loopback", ["127.0.0.1/32"], tcp_ports=str(port))
        run = pipeline.push("beacon", ["127.0.0.1"], str(port))
        pipeline.scanned(run)
        pipeline.until(lambda: pipeline.rows("SELECT 1 FROM worst_first WHERE rule = 'open-beacon'"), 30, "the rule's finding")
        (seen,) = pipeline.rows("SELECT * FROM observations FINAL WHERE run_id = {r:String}", r=run["run_id"])
        (found,) = pipeline.rows("SELECT * FROM findings FINAL WHERE rule = 'open-beacon'")
        lines = pipeline.folder / "outside-findings.jsonl"
        pipeline.until(lambda: lines.exists() and "open-beacon" in lines.read_text(), 30, "the sink's line")
    assert (seen["service"], seen["version"], seen["facts"]["beacon.door"]) == ("beacon", "3.1", "open")
    assert "beacon" in seen["evidence"]
    assert found["title"] == "A beacon's door is open"
    assert found["places"] == [f"127.0.0.1:{port}"]
    told = [json.loads(line) for line in lines.read_text().splitlines()]
    assert found["finding_id"] in {one["finding_id"] for one in told if one["rule"] == "open-beacon"}
