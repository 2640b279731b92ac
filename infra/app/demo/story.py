"""The demo from its first line to its last: lab, pipeline, grant, campaign, findings, a change, what the change did."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from infra.app.demo.asking import QUERIES, Answers, Interrupted, expected
from infra.app.demo.ground import Ground, choose_ground
from infra.app.demo.reviewing import HIDDEN_PORT, await_reviews, reviews, show_reviews, start_model
from infra.app.demo.telling import moves, show_changes, show_findings, show_mended, show_rows
from infra.app.demo.vulnerabilities import bring_facts, only_by_version
from infra.app.doctor import port_checks
from infra.app.output import count, err, out, print_json, tell
from infra.app.people import now, publisher, read_table, write
from infra.app.supervisor import Supervisor
from infra.clickhouse.client import connect
from infra.core.errors import DriftlineError, MissingPrerequisite
from infra.core.logs import configure_logs
from infra.core.settings import Settings, load_settings
from infra.core.trust import load_signers
from producers.auditing import local_actor
from producers.campaigns.running import CampaignForm, Office, create_campaign
from producers.grants.issuing import Desk, GrantForm, create_grant, revoke_grant
from producers.grants.keys import ensure_key
from schemas.events.context import Criticality, InventoryRecord
from schemas.events.grants import Grant
from schemas.events.targets import Cadence, CadenceKind, Campaign
from schemas.ids import subnet_key

NAME = "demo"
SCAN_SECONDS = 120.0
CONFIRM_SECONDS = 90.0
GRANTED_FOR = timedelta(minutes=30)
DYING_SECONDS = 5.0  # what a killed run left dies with it, but not in the same instant


def run_demo(as_json: bool, with_model: bool = False) -> None:
    """Run the demo. Its data is kept in `demo` under the data folder, so that a second run goes on from there.

    `with_model`: a scripted server reviews the findings; then it begins anew each time, in a folder of its own.
    """
    folder = load_settings().data_dir / (f"{NAME}-model" if with_model else NAME)
    if with_model:
        shutil.rmtree(folder, ignore_errors=True)
    os.environ["DRIFTLINE_DATA_DIR"] = str(folder)  # the roles are child processes and read the same settings
    os.environ["DRIFTLINE_DIFFER__FLAP_TRANSITIONS"] = "100"  # each run opens and closes the same services; that is no flapping
    model = start_model() if with_model else None
    settings = load_settings()
    configure_logs(settings.telemetry.model_copy(update={"log_level": "error"}), roles="demo")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    story = Story(settings, folder, stop, as_json, with_model)
    try:
        document = story.tell()
    except Interrupted:
        err().print("Ended. Nothing is left running.")
        sys.exit(130)
    finally:
        story.close()
        if model is not None:
            model.close()
    if as_json:
        print_json(document)


class Story:
    """What the demo holds while it runs: the ground, the pipeline, the clock."""

    def __init__(self, settings: Settings, folder: Path, stop: threading.Event, as_json: bool, with_model: bool = False) -> None:
        self._settings, self._stop, self._as_json, self._with_model = settings, stop, as_json, with_model
        self._hidden: tuple[str, int] | None = None
        self._ground: Ground
        self._ground, self._ports, self._problems = choose_ground(folder)
        self._supervisor = Supervisor(settings, progress=self._step)
        self._columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=20), TimeElapsedColumn())
        self._progress = Progress(*self._columns, console=err(), disable=not err().is_terminal)
        self._task: TaskID | None = None
        self._timings: dict[str, float] = {}
        self._begun = time.monotonic()
        self._again = self._granted = False

    def tell(self) -> dict[str, Any]:
        """Everything in order; the document that `--json` prints."""
        for problem in self._problems:
            err().print(f"No lab in namespaces: {problem} Going on with connect probes of services on loopback.")
        self._clear_the_way()
        with self._progress:
            self._phase("making the network", self._make)
            self._phase("starting the pipeline", lambda: self._supervisor.start(self._stop))
            self._check()
            answers = Answers(connect(self._settings), self._stop)
            self._again = bool(answers.open_services())
            if self._again:
                self._progress.console.print("Going on from what an earlier run left: the network is as before its change again.")
            self._phase("bringing what is known of vulnerabilities", lambda: bring_facts(self._settings))
            self._phase("signing the grant", self._authorise)
            self._phase("scanning", lambda: self._scan(answers, again=self._again))
        before = answers.findings()
        first_match = self._compare(answers)
        mended = only_by_version(self._settings)
        asked = [(title, sql, answers.rows(sql)) for title, sql in QUERIES]
        if not self._as_json:
            show_findings(before)
            show_mended(mended)
            for title, sql, rows in asked:
                show_rows(title, sql, rows)
            out().print()
        moment = answers.rows("SELECT max(recorded_at) AS m FROM changes")[0]["m"]
        self._progress = Progress(*self._columns, console=err(), disable=not err().is_terminal)
        with self._progress:
            self._phase("changing the network", self._ground.change)
            self._phase("looking again, twice where something is missing", lambda: self._scan(answers, again=True))
        changes, after = answers.changes_after(moment), answers.findings()
        second_match = self._compare(answers)
        reviewed = self._review(answers)
        moved = moves(before, after)
        if not self._as_json:
            show_changes(changes, moved)
            if reviewed:
                show_reviews(reviewed)
            self._say_match(first_match, second_match)
        self._timings["total"] = round(time.monotonic() - self._begun, 1)
        return {
            "ground": "loopback" if self._problems else "lab",
            "limits": self._problems,
            "findings": before,
            "only_by_version": mended,
            "queries": [{"title": title, "sql": sql, "rows": rows} for title, sql, rows in asked],
            "changes": changes,
            "findings_after": after,
            "moved": [{key: row[key] for key in ("moved", "rank", "risk", "title", "places", "finding_id")} for row in moved],
            "truth": {"first": first_match, "second": second_match},
            "model": reviewed,
            "timings": self._timings,
        }

    def _make(self) -> None:
        self._ground.up()
        if self._with_model:
            self._hidden = self._ground.hide(HIDDEN_PORT)

    def _review(self, answers: Answers) -> dict[str, Any] | None:
        """What the model said, where one is asked: at the end, when the look that it asked for has found the hidden service."""
        hidden = self._hidden
        if hidden is None:
            return None
        self._progress = Progress(*self._columns, console=err(), disable=not err().is_terminal)
        with self._progress:
            self._phase("letting the model look", lambda: await_reviews(answers, hidden))
        return reviews(answers, hidden)

    def _seen(self, answers: Answers) -> set[tuple[str, int, str]]:
        """What ClickHouse has as open, but for the hidden service, of which the network's own truth says nothing."""
        return {one for one in answers.open_services() if one[:2] != self._hidden}

    def _clear_the_way(self) -> None:
        """Refuse before anything is made what would fail later: another demo runs, or something listens where Kafka is to listen."""
        deadline = time.monotonic() + DYING_SECONDS
        while (taken := [check for check in port_checks(self._settings) if not check.ok]) and time.monotonic() < deadline:
            if self._stop.wait(0.2):
                raise Interrupted
        self._supervisor.claim()
        if taken:
            raise MissingPrerequisite(
                f"{', '.join(f'{one.name}: {one.found}' for one in taken)}. If 'driftline up' runs on this machine, stop it first.",
                taken[0].fix,
            )

    def close(self) -> None:
        """Leave no process, namespace or link behind, and no right to probe addresses that are no longer the lab's."""
        try:
            if self._granted:
                self._withdraw()
            self._supervisor.stop()
        finally:
            self._ground.down()

    def _authorise(self) -> None:
        settings, networks = self._settings, tuple(self._ground.networks())
        key = ensure_key(settings, NAME, networks)
        form = GrantForm(
            networks=networks,
            expires_at=now() + GRANTED_FOR,
            path=True,
            icmp=True,
            packets_per_second=1000,
            per_host_per_second=200,
            reason="the demo's own lab",
            grant_id=NAME,
        )
        with publisher(settings) as outlet:
            grants = {name: one for name, one in read_table(settings, "grants").items() if isinstance(one, Grant)}
            desk = Desk(local_actor(), load_signers(settings), settings.zones, grants, outlet.publish)
            create_grant(form, key, desk, now(), amend=True)
            self._granted = True
            for network in networks:
                record = InventoryRecord(network=network, owner="lab team", criticality=Criticality.NORMAL, changed_by=NAME)
                write(outlet, "inventory", subnet_key(record.zone, network), record, "inventory.set")

    def _withdraw(self) -> None:
        """Revoke the grant: what is still waiting would else be looked for where the lab was. Where Kafka is gone, it expires by itself."""
        settings, networks = self._settings, tuple(self._ground.networks())
        try:
            with publisher(settings) as outlet:
                grants = {name: one for name, one in read_table(settings, "grants").items() if isinstance(one, Grant)}
                desk = Desk(local_actor(), load_signers(settings), settings.zones, grants, outlet.publish)
                revoke_grant(NAME, ensure_key(settings, NAME, networks), desk, "the demo is over", now())
        except DriftlineError as error:
            err().print(f"The demo's grant could not be revoked ({error.message}); it ends by itself within {GRANTED_FOR}.", markup=False)

    def _scan(self, answers: Answers, again: bool) -> None:
        """Run the campaign; `again`: what was known before may be gone, and takes a second look to be closed."""
        before = answers.runs(NAME)
        settings = self._settings
        form = CampaignForm(NAME, tuple(self._ground.targets()), Cadence(kind=CadenceKind.ONCE), ports=self._ports, grant_id=NAME)
        with publisher(settings) as outlet:
            campaigns = {name: one for name, one in read_table(settings, "campaigns").items() if isinstance(one, Campaign)}
            create_campaign(form, Office(local_actor(), settings.zones, campaigns, outlet.publish), now(), replace=True)

        def finished() -> bool:
            self._supervisor.watch()
            done, units = answers.progress(NAME, before)
            self._bar(done, units)
            return 0 < units <= done

        answers.until(finished, SCAN_SECONDS, "the campaign's units")
        truth = expected(self._ground.truth())

        def confirmed() -> bool:
            self._supervisor.watch()
            seen = self._seen(answers)
            if missing := len(seen ^ truth):
                self._step(f"looking again: {count(missing, 'change')} to confirm")
            return truth == seen

        if again:
            answers.until(confirmed, CONFIRM_SECONDS, "ClickHouse to show the lab as it is")
        self._step("waiting until the findings settle")
        answers.settled(60.0, quiet=5.0 if again else 2.5)

    def _compare(self, answers: Answers) -> dict[str, Any]:
        truth, seen = expected(self._ground.truth()), self._seen(answers)
        return {"services": len(truth), "rows": len(seen), "missing": sorted(truth - seen), "extra": sorted(seen - truth)}

    def _say_match(self, first: dict[str, Any], second: dict[str, Any]) -> None:
        for name, match in (("before", first), ("after", second)):
            equal = not match["missing"] and not match["extra"]
            word = "equal to" if equal else f"NOT equal to (missing {match['missing']}, extra {match['extra']})"
            tell(f"{name} the change: {match['rows']} services in ClickHouse, {word} the {match['services']} of the network's own truth")
        folder = self._settings.data_dir
        tell(f"Took {time.monotonic() - self._begun:.0f} s. Kept in {folder}; run it again to go on from there.")
        tell(f"To ask more of it: DRIFTLINE_DATA_DIR={folder} driftline up, and in another terminal driftline query …")

    def _phase(self, name: str, work: Any) -> None:
        begun = time.monotonic()
        if not err().is_terminal:
            err().print(f"{begun - self._begun:5.1f} s {name}")
        self._task = self._progress.add_task(name, total=None)
        work()
        self._check()
        self._timings[name] = round(time.monotonic() - begun, 1)
        self._progress.update(self._task, total=1, completed=1, description=f"[green]✓[/] {name}")

    def _step(self, text: str) -> None:
        if self._task is not None:
            self._progress.update(self._task, description=text)

    def _bar(self, done: int, units: int) -> None:
        if self._task is not None and units:
            self._progress.update(self._task, completed=done, total=units, description=f"scanning: {done} of {units} units")

    def _check(self) -> None:
        if self._stop.is_set():
            raise Interrupted
