"""Lines of targets in every format, and pushing them."""

from __future__ import annotations

import io
import os
import threading
import time
import tracemalloc
from collections.abc import Iterator

import pytest

from infra.core.errors import BadInput
from producers.targets.pushing import PushOptions, PushReport, push
from producers.targets.reading import MOST_LINE, Format, LineReader, Manner, as_they_come, bounded_lines
from schemas.events.base import Event
from schemas.events.targets import TargetRequest


class Topic:
    """Keeps the requests that are published."""

    def __init__(self) -> None:
        self.requests: list[TargetRequest] = []

    def publish(self, topic: str, key: str, event: Event) -> None:
        assert topic == "targets"
        assert isinstance(event, TargetRequest)
        assert key == event.request_id
        self.requests.append(event)


def pushed(text: str, form: Format = "auto", **more: object) -> tuple[list[TargetRequest], PushReport]:
    topic = Topic()
    options = PushOptions(push_id="p", form=form, **more)  # type: ignore[arg-type]
    report = push(bounded_lines(io.StringIO(text)), topic.publish, options)
    return topic.requests, report


def test_text_with_comments_ports_and_every_kind_of_target() -> None:
    requests, report = pushed(
        "# our lab\n198.18.0.7\n\n198.18.0.0/24  # all of it\n198.18.0.1 - 198.18.0.9\nwww.example.org 22,80\n2001:db8::1 443\n"
    )
    assert [(one.targets, one.ports) for one in requests] == [
        (("198.18.0.7", "198.18.0.0/24", "198.18.0.1-198.18.0.9"), None),
        (("www.example.org",), "22,80"),
        (("2001:db8::1",), "443"),
    ]
    assert (report.accepted, report.requests, report.rejected) == (5, 3, [])


def test_a_probe_that_is_not_installed_is_refused_by_line_and_only_asked_for_when_named() -> None:
    asked: list[int] = []

    def known() -> frozenset[str]:
        asked.append(1)
        return frozenset({"tls", "http"})

    pushed("198.18.0.7\n", probes=known)
    assert asked == []
    requests, report = pushed("target,probes\n198.18.0.7,tls http\n198.18.0.8,tsl\n", probes=known)
    assert [one.probes for one in requests] == [("tls", "http")]
    assert [(one.line, one.reason) for one in report.rejected] == [(3, "There is no probe 'tsl' on this machine; there are http, tls.")]


def test_digits_of_other_scripts_are_no_ports() -> None:
    _, report = pushed("198.18.0.7 ٢٢\n198.18.0.8 ２２\n198.18.0.9 22\n")
    assert (report.accepted, report.rejected_total) == (1, 2)


def test_a_line_without_an_end_is_refused_rather_than_read_for_ever() -> None:
    class Zeros(io.StringIO):
        def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]
            return "\0" * (size or 1)

    with pytest.raises(BadInput, match="longer than"):
        list(bounded_lines(Zeros()))


def test_csv_finds_its_columns_in_any_order() -> None:
    text = '\ufeffOwner,IP,Ports,Zone\n"Web, team",198.18.0.7,"22,80",dmz\nDB,198.18.0.8,,\n'
    requests, _ = pushed(text)
    assert [(one.targets, one.ports, one.zone) for one in requests] == [
        (("198.18.0.7",), "22,80", "dmz"),
        (("198.18.0.8",), None, "default"),
    ]
    requests, _ = pushed("198.18.0.7,22\n198.18.0.8\n", "csv")
    assert [(one.targets, one.ports) for one in requests] == [(("198.18.0.7",), "22"), (("198.18.0.8",), None)]


def test_json_lines_hold_targets_objects_or_whole_requests() -> None:
    text = (
        '"198.18.0.7"\n{"target": "198.18.0.8", "ports": [22, 80], "probes": ["tls"]}\n'
        '{"targets": ["198.18.0.9", "a.example"], "ports": 443}\n'
        '{"request_id": "mine", "targets": ["198.18.0.1"], "campaign_id": "c", "not_before": "2026-03-04T12:00:00Z"}\n'
    )
    requests, report = pushed(text)
    assert [(one.targets, one.ports, one.probes) for one in requests] == [
        (("198.18.0.7",), None, ()),
        (("198.18.0.8",), "22,80", ("tls",)),
        (("198.18.0.9", "a.example"), "443", ()),
        (("198.18.0.1",), None, ()),
    ]
    assert (requests[3].request_id, requests[3].campaign_id) == ("mine", "c")
    assert report.rejected == []


