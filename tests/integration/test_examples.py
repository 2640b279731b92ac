"""The scripts and the DAG's task under docs/examples, run as they stand, against a real Kafka; NetBox and kubectl are stand-ins."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from infra.core.settings import KafkaSettings, Settings
from infra.kafka.client import read_table
from infra.kafka.topics import TopicAdmin
from schemas.events.context import InventoryRecord
from tests.inventories import KUBECTL
from tests.scanfiles import host, nmap_xml, port

pytestmark = [pytest.mark.kafka, pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")]
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
TOKEN = "Token 0123456789abcdef"
ADDRESSES = [{"id": one, "address": f"198.18.{one // 250}.{one % 250}/16", "status": {"value": "active"}} for one in range(1, 701)]
PREFIXES = [{"id": 1, "prefix": "198.18.0.0/24", "tenant": {"name": "net"}, "status": {"value": "active"}}]


@pytest.fixture
def environment(kafka: str, tmp_path: Path) -> dict[str, str]:
    """A prefix of its own on Kafka, and a PATH on which `driftline` is this one."""
    prefix = f"ex{uuid.uuid4().hex[:8]}."
    TopicAdmin(settings_of(kafka, prefix, tmp_path)).apply()
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "driftline").write_text(f'#!/bin/sh\nexec {sys.executable} -m infra.app.cli "$@"\n')
    (programs / "driftline").chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DRIFTLINE_")}
    return kept | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "DRIFTLINE_DATA_DIR": str(tmp_path),
        "DRIFTLINE_KAFKA__BOOTSTRAP": kafka,
        "DRIFTLINE_KAFKA__PREFIX": prefix,
        "DRIFTLINE_KAFKA__PARTITIONS": "1",
    }


def settings_of(kafka: str, prefix: str, folder: Path) -> Settings:
    return Settings(data_dir=folder, kafka=KafkaSettings(bootstrap=kafka, prefix=prefix, partitions=1))


def inventory(environment: dict[str, str], folder: Path) -> dict[str, InventoryRecord]:
    settings = settings_of(environment["DRIFTLINE_KAFKA__BOOTSTRAP"], environment["DRIFTLINE_KAFKA__PREFIX"], folder)
    return {one.network: one for one in read_table(settings, "inventory").values() if isinstance(one, InventoryRecord)}


class NetBox(BaseHTTPRequestHandler):
    """Two lists, a page of at most 500 at a time, for who has the token."""

    lists: dict[str, list[dict[str, object]]]

    def do_GET(self) -> None:
        """A page."""
        asked = urlsplit(self.path)
        wanted = self.lists.get(asked.path)
        if wanted is None or self.headers["Authorization"] != TOKEN:
            self.send_error(404 if wanted is None else 403)
            return
        query = parse_qs(asked.query)
        first, limit = int(query["offset"][0]), min(500, int(query["limit"][0]))
        more = f"http://{self.headers['Host']}{asked.path}?offset={first + limit}" if first + limit < len(wanted) else None
        body = json.dumps({"count": len(wanted), "next": more, "previous": None, "results": wanted[first : first + limit]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def netbox(addresses: list[dict[str, object]]) -> Iterator[str]:
    handler = type("Answering", (NetBox,), {"lists": {"/api/ipam/ip-addresses/": addresses, "/api/ipam/prefixes/": PREFIXES}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def run(environment: dict[str, str], script: str, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    root = EXAMPLES.parents[1]
    done = subprocess.run(
        [str(EXAMPLES / "cron" / script), *arguments], env=environment, cwd=root, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_the_cron_script_syncs_all_pages_of_netbox_and_stops_when_too_much_is_gone(environment: dict[str, str], tmp_path: Path) -> None:
    header = tmp_path / "netbox.header"
    header.write_text(f"Authorization: {TOKEN}\n")
    with netbox([*ADDRESSES]) as url:
        asked = environment | {"NETBOX_URL": url, "NETBOX_HEADER_FILE": str(header)}
        assert "701 members" in run(asked, "sync-netbox.sh").stderr
        header.write_text("Authorization: Token wrong\n")
        assert "403" in run(asked, "sync-netbox.sh", code=22).stderr
    found = inventory(environment, tmp_path)
    assert len(found) == 701
    assert found["198.18.0.0/24"].owner == "net"
    header.write_text(f"Authorization: {TOKEN}\n")
    with netbox(ADDRESSES[:300]) as url:
        asked = environment | {"NETBOX_URL": url, "NETBOX_HEADER_FILE": str(header)}
        assert "more than a fifth is gone" in run(asked, "sync-netbox.sh", code=4).stderr
    assert inventory(environment, tmp_path) == found


def test_the_cron_script_imports_each_scan_once_and_prints_what_differs(environment: dict[str, str], tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    assert run(environment, "compare-scans.sh", str(spool)).stdout == ""
    for day, number in (("2026-03-01", 22), ("2026-03-02", 80)):
        other = 80 if number == 22 else 22
        ports = port(number, "open") + port(other, "closed")
        (spool / f"{day}.xml").write_text(nmap_xml(host("198.18.0.7", ports), "22,80"))
    done = run(environment, "compare-scans.sh", str(spool))
    assert "@@ 198.18.0.7 tcp/22\n-state: open\n+state: closed\n" in done.stdout
    assert run(environment, "compare-scans.sh", str(spool)).stdout == ""
    (spool / "2026-03-03.xml").write_text("<nmaprun")
    assert "2026-03-03.xml" in run(environment, "compare-scans.sh", str(spool), code=1).stderr


def test_the_airflow_task_syncs_what_kubectl_prints(environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kubectl = tmp_path / "bin" / "kubectl"
    (tmp_path / "cluster.json").write_text(json.dumps(KUBECTL))
    kubectl.write_text(
        f'#!/bin/sh\n[ "$*" = "get services,nodes,ingresses --all-namespaces --output json" ] && cat {tmp_path}/cluster.json\n'
    )
    kubectl.chmod(0o755)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(EXAMPLES.parents[1])
    spec = importlib.util.spec_from_file_location("driftline_kubernetes", EXAMPLES / "airflow" / "driftline_kubernetes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert json.loads(module.sync(source="cluster-1"))["members"] == 3
    assert {one.source for one in inventory(environment, tmp_path).values()} == {"cluster-1"}
    (tmp_path / "cluster.json").write_text("{")
    with pytest.raises(subprocess.CalledProcessError, match="exit status 2"):
        module.sync(source="cluster-1")
    kubectl.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(subprocess.CalledProcessError, match="kubectl"):
        module.sync(source="cluster-1")
