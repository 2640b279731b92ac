"""Questions that need no model: each with its query."""

from __future__ import annotations

from dataclasses import dataclass

from infra.core.errors import BadInput


@dataclass(frozen=True, slots=True)
class Prepared:
    """A question, the name that it can be asked by, and the query that answers it."""

    name: str
    question: str
    sql: str


OPEN = "FROM findings FINAL WHERE status = 'open'"
OUTSIDE = "(zone ILIKE '%internet%' OR zone ILIKE '%external%' OR zone ILIKE '%public%' OR zone ILIKE '%dmz%')"
"""Zones that look from outside, as the correlator's adjustment `reachability` has them."""
QUESTIONS = (
    Prepared(
        "worst",
        "Which open findings are the most urgent, and what is to be done?",
        f"SELECT finding_id, risk, rank, title, places, why, action {OPEN} ORDER BY risk DESC, title LIMIT 20",
    ),
    Prepared(
        "internet-changes",
        "Which internet-facing hosts changed this week, and why does it matter?",
        "SELECT change_id, observed_at, zone, address, port, summary, finding_id, risk, title, why FROM "  # noqa: S608  all of it is ours
        f"(SELECT * FROM changes FINAL WHERE observed_at >= now() - INTERVAL 7 DAY AND {OUTSIDE}) AS changed LEFT JOIN "
        f"(SELECT zone, arrayJoin(addresses) AS address, finding_id, risk, title, why {OPEN}) AS found USING (zone, address) "
        "ORDER BY risk DESC, observed_at DESC LIMIT 50",
    ),
    Prepared(
        "changes",
        "What changed in the last day?",
        "SELECT change_id, observed_at, zone, address, port, kind, summary FROM changes FINAL WHERE observed_at >= now() - INTERVAL 1 DAY "
        "ORDER BY observed_at DESC LIMIT 50",
    ),
    Prepared(
        "new-services",
        "Which services opened this week?",
        "SELECT change_id, observed_at, zone, address, port, service_after, product_after, version_after FROM changes FINAL "
        "WHERE kind = 'service_opened' AND observed_at >= now() - INTERVAL 7 DAY ORDER BY observed_at DESC LIMIT 50",
    ),
    Prepared(
        "known-exploited",
        "Where is software that is known to be exploited?",
        f"SELECT finding_id, risk, title, places, cves {OPEN} AND rule = 'known-exploited' ORDER BY risk DESC LIMIT 50",
    ),
    Prepared(
        "open-doors",
        "Which services let anyone in without a password?",
        f"SELECT finding_id, risk, title, places, owner {OPEN} AND (rule LIKE '%without-password' "
        "OR rule IN ('ftp-anonymous', 'docker-api-open')) ORDER BY risk DESC LIMIT 50",
    ),
    Prepared(
        "certificates",
        "Which certificates have ended, or end within 30 days?",
        "SELECT zone, address, port, certificate_subject, certificate_not_after FROM services FINAL WHERE status != 'closed' "
        "AND certificate_not_after < now() + INTERVAL 30 DAY ORDER BY certificate_not_after LIMIT 50",
    ),
    Prepared(
        "owners",
        "Who has how many open findings?",
        "SELECT if(owner = '', 'nobody', owner) AS whose, count() AS open, max(risk) AS worst, groupArray(3)(title) AS some "
        f"{OPEN} GROUP BY whose ORDER BY worst DESC, open DESC LIMIT 50",
    ),
    Prepared(
        "blind-spots",
        "Which subnets were not looked at for longest, and how well was the last look?",
        "SELECT zone, subnet, last_looked, round(recall, 3) AS found FROM not_looked_at_lately LIMIT 50",
    ),
    Prepared(
        "hijack-attempts",
        "Which services speak to language models?",
        f"SELECT finding_id, risk, places, rules {OPEN} AND rule = 'prompt-injection' LIMIT 50",
    ),
    Prepared(
        "model",
        "What did the model say of the open findings, and by what evidence?",
        f"SELECT finding_id, title, base_risk, risk, explanation, model_action, model_evidence_ids {OPEN} AND review = 'done' "
        "ORDER BY risk DESC LIMIT 20",
    ),
)


def find(word: str) -> Prepared | None:
    """The question of this number or name. Raises BadInput for a number that is none."""
    if word.strip().isdecimal():
        number = int(word)
        if not 1 <= number <= len(QUESTIONS):
            raise BadInput(f"There is no question {number}.", f"They are numbered 1 to {len(QUESTIONS)}: 'driftline ask' lists them.")
        return QUESTIONS[number - 1]
    plain = word.strip().lower()
    return next((one for one in QUESTIONS if plain in (one.name, one.question.lower())), None)
