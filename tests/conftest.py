"""What all tests share: one CPU thread, and a database server for those that ask for it.

Small networks gain little from a second thread, and on a busy machine threads that wait for each
other lose tenfold.
"""

import os
from collections.abc import Iterator

import postgres as servers
import pytest
import torch

os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[servers.Postgres]:
    """One server for all tests."""
    with servers.running() as server:
        yield server


@pytest.fixture
def storage(postgres: servers.Postgres) -> str:
    """A new database, as `--storage` takes it."""
    return postgres.database()
