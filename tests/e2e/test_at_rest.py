"""What the pipeline holds and uses while nothing happens."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipelines import running_pipeline

pytestmark = [pytest.mark.long, pytest.mark.kafka, pytest.mark.store, pytest.mark.slow, pytest.mark.timeout(400)]
MOST_MEMORY_MB = 1536
MOST_CPU_PERCENT = 5.0


def test_at_rest_it_holds_little_and_uses_little(tmp_path: Path) -> None:
    with running_pipeline(tmp_path, partitions=12) as pipeline:
        figures: list[str] = []

        def calm() -> bool:
            status = pipeline.status(60.0)
            rows = [f"{row['role']} {row['memory_mb']} MB {row['cpu_percent']} %" for row in status.rows if row["memory_mb"] is not None]
            figures.append(f"{status.memory_mb:.0f} MB, {status.cpu_percent:.2f} % of a core; " + ", ".join(rows))
            assert status.memory_mb <= MOST_MEMORY_MB, figures
            assert {row["state"] for row in status.rows} == {"ready"}
            return bool(status.cpu_percent <= MOST_CPU_PERCENT)

        try:
            pipeline.until(calm, 200.0, "at most 5 % of a core")  # the first minutes do not count: the broker still compiles itself
        except AssertionError as error:
            raise AssertionError(f"{error}\n" + "\n".join(figures)) from None
        print(f"at rest: {figures[-1]}")
        told = pipeline.json("status")
        assert told["memory_mb"] <= MOST_MEMORY_MB
        assert told["rows"]
