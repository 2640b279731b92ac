"""What the demo asks of ClickHouse, and how it waits for an answer: conditions with a deadline, never a fixed sleep."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event as Flag
from typing import Any

from clickhouse_connect.driver.client import Client

from infra.core.errors import DriftlineError
from infra.local.lab.truth import ServiceTruth

FINDINGS = "SELECT * FROM findings FINAL WHERE status = 'open' ORDER BY risk DESC, title, finding_id"
QUERIES = (
    ("What is open now?", "SELECT address, port, service, product, version FROM open_now ORDER BY address, port"),
    (
        "Which certificates end soon, or are over?",
        "SELECT address, port, certificate_subject, certificate_not_after AS ends FROM open_now WHERE ends < now() + INTERVAL 60 DAY",
    ),
    (
        "How well was each subnet looked at, and when?",
        (
            "SELECT subnet, seconds_ago, addresses, samples, round(recall, 3) AS recall, round(recall_low, 3) AS low, "
            "round(recall_high, 3) AS high FROM not_looked_at_lately"
        ),
    ),
)


class Answers:
    """One reader of ClickHouse."""

    def __init__(self, client: Client, stop: Flag) -> None:
        self._client, self._stop = client, stop

    def rows(self, sql: str, **parameters: object) -> list[dict[str, Any]]:
        """The rows of a query."""
        result = self._client.query(sql, parameters=parameters)
        return [dict(zip(result.column_names, row, strict=True)) for row in result.result_rows]

    def progress(self, campaign: str, runs_before: int) -> tuple[int, int]:
        """Units done and units planned in the campaign's runs after the first `runs_before`; (0, 0) before the run began."""
        runs = self.rows(
            "SELECT run_id, units FROM runs FINAL WHERE campaign_id = {campaign:String} AND cause = 'campaign' "
            "ORDER BY started_at LIMIT 1000 OFFSET {skip:UInt32}",
            campaign=campaign,
            skip=runs_before,
        )
        done = self.rows("SELECT count() AS n FROM sweeps FINAL WHERE run_id IN {ids:Array(String)}", ids=[run["run_id"] for run in runs])
        return int(done[0]["n"]) if runs else 0, sum(int(run["units"]) for run in runs)

    def runs(self, campaign: str) -> int:
        """How many times the campaign ran."""
        found = self.rows("SELECT count() AS n FROM runs FINAL WHERE campaign_id = {c:String} AND cause = 'campaign'", c=campaign)
        return int(found[0]["n"])

    def open_services(self) -> set[tuple[str, int, str]]:
        """(address, port, certificate) of what is open, as ClickHouse has it. Suspected counts as open."""
        found = self.rows("SELECT address, port, certificate_sha256 FROM open_now")
        return {(row["address"], row["port"], row["certificate_sha256"]) for row in found}

    def findings(self) -> list[dict[str, Any]]:
        """Open findings, worst first."""
        return self.rows(FINDINGS)

    def changes_after(self, moment: object) -> list[dict[str, Any]]:
        """Changes that were recorded after a moment, oldest first."""
        return self.rows(
            "SELECT observed_at, kind, address, port, summary FROM changes FINAL WHERE recorded_at > {m:DateTime64(3)} "
            "ORDER BY observed_at, address, port, kind",
            m=moment,
        )

    def until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait for a condition. Raises DriftlineError when it does not come true in time, Interrupted when the user ends the demo."""
        deadline = time.monotonic() + seconds
        while not condition():
            if self._stop.wait(0.3):
                raise Interrupted
            if time.monotonic() > deadline:
                raise DriftlineError(f"After {seconds:.0f} s still waiting for: {what}.", "See 'driftline status' and the logs.")

    def settled(self, seconds: float, quiet: float = 2.5) -> None:
        """Wait until the findings and changes have not moved for `quiet` seconds."""
        last: object = None
        since = time.monotonic()

        def quiet_enough() -> bool:
            nonlocal last, since
            now = self.rows("SELECT (SELECT sum(revision) FROM findings FINAL), (SELECT count() FROM changes FINAL)")
            if now != last:
                last, since = now, time.monotonic()
            return time.monotonic() - since > quiet

        self.until(quiet_enough, seconds, "the findings to settle")


class Interrupted(Exception):
    """The user ended the demo."""


def expected(truth: list[ServiceTruth]) -> set[tuple[str, int, str]]:
    """The lab's truth in the form of `Answers.open_services`."""
    return {(one.address, one.port, one.certificate_sha256 or "") for one in truth}
