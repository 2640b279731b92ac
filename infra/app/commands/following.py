"""`findings list --follow`: the findings as they stand, then each as it changes, straight from the topic."""

from __future__ import annotations

from collections.abc import Generator

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from infra.app.output import RANK_STYLES, escape, out, print_json, tell
from infra.app.people import require_kafka
from infra.core.errors import MissingPrerequisite
from infra.core.settings import Settings
from infra.kafka.client import consumer_config, key_of, prefixed, unreachable, value_of
from infra.kafka.registry import codec_for
from schemas.codec import UndecodableError
from schemas.events.findings import Finding, FindingStatus

log = structlog.get_logger()
NONE = "No findings. Push targets with 'driftline targets push', or look at 'driftline status'."


def follow(settings: Settings, everything: bool, as_json: bool) -> None:
    """Print findings until Ctrl-C: first the open ones (or all), worst first, then every one that changes, whatever its status."""
    standing: dict[str, Finding] | None = {}
    events = _events(settings)
    try:
        for key, finding in events:
            if standing is None:
                if finding is not None:
                    _print(finding, as_json)
            elif key is not None:
                standing.pop(key, None)
                if finding is not None:
                    standing[key] = finding
            else:
                shown = [one for one in standing.values() if everything or one.status is FindingStatus.OPEN]
                for one in sorted(shown, key=lambda one: (-one.risk, one.title)):
                    _print(one, as_json)
                if not shown:
                    tell(NONE)
                standing = None
    except KeyboardInterrupt:
        return
    finally:
        events.close()


def _events(settings: Settings) -> Generator[tuple[str | None, Finding | None]]:
    """Key and finding (None: forgotten) of every record; (None, None) once, where the topic ended when it was opened."""
    require_kafka(settings)
    name, codec = prefixed(settings, "findings"), codec_for(settings)
    consumer = Consumer(consumer_config(settings, "follow", **{"enable.partition.eof": True, "fetch.wait.max.ms": 500}))
    try:
        metadata = consumer.list_topics(name, 15.0).topics[name]
        if metadata.error is not None:
            raise MissingPrerequisite(f"The topic {name} does not exist.", "Run 'driftline topics apply'.")
        waiting = set(metadata.partitions)
        consumer.assign([TopicPartition(name, number, 0) for number in waiting])
        while True:
            message = consumer.poll(0.5)
            if message is None:
                continue
            error = message.error()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  the library's own name for it
                if waiting and not (waiting := waiting - {message.partition() or 0}):
                    yield None, None
            elif error is None:
                value = value_of(message)
                try:
                    event = None if value is None else codec.decode("findings", value)
                except UndecodableError as reason:
                    log.warning("undecodable_record", topic=name, offset=message.offset(), reason=str(reason))
                    continue
                yield key_of(message), event if isinstance(event, Finding) else None
    except KafkaException as error:
        raise unreachable(settings, error) from None
    finally:
        consumer.close()


def _said(finding: Finding) -> str:
    """Who works on it and the last remark, so that it shows when only they changed."""
    remark = f'  "{finding.comment.reason}"' if finding.comment else ""
    return (f"  → {finding.assignee}" if finding.assignee else "") + remark


def _print(finding: Finding, as_json: bool) -> None:
    if as_json:
        print_json(finding)
        return
    places = ", ".join(f"{place.address}:{place.port}" if place.port else place.address for place in finding.places)
    style = RANK_STYLES[finding.rank.value]
    rank = f"[{style}]{finding.rank.value:8} {finding.risk:3.0f}[/]"
    when = f"{finding.changed_at:%Y-%m-%d %H:%M:%S} {finding.finding_id[:8]}"
    line = f"{when} {rank} {finding.status.value:10} {escape(finding.title)}  {escape(places)}{escape(_said(finding))}"
    out().print(line, soft_wrap=True, emoji=False)
