"""What a person brings in a file that is broken is bad input: a sentence and exit code 2, never a traceback."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.app.commands.explain import in_file
from infra.app.commands.imports import _counted, _events
from infra.app.commands.inventory import _lines, _record
from infra.core.errors import BadInput
from producers.imports.looks import Import
from tests.feeds import HTTPD, cve, lines


def test_an_import_of_a_time_that_no_calendar_has_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "naabu.json"
    path.write_text('{"ip":"198.18.0.1","port":80,"timestamp":"9999-12-31T23:59:59-23:59"}\n')
    with pytest.raises(BadInput, match="can't be imported"):
        _counted(path, _events(path, "naabu", Import("default", path.name, "0" * 64), False), datetime(2026, 1, 1, tzinfo=UTC))


def test_a_csv_cell_without_an_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "inventory.csv"
    path.write_text(f"network,owner\n198.18.0.0/24,{'a' * 200_000}\n")
    with pytest.raises(BadInput, match="no CSV"):
        _lines(path)


def test_a_line_that_is_nested_too_deeply_is_a_bad_line() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        _record("[" * 100_000, ("default",))


def test_a_record_that_no_topic_could_hold_is_refused(tmp_path: Path) -> None:
    path, record = tmp_path / "cve.jsonl", cve(HTTPD)
    record["containers"]["cna"]["affected"][0]["vendor"] = "\ud800"
    path.write_bytes(lines(record))
    with pytest.raises(BadInput, match="can't be written"):
        in_file(path, HTTPD)
