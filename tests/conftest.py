"""Fixtures for all tests. A folder's own fixtures stand in its own conftest.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling, Scheduling

from tests.brokers import running_broker

# A loaded machine is slow, not wrong: tests have pytest's time limit, examples have none.
settings.register_profile("driftline", deadline=None, max_examples=30)
settings.register_profile("long", deadline=None, max_examples=200)
settings.load_profile("driftline")


ALONE = ("test_demo.py", "test_halts.py", "test_across_machines.py", "test_sweep_command.py")
"""Files of tests/e2e that make all they need themselves."""


class OneWorld(LoadFileScheduling):  # type: ignore[misc]  # it has no types
    """A file is one worker's; so are all files that share the pipeline of tests/e2e/conftest.py, which is one for the session."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "world" if file.startswith("tests/e2e/") and not file.endswith(ALONE) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """How the tests are divided among workers."""
    return OneWorld(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits for brokers comes first, so that at the end no worker is left with a minute's test while the others are idle."""
    items.sort(key=lambda item: item.nodeid.startswith(("tests/unit/", "tests/property/", "tests/contract/")))


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bootstrap address of one real Kafka for the whole session, started when the first test asks for it.

    It is shared: a test makes its own topics, groups and transactional ids, with a prefix of its own.
    """
    with running_broker(tmp_path_factory.mktemp("kafka")) as bootstrap:
        yield bootstrap
