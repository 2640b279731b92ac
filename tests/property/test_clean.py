"""Hostile text is made safe in the same way, whether or not there is something to clean."""

from __future__ import annotations

import re
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from processors.scan.probing.evidence import TEXT_LIMIT, clean

TEXTS = st.text(st.sampled_from("ab \t\r\n\x00\x7f\u00a0\u200e\u2028\u202e\u3000\ufeffé日") | st.characters(codec="utf-8"), max_size=600)


@given(TEXTS)
def test_clean_text_is_what_the_slow_way_makes_of_it(text: str) -> None:
    spaced = re.sub(r"\s+", " ", text)
    expected = "".join(char for char in spaced if unicodedata.category(char)[0] != "C").strip()[:TEXT_LIMIT]
    assert clean(text) == clean(text.encode()) == expected
