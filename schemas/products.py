"""How products are listed where they are looked up: `vendor:product`, lower case, `_` for blanks, as in CPE names (NISTIR 7695)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

COLON, ESCAPED = re.compile(r"(?<!\\):"), re.compile(r"\\(.)")
WILDCARDS = ("", "*", "-")


def product_key(vendor: str, product: str) -> str:
    """Vendor and product as they are listed: lower case, `_` for blanks. The first `:` divides the two; a vendor not named is ''."""
    return f"{'_'.join(vendor.replace(':', ' ').lower().split())}:{'_'.join(product.lower().split())}".replace("|", "_")


def keys_of(affected: Iterable[Mapping[str, Any]]) -> list[str]:
    """The products of `AffectedProduct`s as plain data, each once, in order: by their names and their CPE names, and their packages, by
    the vendor and by the host of the collection that has them.
    """
    found: set[str] = set()
    for one in affected:
        named = [
            (one["vendor"], one["product"]),
            (one["vendor"], one["package"]),
            *(parts for cpe in one["cpes"] for parts in _of_cpe(cpe)),
        ]
        if host := one["collection"].partition("://")[2].partition("/")[0]:
            named.append((host, one["package"] or one["product"]))
        found.update(product_key(vendor, name) for vendor, name in named if name.strip())
    return sorted(found)


def _of_cpe(name: str) -> Iterator[tuple[str, str]]:
    """Vendor and product of CPE 2.3 names and 2.2 URIs. A wildcard names no product."""
    text = unquote(name) if name.startswith("cpe:/") else name
    parts = COLON.split(text.removeprefix("cpe:2.3:").removeprefix("cpe:/"), 3)
    if len(parts) >= 3 and parts[2] not in WILDCARDS:
        vendor = "" if parts[1] in WILDCARDS else parts[1]
        yield ESCAPED.sub(r"\1", vendor), ESCAPED.sub(r"\1", parts[2])
