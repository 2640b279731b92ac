"""CPE 2.3 names of products (NISTIR 7695), made from templates and from what banners say, which is hostile. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

PARTS = 11
PREFIX = "cpe:2.3:"
PLACE = re.compile(r"\{(\w[\w.]*)\}")
PARTIAL = re.compile(r"(?:(?<=[^:{])|(?=\{[\w.]+\}[^:]))\{(\w[\w.]*)\}")  # a place with other text beside it
PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_.-")  # 6.2: these stand in a formatted string as they are
QUOTED = frozenset("!\"#$%&'()*+,/:;<=>?@[\\]^`{|}~")  # 5.3.2: these do behind a backslash
VALUE = re.compile(r"(?:\\.|[^\\:])+")
MOST = 64  # characters of a value


def quoted(value: str) -> str:
    """A value in the form it has inside a formatted string; `*` (any) where nothing is left of it.

    Lower case, `_` for blanks; what CPE names can't hold is left out; a lone `-`, which would mean "not applicable", is quoted.
    """
    low = "_".join(value.lower().split())[:MOST]
    kept = "".join(sign if sign in PLAIN else f"\\{sign}" if sign in QUOTED else "" for sign in low)
    return "\\-" if kept == "-" else kept or "*"


def filled(template: str, groups: Mapping[str, str]) -> str:
    """A formatted string from its template: `{name}` gives way to the group's value, an empty one to `*`.

    '' where an empty group is only a part of a value (`idrac{m}_firmware`): half a name would name another product.
    """
    if any(not groups.get(place[1], "").strip() for place in PARTIAL.finditer(template)):
        return ""
    return PLACE.sub(lambda place: quoted(groups.get(place[1], "")), template)


def components(name: str) -> tuple[str, ...]:
    """The eleven values of a formatted string, still quoted. Raises ValueError for what is none."""
    values = tuple(VALUE.findall(name.removeprefix(PREFIX)))
    if name != PREFIX + ":".join(values) or len(values) != PARTS or values[0] not in ("a", "o", "h"):
        raise ValueError(f"{name!r} is no CPE 2.3 name")
    return values


def as_uri(name: str) -> str:
    """The older `cpe:/` form as nmap writes it: part, vendor, product and, as one value, version and update. Raises ValueError."""
    part, vendor, product, version, update = components(name)[:5]
    whole = "".join(one for one in (version, update) if one != "*")
    return "cpe:/" + ":".join(filter(None, (part, *map(_percent, (vendor, product, whole)))))


def from_uri(uri: str, fill: Callable[[str], str] = quoted) -> str:
    """The formatted string of a `cpe:/` name, as Rapid7's recog has them; `fill` makes each value. Raises ValueError for what is none.

    `-` stays "not applicable". Values behind the fifth are left out: who writes this form rarely has any.
    """
    if not uri.startswith("cpe:/"):
        raise ValueError(f"{uri!r} is no CPE name")
    values = [value if value in ("-", "*") else fill(value) for value in uri.removeprefix("cpe:/").split(":")[:5]]
    name = PREFIX + ":".join((values + ["*"] * PARTS)[:PARTS])
    components(name)
    return name


def _percent(value: str) -> str:
    return re.sub(r"\\(.)", lambda found: f"%{ord(found[1]):02x}" if found[1] != "-" else "-", value)
