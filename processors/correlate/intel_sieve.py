"""Which records of `intel` concern a partition, told by their first bytes: of an EPSS day's 300,000, each for 12 partitions, hardly any."""

from __future__ import annotations

from infra.core.ports import Context, Record, State
from processors.correlate.context_tables import INDEXED
from schemas.intel_head import EXPLOITED, read_head


class IntelSieve:
    """A record concerns a partition if it is known to be exploited, or stands in the partition's index (`context_tables.index_intel`).

    The names in the index are held in memory, some perhaps that are there no more: those are handled in vain, which is all that costs.
    """

    def __init__(self, header: bytes) -> None:
        self._header = header
        self._indexed: dict[int, tuple[State, set[str]]] = {}
        self._judged: tuple[int, bool] = (-1, True)

    def concerns(self, record: Record, context: Context) -> bool:
        """False only if handling the record would neither write nor tell anything."""
        indexed = self._index_of(context)
        if record.key in indexed:
            return True
        if not record.raw or not self._exploited(record):
            return False
        indexed.add(record.key)
        return True

    def _index_of(self, context: Context) -> set[str]:
        """Read once from each state: a partition that came back has another one."""
        held = self._indexed.get(context.partition)
        if held is None or held[0] is not context.state:
            names = {key[len(INDEXED) :] for key, _ in context.state.scan(INDEXED)}
            held = self._indexed[context.partition] = context.state, names
        return held[1]

    def _exploited(self, record: Record) -> bool:
        """Whether the record says so, or can't be read by its head; the same record is asked for once a partition."""
        if self._judged[0] != record.offset:
            head = read_head(record.raw, self._header, EXPLOITED)
            self._judged = record.offset, head is None or head.fields["kev"] is True
        return self._judged[1]
