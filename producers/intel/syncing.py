"""Brings the topic `intel` up to what feeds say: fetch, read whole, compare, write only what changed.

A feed that can't be fetched or is wrong anywhere changes nothing, and the others go on. A snapshot (KEV, EPSS) that is older than what
is known changes nothing either; one that lost more than a fifth of what is known is held for a person's word.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from confluent_kafka import Consumer, KafkaException, TopicPartition

from infra.core.settings import Settings
from infra.kafka.client import consumer_config, patiently, prefixed, unreachable
from producers.intel.feeds import BY_NAME, MB, Feed, statements
from producers.intel.fetching import Bounds, Validators, fetch
from producers.intel.merging import dropped, taken_in
from producers.intel.notes import Note, Notes, folder_of, key_of, load_notes, save_notes
from producers.intel.sources import Source
from producers.intel.spool import Spool
from producers.intel.statements import FeedError, Rejected
from producers.intel.table import IntelTable
from schemas.codec import Codec
from schemas.plain import milliseconds, moment

SHRINKS = 0.2
Told = Callable[[str, str, int, int | None], None]
"""Is told the feed, what is done with it, how far that is, and of how much (None: unknown)."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How to sync. `shrunk`: take a snapshot that lost more than a fifth. `anew`: fetch though nothing changed."""

    shrunk: bool = False
    anew: bool = False


@dataclass(slots=True)
class Outcome:
    """What came of one source. `problem`: why nothing did; `note`: why nothing had to."""

    source: Source
    as_of: datetime | None = None
    statements: int = 0
    written: int = 0
    withdrawn: int = 0
    problem: str = ""
    note: str = ""


@dataclass(slots=True)
class _Job:
    outcome: Outcome
    feed: Feed
    spool: Spool
    validators: Validators = field(default_factory=Validators)


def sync(
    settings: Settings, codec: Codec, sources: Sequence[Source], now: datetime, manner: Manner = Manner(), told: Told = lambda *_: None
) -> list[Outcome]:
    """Sync these sources, in their order. Raises DriftlineError if Kafka does not do its part: then nothing was written."""
    notes, folder = load_notes(settings.data_dir), folder_of(settings.data_dir)
    cluster, reached = end_of_topic(settings)
    outcomes, jobs = [Outcome(source) for source in sources], []
    with TemporaryDirectory(dir=folder, prefix="feeds-") as place:
        try:
            for outcome in outcomes:
                spool = Spool(Path(place), codec)
                job = _Job(outcome, BY_NAME[outcome.source.feed], spool)
                jobs.append(job)
                held = notes.get(key_of(outcome.source.feed, outcome.source.place))
                known = held.validators(cluster, reached) if held and not manner.anew else Validators()
                try:
                    _read(settings, job, Path(place), known, milliseconds(now), told)
                except FeedError as error:
                    outcome.problem = str(error)
                except OSError as error:
                    outcome.problem = f"it can't be read: {error.strerror or error}"
            sound = [one for one in jobs if not one.outcome.problem and not one.outcome.note]
            if sound:
                table = IntelTable(settings, codec)
                for job in sound:
                    _merge(table, job, manner, told)
                count = 0

                def written() -> None:
                    nonlocal count
                    count += 1
                    if count % 5000 == 0:
                        told("intel", "writing", count, None)

                table.write(written)
                _note(settings, notes, sound, cluster, end_of_topic(settings)[1], now)
        finally:
            for job in jobs:
                job.spool.close()
    return outcomes


def _read(settings: Settings, job: _Job, folder: Path, known: Validators, now_ms: int, told: Told) -> None:
    """Fill the job's spool. Raises FeedError or OSError; then nothing of it is used."""
    outcome, path = job.outcome, Path(job.outcome.source.place)
    name, url = job.feed.name, ""
    if outcome.source.remote:
        path, url = folder / f"{name}-{id(job)}", outcome.source.address
        bounds = Bounds(min(job.feed.most, settings.intel.download_mb * MB), settings.intel.download_minutes * 60)
        found = fetch(outcome.source.place, path, known, bounds, lambda came, total: told(name, "fetching", came, total))
        if found is None:
            outcome.note = "not changed since it was fetched last"
            return
        job.validators = found
    count = 0

    def each() -> None:
        nonlocal count
        count += 1
        if count % 1000 == 0:
            told(name, "reading", count, None)

    try:
        job.spool.fill(statements(job.feed, path, url), now_ms, each)
    finally:
        if url:
            path.unlink(missing_ok=True)
    outcome.statements, outcome.as_of = len(job.spool.names), moment(job.spool.as_of)


def _merge(table: IntelTable, job: _Job, manner: Manner, told: Told) -> None:
    """Take a feed's statements into the table."""
    outcome, feed, spool = job.outcome, job.feed, job.spool
    gone: list[str] = []
    if feed.snapshot:
        held, latest = table.listed(feed.name, spool.as_of)
        if latest:
            outcome.note = f"older than what is known ({moment(latest):%Y-%m-%d})"
            return
        gone = sorted(held - spool.names)
        if len(gone) > SHRINKS * len(held) and not manner.shrunk:
            outcome.problem = f"it lists {len(gone)} fewer of the {len(held)} CVEs that are known: it is held until you say --shrunk"
            return
    for number, statement in enumerate(spool):
        if number % 1000 == 0:
            told(feed.name, "comparing", number, len(spool.names))
        if not isinstance(statement, Rejected) and feed.name == "epss":
            outcome.written += table.rescore(statement)
            continue
        cve = statement.cve if isinstance(statement, Rejected) else statement["cve"]
        before = table.get(cve)
        after = taken_in(before, statement)
        if after is not before:
            table.put(cve, after)
            outcome.written += after is not None
            outcome.withdrawn += after is None
    for cve in gone:
        before = table.get(cve)
        after = dropped(before, feed.name, spool.as_of, outcome.source.address) if before is not None else None
        if before is not None and after is not before:
            table.put(cve, after)
            outcome.withdrawn += 1


def _note(settings: Settings, notes: Notes, jobs: Sequence[_Job], cluster: str, reached: int, now: datetime) -> None:
    for job in jobs:
        outcome = job.outcome
        if outcome.problem or outcome.as_of is None:
            continue
        notes[key_of(outcome.source.feed, outcome.source.place)] = Note(
            feed=outcome.source.feed,
            place=outcome.source.place,
            as_of=outcome.as_of,
            synced_at=now.astimezone(UTC),
            cluster=cluster,
            next_offset=reached,
            etag=job.validators.etag,
            last_modified=job.validators.last_modified,
        )
    save_notes(settings.data_dir, notes)


def end_of_topic(settings: Settings) -> tuple[str, int]:
    """The cluster's id, and the next offset of the topic: they tell whether it is the one that was written to before."""
    asker = Consumer(consumer_config(settings, "read-whole"))
    place = TopicPartition(prefixed(settings, "intel"), 0)
    try:
        cluster = patiently(lambda: asker.list_topics(timeout=10.0)).cluster_id or ""
        return cluster, patiently(lambda: asker.get_watermark_offsets(place, 10.0, cached=False))[1]
    except KafkaException as error:
        raise unreachable(settings, error) from None
    finally:
        asker.close()
