"""A newcomer finds each thing where he looks first: no file too long to read at once, and none whose name says nothing."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("schemas", "producers", "processors", "consumers", "infra", "tests", "bench")
MOST_LINES = 400
SAY_NOTHING = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}


def test_no_file_is_too_long_and_each_name_says_something() -> None:
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 100
    assert not [path for path in files if path.read_text().count("\n") > MOST_LINES]
    assert not [path for path in files if path.stem in SAY_NOTHING]
