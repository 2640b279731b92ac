"""One pipeline and one lab for all end-to-end tests: made once, looked at once, then changed once and looked at again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.local.lab.lab import Lab
from infra.local.lab.truth import ServiceTruth
from tests.e2e.capture import capturing
from tests.pipelines import Pipeline, Row, running_pipeline

MINE = "(startsWith(address, '198.18.230.') OR startsWith(address, '2001:db8:18:e6:'))"  # other tests look at other networks
OPEN = f"SELECT * FROM services FINAL WHERE status != 'closed' AND {MINE}"  # noqa: S608  fixed text
VIEW = f"SELECT * FROM open_now WHERE {MINE}"  # noqa: S608
CHANGES = f"SELECT kind, address, port FROM changes FINAL WHERE {MINE}"  # noqa: S608
FINDINGS = f"SELECT * FROM findings FINAL WHERE arrayExists(address -> {MINE}, addresses)"  # noqa: S608


@dataclass(slots=True)
class Look:
    """What was true of the lab, and what ClickHouse held once the pipeline had looked."""

    truth: list[ServiceTruth]
    services: list[Row]
    view: list[Row]
    changes: list[Row]
    findings: list[Row]


@dataclass(slots=True)
class World:
    """The pipeline, its lab, and the first look. `packets` records everything sent to the lab during that look."""

    pipeline: Pipeline
    lab: Lab
    packets: Path
    first: Look

    def finding(self, rule: str) -> Row:
        """A finding of this rule from the first look."""
        return next(row for row in self.first.findings if row["rule"] == rule)


def look(pipeline: Pipeline, lab: Lab) -> Look:
    """What the lab is now and what ClickHouse says of it."""
    return Look(lab.truth(), pipeline.rows(OPEN), pipeline.rows(VIEW), pipeline.rows(CHANGES), pipeline.rows(FINDINGS))


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The lab scanned whole, under a grant that allows paths too."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for the lab's namespaces")
    folder = tmp_path_factory.mktemp("world")
    with Lab(folder, "dle-", 230) as lab, running_pipeline(folder) as pipeline:
        packets = folder / "first.pcap"
        pipeline.grant("full", lab.networks(), path=True, icmp=True)
        with capturing(packets, [*lab.networks(), "198.19.230.0/30", "2001:db8:19:e6::/64"]):
            run = pipeline.push("first", lab.targets(), grant="full")
            pipeline.scanned(run)
        pipeline.settled()
        yield World(pipeline, lab, packets, look(pipeline, lab))


@pytest.fixture(scope="session")
def changed(world: World) -> Look:
    """The lab after its change, looked at until what is missing was confirmed."""
    pipeline, lab = world.pipeline, world.lab
    lab.change()
    pipeline.scanned(pipeline.push("second", lab.targets(), grant="full"))
    wanted = {(one.address, one.port) for one in lab.truth()}

    def confirmed() -> bool:
        return {(row["address"], row["port"]) for row in pipeline.rows(VIEW)} == wanted

    pipeline.until(confirmed, 90, "the closed service to be confirmed")
    pipeline.settled()
    return look(pipeline, lab)
