"""What strangers wrote never reaches the terminal raw, and JSON is one valid document."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime

import pytest
from rich.text import Text

from infra.app.output import escape, plain, print_json, print_rows, tell

HOSTILE = "\x1b]0;owned\x07\x1b[31mred\x9b2J [bold]x[/bold] \\[red]y[/] :smile: \u202egnp.exe\ud800"


def test_a_table_prints_hostile_cells_as_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows("t", ("title", "places", "rank"), [{"title": HOSTILE, "places": [HOSTILE], "rank": HOSTILE}], False, "")
    shown = capsys.readouterr().out
    assert all(sign.isprintable() or sign == "\n" for sign in shown)
    assert "[bold]x[/bold]" in shown.replace("\n", "")
    assert ":smile:" in shown


def test_notes_print_plain_text_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    tell(HOSTILE)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert all(sign.isprintable() or sign == "\n" for sign in shown.err)


def test_escaped_text_is_what_markup_shows() -> None:
    assert Text.from_markup(escape(HOSTILE), emoji=False).plain == plain(HOSTILE)


def test_json_is_one_line_without_raw_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"title": HOSTILE, "at": datetime(2026, 1, 2, tzinfo=UTC), "wide": "naïve 漢字", "emoji": "\U0001f600"})
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out[:-1].isprintable()
    assert json.loads(shown.out) == {"title": HOSTILE, "at": "2026-01-02T00:00:00+00:00", "wide": "naïve 漢字", "emoji": "\U0001f600"}
    assert "漢字" in shown.out


def test_json_has_null_for_what_json_can_not_say(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows("t", ("a",), [{"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": float("-inf")}, "e": b"\xff"}], True, "")
    assert json.loads(capsys.readouterr().out) == [{"a": None, "b": [None, 1.5], "c": {"d": None}, "e": "\\xff"}]


class Narrow(io.StringIO):
    """A terminal of its own width."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("width", "as_records"), [(120, False), (80, False), (40, True)])
def test_a_table_that_would_break_words_is_told_as_records(monkeypatch: pytest.MonkeyPatch, width: int, as_records: bool) -> None:
    terminal = Narrow()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    row = {"finding_id": "8d09ab99", "title": "Redis answers without a password", "places": ["198.18.200.20:6379"], "empty": ""}
    print_rows("findings", ("finding_id", "title", "places", "empty"), [row, row], False, "")
    shown = terminal.getvalue()
    assert ("findings 2" in shown) == as_records
    assert all(whole in shown for whole in ("8d09ab99", "198.18.200.20:6379", "password"))
    assert max(map(len, Text.from_ansi(shown).plain.splitlines())) <= width


def test_no_rows_say_what_to_do_and_are_an_empty_list_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows("t", ("a",), [], False, "Do this.")
    assert capsys.readouterr() == ("", "Do this.\n")
    print_rows("t", ("a",), [], True, "Do this.")
    assert capsys.readouterr() == ("[]\n", "")


def test_rows_in_a_pipe_are_cut_nowhere(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    row = {f"column_{number}": f"{number}-" + "word " * 12 for number in range(12)}
    print_rows("wide", tuple(row), [row], False, "")
    lines = capsys.readouterr().out.splitlines()
    assert all(any(value.strip() in line for line in lines) for value in row.values())
    assert len({len(line) for line in lines if line.startswith(("│", "┃", "┏", "└"))}) == 1


def test_a_table_that_fits_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Narrow()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    vector = "8.1 CVSS:3.1/AV:N/AC:H/PR:N/UI:N/S:U/C:H/I:H/A:H"
    rows = [
        {"what": "technical impact (SSVC)", "is": "total", "says": "CISA-ADP", "as_of": "2024-07-02 13:18:34"},
        {"what": "CVSS 3.1", "is": vector, "says": "cna", "as_of": "2024-09-14 02:09:26"},
    ]
    print_rows("CVE-2024-6387", ("what", "is", "says", "as_of"), rows, False, "")
    lines = terminal.getvalue().rstrip("\n").splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert all(line.endswith(("┓", "┃", "┩", "│", "┘")) for line in lines[1:])
    assert all(text in "".join(lines) for text in ("13:18:34", "02:09:26"))
