"""CPE names: whatever a banner says, what comes of it is a well-formed name that means the same product."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.enrich.cpe import as_uri, components, filled, from_uri, quoted

TEMPLATE = "cpe:2.3:a:vendor:product:{v}:{u}:*:*:*:*:*:*"
VALUE = re.compile(r"\*|(?:[a-z0-9._-]|\\[!-/:-@\[-`{-~])+")


@given(st.text(max_size=200), st.text(max_size=20))
def test_any_text_becomes_a_sound_value(version: str, update: str) -> None:
    name = filled(TEMPLATE, {"v": version, "u": update})
    values = components(name)
    assert values[:3] == ("a", "vendor", "product")
    assert all(VALUE.fullmatch(one) for one in values)
    assert "-" not in values
    assert re.fullmatch(r"cpe:/a:vendor:product(:[\x21-\x7e]+)?", as_uri(name))


@given(st.text(alphabet="abc019._+~- ", min_size=1, max_size=30))
def test_different_versions_stay_different(version: str) -> None:
    plain = "_".join(version.lower().split())
    assert quoted(version).replace("\\", "") == (plain or "*")


@pytest.mark.parametrize(
    ("groups", "name", "uri"),
    [
        ({"v": "9.2", "u": "p1"}, "cpe:2.3:a:vendor:product:9.2:p1:*:*:*:*:*:*", "cpe:/a:vendor:product:9.2p1"),
        ({"v": "2.0+dfsg-1"}, r"cpe:2.3:a:vendor:product:2.0\+dfsg-1:*:*:*:*:*:*:*", "cpe:/a:vendor:product:2.0%2bdfsg-1"),
        ({"v": "15.0(2)SE11"}, r"cpe:2.3:a:vendor:product:15.0\(2\)se11:*:*:*:*:*:*:*", "cpe:/a:vendor:product:15.0%282%29se11"),
        ({"v": "-"}, r"cpe:2.3:a:vendor:product:\-:*:*:*:*:*:*:*", "cpe:/a:vendor:product:-"),
        ({}, "cpe:2.3:a:vendor:product:*:*:*:*:*:*:*:*", "cpe:/a:vendor:product"),
    ],
)
def test_names_as_the_standard_writes_them(groups: dict[str, str], name: str, uri: str) -> None:
    assert (filled(TEMPLATE, groups), as_uri(filled(TEMPLATE, groups))) == (name, uri)


def test_a_name_with_a_hole_is_no_name() -> None:
    template = "cpe:2.3:o:dell:idrac{m}_firmware:{v}:*:*:*:*:*:*:*"
    assert filled(template, {"m": "9"}) == "cpe:2.3:o:dell:idrac9_firmware:*:*:*:*:*:*:*:*"
    assert filled(template, {"m": "", "v": "4.0"}) == filled(template, {}) == ""
    assert filled("cpe:2.3:o:m:windows_{y}:*:*:*:*:*:*:*:*", {}) == ""


def test_older_names_are_read_and_what_is_no_name_is_refused() -> None:
    assert from_uri("cpe:/o:freebsd:freebsd:-") == "cpe:2.3:o:freebsd:freebsd:-:*:*:*:*:*:*:*"
    assert from_uri("cpe:/a:haxx:curl:8.1~2") == r"cpe:2.3:a:haxx:curl:8.1\~2:*:*:*:*:*:*:*"
    for wrong in ("a:b:c", "cpe:/x:b:c", "cpe:2.3:a:b:c"):
        with pytest.raises(ValueError, match="no CPE"):
            from_uri(wrong)
    with pytest.raises(ValueError, match=r"no CPE 2\.3"):
        components("cpe:2.3:a:b:c:*:*")
