"""Hostile banners: no rule takes long over one, none breaks the answer, and asking all rules at once misses nothing."""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.enrich.identifying import built_in_identifier
from processors.enrich.linear import Pattern, PatternError, PatternSet
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
    for source in (r"(?=a)b", r"(a)\1", "a(?<!b)", "("):
        with pytest.raises(PatternError):
            Pattern(source)
