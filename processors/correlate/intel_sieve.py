"""Which records of `intel` concern a partition, told by their first bytes: of an EPSS day's 300,000, each for 12 partitions, hardly any."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

from infra.core.ports import Context, Record, State
from processors.correlate.shown import MATCHED, SEEN
from processors.match.matching import keys_of
from processors.match.packages import distribution_of, hosted_by
from processors.match.products import is_distribution, names_of, package_key, product_key
from schemas.events.intel import IntelRecord
from schemas.intel_head import FOUND, read_head


@dataclass(slots=True)
class _Held:
    """What a partition's state holds: names of products that services show, and CVEs that were matched. Some perhaps are there no more."""

    state: State
    names: set[str]
    matched: set[str]


class IntelSieve:
    """A record concerns a partition if it names a product that a service there shows, or was matched there before.

    What the state holds of it (`shown.py`) is held in memory too, and whoever writes there says so here; too much costs only work.
    """

    def __init__(self, header: bytes | None) -> None:
        """`header`: how values of today's schema begin; without it nothing is known of a value, and each concerns every partition."""
        self._header = header
        self._partitions: dict[int, _Held] = {}
        self._judged: tuple[int, frozenset[str] | None] = (-1, None)

    def concerns(self, record: Record, context: Context) -> bool:
        """False only if handling the record would neither write nor tell anything."""
        held = self._held(context)
        if record.key in held.matched:
            return True
        if not record.raw:
            return False
        names = self._names(record)
        if names is not None and held.names.isdisjoint(names):
            return False
        held.matched.add(record.key)
        return True

    def keys_of(self, record: Record) -> Iterable[str]:
        """What a record is looked up by: the keys of its products and packages, and of bytes perhaps some that do not match."""
        if record.event is not None:
            return keys_of(record.event) if isinstance(record.event, IntelRecord) else ()
        return self._listed(record) or ()

    def note(self, context: Context, entries: Iterable[str] = (), matched: Iterable[str] = ()) -> None:
        """A service shows these entries (`shown.entries_of`), or these CVEs were matched."""
        held = self._held(context)
        held.names.update(entry.partition("|")[0] for entry in entries)
        held.matched.update(matched)

    def _held(self, context: Context) -> _Held:
        """Read once from each state: a partition that came back has another one."""
        held = self._partitions.get(context.partition)
        if held is None or held.state is not context.state:
            names = {key[len(SEEN) :].partition("|")[0] for key, _ in context.state.scan(SEEN)}
            matched = {key[len(MATCHED) :] for key, _ in context.state.scan(MATCHED)}
            held = self._partitions[context.partition] = _Held(context.state, names, matched)
        return held

    def _names(self, record: Record) -> frozenset[str] | None:
        """Names of products that a record's bytes list, None for what can't be told; the same record is asked for once a partition."""
        if self._judged[0] != record.offset:
            keys = self._listed(record)
            self._judged = record.offset, None if keys is None else frozenset(name for key in keys for name in names_of(key))
        return self._judged[1]

    def _listed(self, record: Record) -> frozenset[str] | None:
        if self._header is None or not record.raw:
            return None
        head = read_head(record.raw, self._header, FOUND)
        return None if head is None else frozenset(key for one in head.fields["products"] for key in listed_keys(one))


@functools.lru_cache(maxsize=1 << 16)
def listed_keys(product: str) -> tuple[str, ...]:
    """The keys that `processors.match` may know a record by for one of its listed products: they hold all of `keys_of`."""
    vendor, _, name = product.partition(":")
    distribution = hosted_by(vendor) or distribution_of(vendor)
    key = product_key(vendor, name)
    package = (package_key(distribution, name.rpartition("/")[2]),) if distribution else ()
    return (key, *package) if key and not is_distribution(key) else package
