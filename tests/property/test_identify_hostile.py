"""Hostile banners: no rule takes long over one, none breaks the answer, and asking all rules at once misses nothing."""

from __future__ import annotations

import gc
import re
import statistics
import string
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.identify import first_times, strung
from processors.enrich.identifying import built_in_identifier
from processors.enrich.linear import MOST_PATTERN, Pattern, PatternError, PatternSet
from processors.enrich.table import Rule, built_in_table
from processors.enrich.texts import texts_in, title_in

RULES = built_in_table().rules
SIZE = 64 * 1024
MOST_SECONDS = 0.010
SHAPES = ("a", " ", "0", "\xff", "\r\n", "220 ", "220-a\r\n", "SSH-2.0-", "* OK ", "+OK ", "1.", "((", "a b ", "<title>", "\0", "\n5.5.5-")
TEXTS = st.text(alphabet=st.characters(max_codepoint=255), max_size=300)


def seconds(work: Callable[[], object]) -> float:
    """The shortest of some runs, which is the work's own time on a machine that does other things too."""
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return best


def hostile(rule: Rule) -> list[bytes]:
    """Near misses of a rule: its examples repeated, cut short by a byte, with their inside blown up, and general shapes."""
    examples = [example.text.encode("latin-1") for example in rule.examples]
    made = [(text * (SIZE // len(text) + 1))[:SIZE] for text in (*examples, *(shape.encode("latin-1") for shape in SHAPES))]
    for text in examples:
        middle = len(text) // 2
        made += [text[:-1] * (SIZE // len(text)), text[:middle] + text[middle : middle + 1] * SIZE + text[middle:]]
        made += [text[:cut] + b"a1. -" * (SIZE // 5) for cut in range(1, len(text), max(1, len(text) // 4))]
    return made


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_no_rule_takes_more_than_ten_milliseconds(rule: Rule) -> None:
    gc.disable()
    try:
        slow = [text[:40] for text in hostile(rule) if seconds(lambda text=text: rule.pattern.search(text)) > MOST_SECONDS]  # type: ignore[misc]
    finally:
        gc.enable()
    assert not slow


@given(st.sampled_from(RULES), TEXTS, st.integers(0, 300))
def test_all_at_once_finds_what_one_by_one_finds(rule: Rule, noise: str, cut: int) -> None:
    text = (rule.examples[0].text[:cut] + noise).encode("latin-1")
    alike = [one for one in RULES if (one.service, one.field) == (rule.service, rule.field)]
    expected = [place for place, one in enumerate(alike) if one.pattern.search(text) is not None]
    assert PatternSet([one.pattern for one in alike]).matching(text) == expected


def test_a_banner_of_the_rules_own_words_takes_no_time_the_first_time_either() -> None:
    took = first_times(strung(300), rounds=3)
    assert max(took) < 1000 * MOST_SECONDS
    assert statistics.fmean(took) < 1.0, "a milliseconds' mean leaves a slow machine five times the time that it took here"


@given(st.lists(st.text(alphabet="ab1 \xff\0\xe4K", min_size=1, max_size=4), max_size=8), st.booleans(), st.binary(max_size=200))
def test_a_set_of_anchored_and_other_patterns_misses_nothing(words: list[str], anchored: bool, text: bytes) -> None:
    sources = [f"(?i){'^' if anchored == bool(number % 2) else ''}{re.escape(word)}" for number, word in enumerate(words)]
    patterns = [Pattern(source) for source in sources]
    texts = (
        text,
        *(text[:9] + one.encode() + text[9:] for one in words),
        *(one.swapcase().encode("latin-1", "replace") + text for one in words),
    )
    for one in texts:
        assert PatternSet(patterns).matching(one) == [place for place, pattern in enumerate(patterns) if pattern.search(one) is not None]


def test_more_patterns_than_one_filter_can_hold_are_all_asked() -> None:
    letters = string.ascii_lowercase
    words = ["".join(letters[(number * step + step) % 26] for step in range(1, 35)) + f"{number:05}" for number in range(4000)]
    many = PatternSet([Pattern(f"(?m)^{word}") for word in words])
    for number in (0, 1999, 2000, 3999):
        assert many.matching(f"x\n{words[number]} y".encode()) == [number]


def test_a_title_of_entities_takes_no_time() -> None:
    raw = b"HTTP/1.1 200 OK\r\n\r\n<title>" + b"&amp" * 16_000 + b"</title>"
    assert seconds(lambda: texts_in(raw)) < MOST_SECONDS / 10


@given(st.binary(max_size=500), st.sampled_from(["", "http", "ssh", "sip"]))
def test_any_bytes_are_answered(raw: bytes, service: str) -> None:
    identifier = built_in_identifier()
    for head in (b"", b"HTTP/1.1 200 OK\r\n", b"SSH-2.0-", b"220 "):
        found = identifier.best(texts_in(head + raw, service), identifier.groups(service, None))
        assert found is None or found.product


@given(st.text(alphabet="<title/> aT&;x\n", max_size=60))
def test_a_title_is_found_as_a_plain_expression_finds_it(body: str) -> None:
    import html

    found = re.search(r"<title[^>]*>(.*?)</title", body, re.IGNORECASE | re.DOTALL)
    expected = " ".join(html.unescape(found[1]).split()) if found else ""
    assert title_in(body.encode()).decode() == expected


def test_a_body_of_titles_takes_no_time() -> None:
    raw = b"HTTP/1.1 200 OK\r\n\r\n" + b"<title>" * SIZE
    assert seconds(lambda: texts_in(raw)) < MOST_SECONDS


def test_what_a_linear_engine_can_not_do_is_refused() -> None:
    for source in (r"(?=a)b", r"(a)\1", "a(?<!b)", "(", "a" * (MOST_PATTERN + 1)):
        with pytest.raises(PatternError):
            Pattern(source)
