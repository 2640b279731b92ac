"""A webhook's message: its body, its id and its signature, as Standard Webhooks 1.0 has them (https://www.standardwebhooks.com). Pure.

Headers `webhook-id`, `webhook-timestamp` (seconds since 1970, of the attempt) and `webhook-signature`: `v1,` and the base64 of
HMAC-SHA256 with the secret over `<id>.<timestamp>.<body>`. The id is a hash of what is told, so that a receiver knows a repeat by it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from consumers.notify.paging import latest
from infra.core.notifier_settings import signing_key
from schemas.events.findings import Page
from schemas.ids import content_id

SHOWN = 50
"""A message spells out so many findings, the most urgent; the others are counted."""
PLACES = 20


@dataclass(frozen=True, slots=True)
class Message:
    """What one POST carries."""

    message_id: str
    body: bytes


def compose(webhook: str, pages: Sequence[Page]) -> Message:
    """The message of one or many pages: equal pages give equal bytes."""
    told = list(latest(pages))
    kinds, ranks, rules = (Counter(words) for words in zip(*((p.kind, p.finding.rank, p.finding.rule) for p in told), strict=True))
    data = {
        "webhook": webhook,
        "count": len(told),
        "by_kind": dict(sorted(kinds.items())),
        "by_rank": dict(sorted(ranks.items())),
        "by_rule": dict(sorted(rules.items())),
        "findings": [_shown(page) for page in told[:SHOWN]],
        "left_out": max(0, len(told) - SHOWN),
    }
    newest = max(page.finding.changed_at for page in pages)
    text = json.dumps({"type": "findings", "timestamp": newest.isoformat(), "data": data}, ensure_ascii=False, separators=(",", ":"))
    return Message(f"msg_{content_id('message', webhook, *(page.page_id for page in pages))}", text.encode())


def headers(message: Message, secret: str, timestamp: int) -> dict[str, str]:
    """The headers of one attempt, at a time in seconds since 1970."""
    signed = b".".join((message.message_id.encode(), str(timestamp).encode(), message.body))
    mac = hmac.new(signing_key(secret), signed, hashlib.sha256).digest()
    return {
        "content-type": "application/json",
        "user-agent": "driftline",
        "webhook-id": message.message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(mac).decode()}",
    }


def _shown(page: Page) -> dict[str, Any]:
    finding = page.finding
    return {
        "page_id": page.page_id,
        "kind": page.kind.value,
        "finding_id": finding.finding_id,
        "revision": finding.revision,
        "status": finding.status.value,
        "rank": finding.rank.value,
        "risk": finding.risk,
        "rule": finding.rule,
        "zone": finding.zone,
        "title": finding.title,
        "why": finding.why,
        "action": finding.action,
        "places": [{"address": one.address, "port": one.port, "transport": one.transport.value} for one in finding.places[:PLACES]],
        "more_places": max(0, len(finding.places) - PLACES),
        "cves": list(finding.cves),
        "owner": finding.owner,
        "criticality": finding.criticality,
        "assignee": finding.assignee,
        "baseline": finding.baseline,
        "reopened": finding.reopened,
        "first_seen": finding.first_seen.isoformat(),
        "changed_at": finding.changed_at.isoformat(),
    }
