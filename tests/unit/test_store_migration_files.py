from __future__ import annotations

from pathlib import Path

import pytest

from infra.clickhouse.migrations import read_migrations, split_statements
from infra.core.errors import BadInput


def test_statements_are_split_outside_quotes_and_comments() -> None:
    text = "-- rollback: DROP; it\nCREATE TABLE a (x String DEFAULT ';--', y Int8 COMMENT 'it''s;'); /* ; */ SELECT 1-1, 4/2;\n-- end;\n"
    assert split_statements(text) == ("CREATE TABLE a (x String DEFAULT ';--', y Int8 COMMENT 'it''s;')", "SELECT 1-1, 4/2")


def test_the_release_s_own_files_are_in_order() -> None:
    names = [migration.name for migration in read_migrations()]
    assert names == sorted(names)


@pytest.mark.parametrize(
    "files",
    [
        {"0002_a.sql": "-- rollback: none\nSELECT 1"},
        {"0001_a.sql": "-- rollback: x\nSELECT 1", "0001_b.sql": "-- rollback: x\nSELECT 1"},
        {"0001_a.sql": "SELECT 1"},
        {"0001_a.sql": "-- rollback:\nSELECT 1"},
        {"0001_a.sql": "-- rollback: nothing\n;"},
        {"1_a.sql": "-- rollback: x\nSELECT 1"},
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(BadInput):
        read_migrations(tmp_path)
