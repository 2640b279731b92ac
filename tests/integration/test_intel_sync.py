"""`driftline intel` on a real Kafka and a real HTTP server: only changes are written, and what is wrong changes nothing."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Message

from infra.core.errors import BadInput, DriftlineError
from infra.core.settings import KafkaSettings, Settings
from infra.kafka.client import key_of, read_whole, value_of
from infra.kafka.topics import TopicAdmin
from producers.intel.notes import load_notes
from producers.intel.sources import Source
from producers.intel.syncing import Manner, Outcome, sync
from producers.intel.table import IntelTable
from schemas.codec import Codec
from schemas.events.intel import IntelRecord
from tests.commands import invoke
from tests.feeds import HTTPD, cve, epss, kev, lines, nvd, nvd_cve

pytestmark = pytest.mark.kafka
CODEC = Codec()
NOW = datetime(2026, 3, 10, tzinfo=UTC)
OTHER, THIRD = "CVE-2022-1000", "CVE-2023-1000"


@pytest.fixture
def settings(kafka: str, tmp_path: Path) -> Settings:
    made = Settings(data_dir=tmp_path / "data", kafka=KafkaSettings(bootstrap=kafka, prefix=f"intel{uuid4().hex[:8]}.", partitions=2))
    made.data_dir.mkdir()
    TopicAdmin(made).apply()
    return made


@dataclass
class Served:
    """What the server answers under a path, and what it was asked."""

    body: bytes = b""
    etag: str = '"1"'
    status: int = 200
    location: str = ""
    short: int = 0
    encoding: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture
def served() -> Iterator[tuple[str, dict[str, Served]]]:
    paths: dict[str, Served] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            one = paths[self.path]
            one.asked.append(dict(self.headers.items()))
            same = one.status == 200 and self.headers.get("If-None-Match") == one.etag
            self.send_response(304 if same else one.status)
            if one.location:
                self.send_header("Location", one.location)
            if one.encoding:
                self.send_header("Content-Encoding", one.encoding)
            self.send_header("ETag", one.etag)
            self.send_header("Content-Length", "0" if same else str(len(one.body) + one.short))
            self.end_headers()
            if not same:
                self.wfile.write(one.body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", paths
    server.shutdown()
    server.server_close()
    thread.join()


def put(settings: Settings, name: str, content: bytes) -> str:
    path = settings.data_dir.parent / name
    path.write_bytes(content)
    return str(path)


def run(settings: Settings, feed: str, place: str, now: datetime = NOW, **manner: bool) -> Outcome:
    (outcome,) = sync(settings, CODEC, [Source(feed, place)], now, Manner(**manner))
    return outcome


def log_of(settings: Settings) -> list[tuple[str, IntelRecord | None]]:
    """Every record of the topic, tombstones included."""
    found: list[tuple[str, IntelRecord | None]] = []

    def take(message: Message) -> None:
        value = value_of(message)
        record = None if value is None else CODEC.decode("intel", value)
        assert record is None or isinstance(record, IntelRecord)
        found.append((key_of(message), record))

    read_whole(settings, "intel", take)
    return found


def table_of(settings: Settings) -> dict[str, IntelRecord]:
    return {cve: record for cve, record in dict(log_of(settings)).items() if record is not None}


def test_four_feeds_make_one_record_a_cve(settings: Settings) -> None:
    sources = [
        Source("kev", put(settings, "kev.json", kev([HTTPD]))),
        Source("epss", put(settings, "epss.csv.gz", gzip.compress(epss({HTTPD: 0.94, OTHER: 0.01})))),
        Source("nvd", put(settings, "nvd.json", nvd(nvd_cve(HTTPD)))),
        Source("cve", put(settings, "cves.jsonl", lines(cve(HTTPD)))),
    ]
    assert [one.problem for one in sync(settings, CODEC, sources, NOW)] == [""] * 4
    written = log_of(settings)
    assert len(written) == 2, "one record a CVE is written, not one a feed"
    record = table_of(settings)[HTTPD]
    assert (record.kev, record.epss, record.cvss, record.ssvc_exploitation) == (True, 0.94, 7.5, "active")
    assert [one.name for one in record.sources] == ["cve", "CISA-ADP", "nvd", "kev", "epss"]
    assert {one.source for one in record.scores} == {"cna", "nvd"}
    assert (table_of(settings)[OTHER].epss, table_of(settings)[OTHER].kev, table_of(settings)[OTHER].cvss) == (0.01, None, None)


def test_only_what_changed_is_written(settings: Settings) -> None:
    run(settings, "epss", put(settings, "a.csv", epss({HTTPD: 0.9, OTHER: 0.1, THIRD: 0.2})))
    before = log_of(settings)
    again = run(settings, "epss", put(settings, "a.csv", epss({HTTPD: 0.9, OTHER: 0.1, THIRD: 0.2}, "2026-03-02")))
    assert (again.written, again.problem) == (0, "")
    assert log_of(settings) == before
    next_day = run(settings, "epss", put(settings, "b.csv", epss({HTTPD: 0.9, OTHER: 0.5, THIRD: 0.2}, "2026-03-03")))
    assert next_day.written == 1
    assert [key for key, _ in log_of(settings)[len(before) :]] == [OTHER]
    older = run(settings, "epss", put(settings, "c.csv", epss({HTTPD: 0.1, OTHER: 0.1, THIRD: 0.1}, "2026-02-01")))
    assert "older than what is known (2026-03-03)" in older.note
    assert len(log_of(settings)) == len(before) + 1


def test_what_was_withdrawn(settings: Settings) -> None:
    run(settings, "cve", put(settings, "cves.jsonl", lines(cve(HTTPD), cve(OTHER))))
    run(settings, "kev", put(settings, "kev.json", kev([HTTPD, OTHER, THIRD])))
    held = run(settings, "kev", put(settings, "less.json", kev([OTHER], "2026-03-05")))
    assert "2 fewer of the 3" in held.problem
    assert table_of(settings)[HTTPD].kev is True
    gone = run(settings, "kev", put(settings, "less.json", kev([OTHER], "2026-03-05")), shrunk=True)
    assert (gone.written, gone.withdrawn) == (0, 2)
    table = table_of(settings)
    assert THIRD not in table, "only KEV knew it: nothing is left"
    assert dict(log_of(settings))[THIRD] is None
    assert (table[HTTPD].kev, table[HTTPD].kev_added, table[OTHER].kev) == (False, None, True)
    assert table[HTTPD].ssvc_exploitation == "active", "what others say stays"
    rejected = run(settings, "cve", put(settings, "cves.jsonl", lines(cve(HTTPD, "2026-03-06", state="REJECTED"))))
    assert (rejected.written, rejected.withdrawn) == (0, 1)
    assert dict(log_of(settings))[HTTPD] is None
    assert set(table_of(settings)) == {OTHER}
    assert run(settings, "cve", put(settings, "cves.jsonl", lines(cve(HTTPD, "2026-03-06", state="REJECTED")))).withdrawn == 0


@pytest.mark.parametrize(
    ("feed", "content"),
    [
        ("epss", gzip.compress(epss({f"CVE-2024-{number}": 0.5 for number in range(1000, 9000)}))[:-500]),
        ("epss", epss({HTTPD: 0.5, OTHER: 0.6}) + b"CVE-2024-1000,half,0.1\n"),
        ("kev", kev([HTTPD, OTHER], count=3)),
        ("cve", lines(cve(HTTPD, less_than="9"), cve(OTHER, affected=[{"versions": "all"}]))),
        ("nvd", nvd(nvd_cve(HTTPD))[:-5]),
        ("kev", gzip.compress(b" " * (80 << 20))),
    ],
    ids=["cut gzip", "half-wrong CSV", "wrong count", "wrong type", "cut JSON", "bomb"],
)
def test_a_bad_feed_changes_nothing_and_the_others_go_on(feed: str, content: bytes, settings: Settings) -> None:
    run(settings, "kev", put(settings, "kev.json", kev([HTTPD])))
    before = log_of(settings)
    bad, good = sync(
        settings, CODEC, [Source(feed, put(settings, "bad", content)), Source("epss", put(settings, "good", epss({THIRD: 0.3})))], NOW
    )
    assert bad.problem
    assert (bad.written, good.written, good.problem) == (0, 1, "")
    assert log_of(settings)[: len(before)] == before
    assert [key for key, _ in log_of(settings)[len(before) :]] == [THIRD]
    assert not list((settings.data_dir / "intel").glob("feeds-*")), "no download is left behind"


def test_a_server_is_asked_only_for_what_changed(settings: Settings, served: tuple[str, dict[str, Served]]) -> None:
    url, paths = served
    one = paths["/kev.json"] = Served(kev([HTTPD]))
    assert run(settings, "kev", f"{url}/kev.json").written == 1
    again = run(settings, "kev", f"{url}/kev.json")
    assert (again.note, again.written) == ("not changed since it was fetched last", 0)
    assert "If-None-Match" not in one.asked[0]
    assert one.asked[1]["If-None-Match"] == '"1"'
    one.body, one.etag = kev([HTTPD, OTHER], "2026-03-02"), '"2"'
    assert run(settings, "kev", f"{url}/kev.json").written == 1
    assert run(settings, "kev", f"{url}/kev.json", anew=True).note == ""
    (note,) = load_notes(settings.data_dir).values()
    assert (note.etag, f"{note.as_of:%Y-%m-%d}") == ('"2"', "2026-03-02")
    fresh = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"prefix": f"{settings.kafka.prefix}anew."})})
    TopicAdmin(fresh).apply()
    assert run(fresh, "kev", f"{url}/kev.json").written == 2, "an empty topic needs all of it, whatever was fetched before"


def test_what_a_server_may_not_do(settings: Settings, served: tuple[str, dict[str, Served]]) -> None:
    url, paths = served
    paths["/kev.json"] = Served(kev([HTTPD]))
    paths["/there"] = Served(status=302, location="/kev.json")
    paths["/file"] = Served(status=302, location="file:///etc/passwd")
    paths["/round"] = Served(status=302, location="/round")
    paths["/missing"] = Served(b"no", status=404)
    paths["/cut"] = Served(kev([HTTPD]), short=100)
    paths["/bomb"] = Served(gzip.compress(b" " * (80 << 20)), encoding="gzip")
    said = {path: run(settings, "kev", f"{url}{path}").problem for path in ("/file", "/round", "/missing", "/cut", "/bomb")}
    assert "redirects from http to file" in said["/file"]
    assert "more than 5 times" in said["/round"]
    assert "answers 404" in said["/missing"]
    assert "can't be fetched" in said["/cut"]
    assert "a bomb" in said["/bomb"]
    small = settings.model_copy(update={"intel": settings.intel.model_copy(update={"download_mb": 1})})
    paths["/large"] = Served(b"x" * (2 << 20))
    assert "more than 1048576" in run(small, "kev", f"{url}/large").problem
    assert log_of(settings) == []
    assert run(settings, "kev", f"{url}/there").written == 1


def test_a_feed_that_is_late_fails_and_one_that_is_not_there(settings: Settings, tmp_path: Path) -> None:
    assert "can't be read: No such file" in run(settings, "kev", str(tmp_path / "none.json")).problem
    assert "dated in the future" in run(settings, "kev", put(settings, "kev.json", kev()), NOW - timedelta(days=30)).problem


def test_of_two_writers_at_once_the_first_writes_nothing(settings: Settings) -> None:
    run(settings, "kev", put(settings, "kev.json", kev([HTTPD])))
    first = IntelTable(settings, CODEC)
    IntelTable(settings, CODEC)
    record = first.get(HTTPD)
    assert record is not None
    first.put(HTTPD, {**record, "title": "stale"})
    with pytest.raises(DriftlineError, match="took over"):
        first.write()
    assert table_of(settings)[HTTPD].title != "stale"


@pytest.fixture
def shell(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("DRIFTLINE_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("DRIFTLINE_KAFKA__BOOTSTRAP", settings.bootstrap)
    monkeypatch.setenv("DRIFTLINE_KAFKA__PREFIX", settings.kafka.prefix)
    monkeypatch.setenv("DRIFTLINE_KAFKA__PARTITIONS", str(settings.kafka.partitions))
    return settings


def test_the_commands(shell: Settings) -> None:
    bad = put(shell, "bad.csv", b"nothing")
    done = invoke("intel", "sync", "--kev", put(shell, "kev.json", kev([HTTPD])), "--epss", bad, "--json")
    assert done.exit_code == 2
    told: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    assert [(one["feed"], one["written"]) for one in told] == [("kev", 1), ("epss", 0)]
    assert "line 1 is not" in told[1]["problem"]
    assert invoke("intel", "sync", "--cve", put(shell, "cves.jsonl", lines(cve(HTTPD)))).exit_code == 0
    shown = invoke("intel", "show", HTTPD.lower(), "--json")
    (record,) = json.loads(shown.stdout.splitlines()[-1])
    assert (record["cve"], record["kev"], record["epss"]) == (HTTPD, True, None)
    text = invoke("intel", "show", HTTPD)
    assert text.exit_code == 0
    for words in ("unknown", "CISA-ADP", "2026-03-01", "≥ 2.4.49 < 2.4.51", "Apache HTTP Server"):
        assert words in text.stdout
    assert "synced cve as of 2026-03-01, kev as of 2026-03-01" in text.stderr
    missing = invoke("intel", "show", OTHER)
    assert missing.exit_code == 2
    assert f"Nothing is known of {OTHER}" in missing.stderr


def test_what_the_commands_refuse(shell: Settings) -> None:
    del shell
    for words, reason in (
        (("sync",), "none is switched on"),
        (("sync", "--kev", "ftp://example.org/kev.json"), "no http"),
        (("sync", "--kev", "https://me:secret@example.org/kev.json"), "holds a password"),
        (("show", "log4shell"), "no CVE's name"),
    ):
        refused = invoke("intel", *words)
        assert isinstance(refused.exception, BadInput), words
        assert reason in str(refused.exception)