@pytest.mark.parametrize(
    ("line", "form", "part"),
    [
        ("198.18.0.300", "text", "is not an address"),
        ("198.18.0.7 70000", "text", "Port 70000 does not exist"),
        ("0.0.0.0/0", "text", "names 4294967296 addresses"),
        ("2001:db8::/64", "text", "never enumerated"),
        ("198.18.0.7\ufffd", "text", "is not an address"),
        ("{", "jsonl", "not JSON"),
        ("[" * 60_000, "jsonl", "not JSON"),
        ("7", "jsonl", "JSON line is a target"),
        ("{}", "jsonl", "names no target"),
        ('{"targets": []}', "jsonl", "names no target"),
        ('{"targets": [7]}', "jsonl", "names no target"),
        ('{"target": "198.18.0.7", "prots": "22"}', "jsonl", "field 'prots' is not known"),
        ('{"request_id": "x", "targets": ["198.18.0.7"], "color": 1}', "jsonl", "color"),
        ('{"request_id": "x", "targets": ["nonsense!"]}', "jsonl", "is not an address"),
        ('{"target": "198.18.0.7", "zone": "moon"}', "jsonl", "no zone 'moon'"),
        (",,", "csv", "names nothing"),
        ("x" * (MOST_LINE + 10), "text", "longer than"),
    ],
)
def test_a_bad_line_is_told_with_its_number_and_skipped(line: str, form: Format, part: str) -> None:
    good = '"198.18.0.1"' if form == "jsonl" else "198.18.0.1"
    requests, report = pushed(f"{good}\n{line}\n{good}\n", form, zones=("default",))
    assert [one.targets for one in requests] == [("198.18.0.1", "198.18.0.1")]
    assert [one.line for one in report.rejected] == [2]
    assert part in report.rejected[0].reason
    assert len(report.rejected[0].text) <= 80


def test_requests_hold_many_targets_but_not_more_addresses_than_one_may_name() -> None:
    requests, _ = pushed("".join(f"198.18.0.{number}\n" for number in range(250)), batch=100)
    assert [len(one.targets) for one in requests] == [100, 100, 50]
    requests, _ = pushed("198.18.0.0/16\n198.19.0.0/16\n198.18.0.1\n", max_addresses=70_000)
    assert [one.targets for one in requests] == [("198.18.0.0/16",), ("198.19.0.0/16", "198.18.0.1")]


def test_the_same_push_makes_the_same_requests() -> None:
    assert pushed("198.18.0.7\n")[0] == pushed("198.18.0.7\n")[0]
    other = Topic()
    push(["198.18.0.7"], other.publish, PushOptions(push_id="q"))
    assert other.requests[0].request_id != pushed("198.18.0.7\n")[0][0].request_id


def test_options_count_where_a_line_says_nothing() -> None:
    manner = Manner(zone="dmz", ports="22", probes=("tls",), grant_id="lab")
    requests, _ = pushed("198.18.0.7\n198.18.0.8 80\n", manner=manner, requested_by="alice")
    assert [(one.ports, one.zone, one.probes, one.grant_id, one.requested_by) for one in requests] == [
        ("22", "dmz", ("tls",), "lab", "alice"),
        ("80", "dmz", ("tls",), "lab", "alice"),
    ]


@pytest.mark.long
def test_a_million_lines_need_no_more_memory_than_few() -> None:
    def lines() -> Iterator[str]:
        for number in range(1_000_000):
            yield f"198.18.{number >> 8 & 255}.{number & 255}\n" if number % 10 else "bad line!\n"

    sizes: list[int] = []

    def progress(report: PushReport) -> None:
        if report.accepted % 90_000 < 1_000:
            sizes.append(tracemalloc.get_traced_memory()[0])

    few = [line for line, _ in zip(lines(), range(60_000), strict=False)]
    tracemalloc.start()
    try:
        report = push(few, lambda *_: None, PushOptions(push_id="p"), progress)
    finally:
        tracemalloc.stop()
    assert len(report.rejected) == 1000
    assert report.rejected_total == 6000
    assert max(sizes) < 3_000_000
    began = time.perf_counter()
    report = push(lines(), lambda *_: None, PushOptions(push_id="p"))
    assert (report.accepted, report.rejected_total, len(report.rejected)) == (900_000, 100_000, 1000)
    assert time.perf_counter() - began < 60


def test_a_pipe_that_stays_open_is_served_while_it_is_open() -> None:
    read_end, write_end = os.pipe()
    topic, done = Topic(), threading.Event()

    def serve() -> None:
        with os.fdopen(read_end) as file:
            push(as_they_come(bounded_lines(file), 0.05), topic.publish, PushOptions(push_id="p"))
        done.set()

    thread = threading.Thread(target=serve)
    thread.start()
    with os.fdopen(write_end, "w") as pipe:
        for number in (1, 2):
            pipe.write(f"198.18.0.{number}\n")
            pipe.flush()
            deadline = time.monotonic() + 10
            while len(topic.requests) < number:
                assert time.monotonic() < deadline, "the line was not sent while the pipe is open"
                time.sleep(0.01)
    assert done.wait(10)
    thread.join()
    assert [one.targets for one in topic.requests] == [("198.18.0.1",), ("198.18.0.2",)]


def test_an_error_of_the_pipe_is_not_swallowed() -> None:
    def lines() -> Iterator[str]:
        yield "198.18.0.1\n"
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(as_they_come(lines()))


def test_a_file_without_line_ends_does_not_fill_the_memory() -> None:
    lines = list(bounded_lines(io.StringIO("x" * 1_000_000 + "\n198.18.0.1")))
    assert [len(line) > MOST_LINE for line in lines] == [True, False]
    assert lines[1] == "198.18.0.1"


def test_the_header_is_no_target() -> None:
    reader = LineReader(Manner())
    assert reader.read("host,ports") is None
    wanted = reader.read("www.example.org,22")
    assert wanted is not None
    assert (wanted.targets, wanted.manner.ports, wanted.addresses) == (("www.example.org",), "22", 1)
