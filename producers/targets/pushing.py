"""Pushes lines of targets into the topic `targets`, in requests of many targets each. Memory does not grow with the number of lines."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from producers.auditing import Publish
from producers.targets.reading import Format, LineReader, Manner, Wanted
from schemas.events.targets import Cause, TargetRequest
from schemas.ids import content_id
from schemas.targeting import show

KEPT_REJECTIONS = 1000


@dataclass(frozen=True, slots=True)
class PushOptions:
    """How to push. `push_id` names this push: equal lines pushed again under the same one make the same requests.

    `probes` tells which exist, when first needed; without it none is checked.
    """

    push_id: str
    manner: Manner = field(default_factory=Manner)
    form: Format = "auto"
    requested_by: str = ""
    batch: int = 500
    max_addresses: int = 1 << 20
    zones: tuple[str, ...] = ()
    probes: Callable[[], Collection[str]] | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line that was skipped: its number from 1, its text (cut), and why."""

    line: int
    text: str
    reason: str


@dataclass(slots=True)
class PushReport:
    """What was pushed: targets, in how many requests; and the lines that were not, of which the first 1,000 are kept."""

    accepted: int = 0
    requests: int = 0
    rejected_total: int = 0
    rejected: list[Rejected] = field(default_factory=list)


Progress = Callable[[PushReport], None]


def push(lines: Iterable[str | None], publish: Publish, options: PushOptions, on_progress: Progress = lambda _: None) -> PushReport:
    """Push all lines; a bad one is skipped and reported. A None among the lines means: send now what is gathered."""
    report = PushReport()
    reader = LineReader(options.manner, options.form, options.max_addresses, options.zones, options.probes)
    batch = _Batch(options, publish, report)
    number = 0
    for line in lines:
        if line is None:
            batch.send()
            on_progress(report)
            continue
        number += 1
        try:
            wanted = reader.read(line)
        except ValueError as error:
            report.rejected_total += 1
            if len(report.rejected) < KEPT_REJECTIONS:
                report.rejected.append(Rejected(number, show(line.strip()), str(error)))
            continue
        finally:
            if number % options.batch == 0:
                on_progress(report)
        if wanted is not None:
            batch.add(wanted)
    batch.send()
    on_progress(report)
    return report


class _Batch:
    """The request that is being filled."""

    def __init__(self, options: PushOptions, publish: Publish, report: PushReport) -> None:
        self._options, self._publish, self._report = options, publish, report
        self._manner = options.manner
        self._targets: list[str] = []
        self._addresses = 0

    def add(self, wanted: Wanted) -> None:
        """Take in the targets of one line; send first what they don't go with."""
        if wanted.request is not None:
            self.send()
            self._put(wanted.request)
            return
        full = (
            len(self._targets) + len(wanted.targets) > self._options.batch
            or self._addresses + wanted.addresses > self._options.max_addresses
        )
        if full or wanted.manner != self._manner:
            self.send()
        self._manner = wanted.manner
        self._targets += wanted.targets
        self._addresses += wanted.addresses

    def send(self) -> None:
        """Publish what is gathered, if anything."""
        if not self._targets:
            return
        manner = self._manner
        request = TargetRequest(
            request_id=content_id("push", self._options.push_id, self._report.requests),
            zone=manner.zone,
            targets=tuple(self._targets),
            ports=manner.ports,
            probes=manner.probes,
            grant_id=manner.grant_id,
            cause=Cause.PUSHED,
            requested_by=self._options.requested_by,
        )
        self._targets, self._addresses = [], 0
        self._put(request)

    def _put(self, request: TargetRequest) -> None:
        self._publish("targets", request.request_id, request)
        self._report.requests += 1
        self._report.accepted += len(request.targets)
