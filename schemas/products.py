"""How products are named where they are looked up: `vendor:product`, lower case, `_` for blanks, as in CPE names (NISTIR 7695)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

COLON, ESCAPED = re.compile(r"(?<!\\):"), re.compile(r"\\(.)")


def product_key(vendor: str, product: str) -> str:
    """Vendor and product as they are matched: lower case, `_` for blanks, as in CPE names; no `|`, which divides keys of the state."""
    return f"{'_'.join(vendor.lower().split())}:{'_'.join(product.lower().split())}".replace("|", "_")


def keys_of(affected: Iterable[Mapping[str, Any]]) -> list[str]:
    """The products of `AffectedProduct`s as plain data, by their names and by their CPE names, each once, in order."""
    found: set[str] = set()
    for one in affected:
        if one["product"]:
            found.add(product_key(one["vendor"], one["product"]))
        for cpe in one["cpes"]:
            found.update(_of_cpe(cpe))
    return sorted(found)


def _of_cpe(name: str) -> Iterator[str]:
    """CPE 2.3 names and 2.2 URIs. A wildcard names no product."""
    parts = COLON.split(name.removeprefix("cpe:2.3:").removeprefix("cpe:/"), 3)
    if len(parts) >= 3 and not {parts[1], parts[2]} & {"", "*", "-"}:
        yield product_key(ESCAPED.sub(r"\1", parts[1]), ESCAPED.sub(r"\1", parts[2]))
