"""Reads what `driftline backtest` needs from the topics, and the rules that it is to run. It writes nothing, and commits no offset."""

from __future__ import annotations

import importlib
import importlib.util
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

from confluent_kafka import Message

from consumers.assess.ranking import rank_of
from infra.core.errors import BadInput
from infra.core.settings import Settings
from infra.kafka.client import key_of, read_table, read_whole, value_of
from infra.kafka.registry import codec_for
from infra.kafka.timestamps import recorded_at
from processors.correlate.comparing import Comparison, compare
from processors.correlate.contract import TABLES, Rule
from processors.correlate.refolding import Raised, Refold
from processors.correlate.tables import Tables
from schemas.codec import Codec, UndecodableError
from schemas.events.assets import AssetChange, AssetState
from schemas.events.findings import Decision, DecisionKind, Finding, FindingStatus

LABELS = {DecisionKind.TRUE_POSITIVE: True, DecisionKind.FALSE_POSITIVE: False}
Told = Callable[[str], None]


@dataclass(slots=True)
class Log:
    """What the topics hold: by asset its changes as they were written, and its state; from when to when."""

    changes: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    assets: dict[str, bytes] = field(default_factory=dict)
    since: datetime | None = None
    until: datetime | None = None
    unreadable: int = 0


@dataclass(frozen=True, slots=True)
class Backtest:
    """What came out, and over what: a count of assets and changes, records that could not be read, rules that failed."""

    comparison: Comparison
    since: datetime
    until: datetime
    assets: int
    changes: int
    unreadable: int
    failed: dict[str, int]


def backtest(settings: Settings, rules: tuple[Rule, ...], told: Told = lambda _: None, weights: Tables = TABLES) -> Backtest:
    """Run these rules, with the tables that they look up, over the retained topics. Raises MissingPrerequisite if Kafka does not answer."""
    codec = codec_for(settings)
    tables = {topic: read_table(settings, topic, codec) for topic in ("inventory", "intel")}
    told(f"{len(tables['intel'])} vulnerabilities and {len(tables['inventory'])} records of inventory")
    log = read_log(settings)
    told(f"{sum(map(len, log.changes.values()))} changes of {len(log.changes)} assets, {len(log.assets)} assets in all")
    until = log.until or datetime.now(UTC)
    fold = Refold(rules, tables, until, weights)
    for key in sorted(log.assets.keys() | log.changes.keys()):
        asset, changes = _asset(codec, log, key), [*_changes(codec, log, key)]
        fold.asset(asset, changes)
    findings, labels = read_findings(settings, codec, log.since or until), read_labels(settings, codec)
    told(f"{len(findings)} findings were raised, {len(labels)} are labelled")
    comparison = compare(findings, fold.raised(), labels, lambda risk: rank_of(risk).value)
    changes_read = sum(map(len, log.changes.values()))
    return Backtest(comparison, log.since or until, until, len(log.assets), changes_read, log.unreadable, fold.failed)


def read_log(settings: Settings) -> Log:
    """`changes`, the last state of each of `assets`, and the last of `ticks`."""
    log = Log()

    def change(message: Message) -> None:
        value, at = value_of(message), recorded_at(message)
        if value is not None:
            log.changes[key_of(message)].append(value)
            log.since = min(log.since or at, at)
            log.until = max(log.until or at, at)

    def asset(message: Message) -> None:
        value, key = value_of(message), key_of(message)
        if value is None:
            log.assets.pop(key, None)
        elif "/" not in key:  # a subnet's looks
            log.assets[key] = value

    def tick(message: Message) -> None:
        log.until = max(log.until or recorded_at(message), recorded_at(message))

    for topic, each in (("changes", change), ("assets", asset), ("ticks", tick)):
        read_whole(settings, topic, each, timeout=60.0)
    return log


def _asset(codec: Codec, log: Log, key: str) -> AssetState | None:
    event = _decoded(codec, log, "assets", log.assets[key]) if key in log.assets else None
    return event if isinstance(event, AssetState) else None


def _changes(codec: Codec, log: Log, key: str) -> Iterable[AssetChange]:
    for value in log.changes.get(key, ()):
        event = _decoded(codec, log, "changes", value)
        if isinstance(event, AssetChange):
            yield event


def _decoded(codec: Codec, log: Log, topic: str, value: bytes) -> object:
    try:
        return codec.decode(topic, value)
    except UndecodableError:
        log.unreadable += 1
        return None


def read_findings(settings: Settings, codec: Codec, since: datetime) -> dict[str, Raised]:
    """What was raised: findings that stand, and those that were resolved since."""
    found: dict[str, Raised] = {}
    for key, one in read_table(settings, "findings", codec).items():
        if isinstance(one, Finding) and (one.resolved_at is None or one.resolved_at >= since):
            stands = one.status is not FindingStatus.RESOLVED
            found[key] = Raised(key, one.rule, one.title, one.base_risk, len(one.places), stands)
    return found


def read_labels(settings: Settings, codec: Codec) -> dict[str, bool]:
    """What people said: by finding id, whether it is a true positive. The latest word counts."""
    words = [one for one in read_table(settings, "decisions", codec).values() if isinstance(one, Decision) and one.kind in LABELS]
    return {one.finding_id: LABELS[one.kind] for one in sorted(words, key=lambda one: one.decided_at)}


def load_rules(text: str) -> tuple[Rule, ...]:
    """The rules of a Python file, or of `module:NAME`: a Rule or a sequence of them. Raises BadInput with what is wrong."""
    path, name = (Path(text), "RULES") if text.endswith(".py") else (None, text.partition(":")[2])
    try:
        module = _module(path) if path else importlib.import_module(text.partition(":")[0])
        found = getattr(module, name)
    except Exception as error:  # noqa: BLE001  it is somebody's module: whatever it raises
        way = "A Python file has them as RULES; a TOML file is tried with DRIFTLINE_CORRELATOR__RULES=FILE driftline backtest."
        raise BadInput(f"No rules can be read from {text}: {type(error).__name__}: {error}.", way) from None
    rules = (found,) if isinstance(found, Rule) else tuple(found) if isinstance(found, list | tuple) else ()
    if not rules or not all(isinstance(one, Rule) for one in rules):
        raise BadInput(f"{name} of {text} is no Rule and no sequence of them.", "See processors/correlate/contract.py.")
    return rules


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("backtested_rules", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rule_set(base: tuple[Rule, ...], only: list[str], more: list[str], without: list[str]) -> tuple[Rule, ...]:
    """The rules to run: `only` these, or the base; with `more` (one of a name that is there takes its place), `without` those named."""
    chosen = [rule for text in only for rule in load_rules(text)] if only else list(base)
    by_name = {rule.name: rule for rule in chosen}
    by_name |= {rule.name: rule for text in more for rule in load_rules(text)}
    unknown = sorted(set(without) - by_name.keys())
    if unknown:
        raise BadInput(f"There is no rule '{unknown[0]}'.", f"Rules: {', '.join(sorted(by_name))}.")
    return tuple(rule for name, rule in by_name.items() if name not in without)
