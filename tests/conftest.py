"""What all tests share: one CPU thread, quick SQLite, and a database server where one is wanted.

Small networks gain little from a second thread, and on a busy machine threads that wait for each
other lose tenfold.
"""

import gc
import json
import os
import sqlite3
import sys
from collections.abc import Iterator
from typing import Any

import postgres as servers
import pytest
import torch
from alembic.config import Config
from alembic.script import ScriptDirectory
from commands import Workflow, call, worked_through
from filelock import FileLock
from sqlalchemy import event
from sqlalchemy.engine import Engine

os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)
# Tests are compiled once, and processes that they start find modules compiled, as those of users.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
gc.disable()  # while tests are collected: what is loaded stays


def pytest_collection_finish() -> None:
    """The collector need not go through torch and all tests again and again.

    From here on modules are compiled whenever they are loaded: a test may write one twice in the
    second by which Python tells an old file from a new one.
    """
    gc.freeze()
    gc.enable()
    sys.dont_write_bytecode = True


@event.listens_for(Engine, "connect")
def _do_not_wait_for_the_disk(connection: Any, _: Any) -> None:
    """Tests survive no loss of power here, and waited for the disk a third of their time.

    Commands in processes of their own, which tests kill, wait as those of users do.
    """
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


@pytest.fixture(scope="session", autouse=True)
def _revisions_of_optuna_are_read_once() -> Iterator[None]:
    """They are a folder of modules, which Optuna executes whenever it opens a study."""
    read: dict[str | None, ScriptDirectory] = {}
    from_config = ScriptDirectory.from_config

    def from_memory(config: Config) -> ScriptDirectory:
        folder = config.get_main_option("script_location")
        if folder not in read:
            read[folder] = from_config(config)
        return read[folder]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptDirectory, "from_config", from_memory)
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[servers.Postgres]:
    """One server for all tests."""
    with servers.running() as server:
        yield server


@pytest.fixture
def storage(postgres: servers.Postgres) -> str:
    """A new database, as `--storage` takes it."""
    return postgres.database()


@pytest.fixture(scope="session")
def workflow(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A study in which each command has run once, for all processes that test: only read it."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "workflow"
    shared.mkdir(exist_ok=True)
    with FileLock(shared / "lock"):
        if not (shared / "outcomes.json").exists():
            made = worked_through(shared / "folder", call)
            (shared / "outcomes.json").write_text(json.dumps(made.stored()))
    return Workflow.read(shared / "folder", json.loads((shared / "outcomes.json").read_text()))
