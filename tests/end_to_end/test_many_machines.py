"""One study on several machines, processes that are killed, stopped or cut off: all is done once.

A machine counts as gone after two seconds here.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import PATIENCE_SECONDS, call, rows
from postgres import Postgres

from cnntune.runs.study import Study
from cnntune.study.ledger import Ledger

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
pytestmark = pytest.mark.slow

MACHINE = """
from cnntune import cli
from cnntune.study import postgres, shared_coordinator
postgres.HEARTBEAT_SECONDS, postgres.GRACE_SECONDS, shared_coordinator.POLL_SECONDS = 0.3, 2.0, 0.2
cli.main()
"""
BUDGET = 12

RECIPE = """
name = "gated"
seed = 3
[data]
name = "digits"
size = 120
[model]
width = 4
[augment]
crop = 1
[train]
loss = "gate:loss"
batch_size = 32
[search]
epochs = 2
[space]
train.lr = { log = [1e-3, 1e-1] }
model.dropout = { uniform = [0.0, 0.5] }
model.width = { choice = [2, 4] }
"""

# Training waits at this gate, so that what a signal interrupts is known.
GATE = """
import time
from pathlib import Path
from torch.nn.functional import cross_entropy

def loss(logits, targets):
    time.sleep(0.03)
    while not Path("open").exists():
        time.sleep(0.03)
    return cross_entropy(logits, targets)
"""


def write_gated(folder: Path) -> None:
    """`gated.toml`, whose trials train while there is a file `open`."""
    (folder / "gated.toml").write_text(RECIPE)
    (folder / "gate.py").write_text(GATE)


def results(folder: Path) -> list[tuple[Any, ...]]:
    """What a study came to: number, status, values and curve of each trial."""
    trials = Ledger.open(Study(folder)).trials()
    return [(t.number, t.status, t.values, t.val_acc, rows(t.run.path)) for t in trials]


class Searches:
    """`cnntune search` on several machines, each with a folder of its own."""

    def __init__(self, storage: str, folder: Path) -> None:
        self.storage, self.folder = storage, folder
        self.processes: dict[str, subprocess.Popen[str]] = {}

    def start(self, name: str, *words: str) -> None:
        """Let a machine search."""
        command = [sys.executable, "-W", "error", "-c", MACHINE, "search", "gated.toml"]
        options = ["--storage", self.storage, "--runs", name, "--workers", "1", *words]
        self.processes[name] = subprocess.Popen(
            [*command, "--budget", str(BUDGET), *options],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def open_gate(self) -> None:
        """Let the trials train."""
        (self.folder / "open").touch()

    def close_gate(self) -> None:
        """Let the trials wait."""
        (self.folder / "open").unlink()

    def send(self, name: str, number: signal.Signals) -> None:
        """Send a machine's coordinator a signal."""
        os.kill(self.processes[name].pid, number)

    def end(self, name: str) -> str:
        """What the machine said, once it has ended well."""
        said = self.processes[name].communicate(timeout=PATIENCE_SECONDS)[1]
        assert self.processes[name].returncode == 0, said
        return said

    def trials(self) -> list[tuple[str, str]]:
        """State and owner of each trial, by number."""
        query = (
            b"SELECT state::text, value_json FROM trials JOIN trial_user_attributes"
            b" USING (trial_id) WHERE key = 'owner' ORDER BY number"
        )
        with psycopg.connect(self.storage) as connection:
            try:
                return [(row[0], row[1]) for row in connection.execute(query).fetchall()]
            except psycopg.errors.UndefinedTable:
                return []

    def wait_until(self, happened: Callable[[list[tuple[str, str]]], bool]) -> None:
        """Wait for what is to be seen on the server."""
        patience = time.monotonic() + PATIENCE_SECONDS
        while not happened(self.trials()):
            assert time.monotonic() < patience
            for process in self.processes.values():
                assert process.poll() in (None, -signal.SIGKILL), process.communicate()[1]
            time.sleep(0.02)


@pytest.fixture
def searches(storage: str, tmp_path: Path) -> Iterator[Searches]:
    write_gated(tmp_path)
    found = Searches(storage, tmp_path)
    yield found
    for process in found.processes.values():
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    """The same search on one machine, without a server."""
    folder = tmp_path_factory.mktemp("undisturbed")
    write_gated(folder)
    (folder / "open").touch()
    assert call("search", "gated.toml", "--budget", str(BUDGET), cwd=folder).code == 0
    return results(folder / "runs" / "gated")


def finished(count: int) -> Callable[[list[tuple[str, str]]], bool]:
    return lambda trials: sum(state != "RUNNING" for state, _ in trials) >= count


def both_train(trials: list[tuple[str, str]]) -> bool:
    return len({owner for state, owner in trials if state == "RUNNING"}) == 2


def test_two_machines_find_together_what_one_finds(
    searches: Searches, undisturbed: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    searches.start("one")
    searches.start("two")
    searches.wait_until(both_train)
    searches.open_gate()
    searches.end("one")
    searches.end("two")
    assert results(tmp_path / "one" / "gated") == undisturbed
    assert results(tmp_path / "two" / "gated") == undisturbed
    assert len({owner for _, owner in searches.trials()}) == 2


def test_the_trials_of_a_killed_machine_are_run_by_the_other(
    searches: Searches, undisturbed: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    searches.start("one")
    searches.start("two")
    searches.wait_until(both_train)
    searches.open_gate()
    searches.wait_until(finished(3))
    searches.close_gate()
    searches.wait_until(both_train)
    searches.send("one", signal.SIGKILL)
    searches.open_gate()
    searches.end("two")
    assert results(tmp_path / "two" / "gated") == undisturbed


def test_a_restart_of_the_server_loses_nothing(
    searches: Searches, undisturbed: list[tuple[Any, ...]], postgres: Postgres, tmp_path: Path
) -> None:
    searches.start("one")
    searches.start("two")
    searches.wait_until(both_train)
    postgres.control("-m", "immediate", "restart")
    searches.open_gate()
    for trials in (2, 5):
        searches.wait_until(finished(trials))
        postgres.control("-m", "immediate", "restart")
    said = searches.end("one") + searches.end("two")
    assert "while training continues" in said
    assert "is back after" in said
    assert results(tmp_path / "one" / "gated") == undisturbed
    assert results(tmp_path / "two" / "gated") == undisturbed


def test_a_machine_that_comes_back_overwrites_nothing(
    searches: Searches, undisturbed: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    searches.start("one")
    searches.wait_until(lambda trials: len(trials) == 1)
    searches.send("one", signal.SIGSTOP)
    searches.start("two")
    searches.open_gate()
    searches.wait_until(finished(BUDGET))
    before = searches.trials()
    searches.send("one", signal.SIGCONT)
    assert "trial-0000 dropped" in " ".join(searches.end("one").split())
    searches.end("two")
    assert searches.trials() == before
    assert len({owner for _, owner in before}) == 1
    assert results(tmp_path / "one" / "gated") == undisturbed
