"""A ledger on a server: who takes which trial, who may tell it, what breaks and is mended."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from commands import call, one_after_the_other
from postgres import Postgres

from cnntune.config.recipe import Recipe
from cnntune.config.space import Choice, draw
from cnntune.errors import DeviceError, StudyError
from cnntune.machine.clock import Deadline
from cnntune.runs.study import Study
from cnntune.runs.summary import Summary
from cnntune.steps import search
from cnntune.study import coordinator, postgres
from cnntune.study.ledger import Ledger
from cnntune.study.postgres import connect
from cnntune.study.shared_coordinator import run_shared
from cnntune.study.shared_ledger import SharedLedger
from cnntune.training.open_recipe import load_recipe
from cnntune.workers.pool import Event, Job

SMALL = """
name = "small"
seed = 3
[data]
name = "digits"
size = 120
[model]
width = 4
[augment]
crop = 1
[train]
precision = "float32"
batch_size = 32
[search]
epochs = 2
[space]
train.lr = { log = [1e-3, 1e-1] }
model.dropout = { uniform = [0.0, 0.5] }
model.width = { choice = [2, 4] }
"""
DONE = Summary("complete", 2, 2, val_acc=0.5, val_loss=1.5)
BETTER = replace(DONE, val_acc=0.9)


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    (tmp_path / "small.toml").write_text(SMALL)
    return load_recipe(str(tmp_path / "small.toml"))


class Machines:
    """Coordinators of one study, each with a folder of its own."""

    def __init__(self, storage: str, recipe: Recipe, folder: Path, stack: Any) -> None:
        self.storage, self.recipe, self.folder, self.stack = storage, recipe, folder, stack
        self.study = f"small-{uuid4().hex}"  # the tests share a database: making one takes longer
        self.said: list[str] = []

    def join(self, name: str) -> SharedLedger:
        """A machine that begins to beat."""
        place = self.stack.enter_context(connect(self.storage, self.study, self.said.append))
        study = Study(self.folder / name / "small")
        return search.join(study, self.recipe, place)[0]

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """What the server answers."""
        import psycopg

        with psycopg.connect(self.storage, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def pass_time(self, ledger: SharedLedger, seconds: float, column: str) -> None:
        """Let a machine's beats, or the first of them, lie back."""
        self.sql(
            f"UPDATE cnntune_coordinators SET {column} = {column} - interval '{seconds} s'"
            f" WHERE owner = '{ledger.server.owner}'"
        )

    def claim(
        self, ledger: SharedLedger, budget: int = 2, busy: tuple[int, ...] = ()
    ) -> int | None:
        """The number of the trial that the machine takes."""
        space = self.recipe.space
        claimed = ledger.claim(space, budget, busy, lambda slot: draw(space, seed=3, slot=slot))
        return claimed[0] if claimed else None


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> str:
    return postgres.database()


@pytest.fixture
def machines(database: str, recipe: Recipe, tmp_path: Path) -> Iterator[Machines]:
    with contextlib.ExitStack() as stack:
        yield Machines(database, recipe, tmp_path, stack)


def search_on(
    ledger: SharedLedger, patch: pytest.MonkeyPatch, budget: int, seconds: float | None = None
) -> Iterator[Event]:
    """What happens when a machine searches in this process."""
    patch.setattr(coordinator, "run_jobs", one_after_the_other)
    time = Deadline.after(seconds)
    return run_shared(ledger, budget=budget, workers=1, devices=("cpu",), deadline=time, say=print)


def test_machines_take_one_slot_after_the_other_until_the_budget_is_spent(
    machines: Machines,
) -> None:
    here, there = machines.join("here"), machines.join("there")
    assert machines.claim(here, budget=3) == 0
    assert machines.claim(there, budget=3) == 1
    assert machines.claim(here, budget=3, busy=(0,)) == 2
    assert machines.claim(there, budget=3, busy=(1,)) is None
    values = [trial.values for trial in there.trials()]
    assert values == [draw(machines.recipe.space, seed=3, slot=slot) for slot in range(3)]


def test_a_claim_whose_answer_was_lost_is_made_again(machines: Machines) -> None:
    here = machines.join("here")
    assert machines.claim(here) == 0
    assert machines.claim(here) == 0


def test_a_trial_is_taken_over_when_its_machine_has_not_beaten_for_the_grace_period(
    machines: Machines,
) -> None:
    here, there = machines.join("here"), machines.join("there")
    machines.claim(there, budget=1)
    machines.pass_time(here, postgres.GRACE_SECONDS + 1, "since")
    machines.pass_time(there, postgres.GRACE_SECONDS - 5, "beat")
    assert machines.claim(here, budget=1) is None
    machines.pass_time(there, 6, "beat")
    assert machines.claim(here, budget=1) == 0


def test_a_machine_that_came_a_moment_ago_takes_nothing_over(machines: Machines) -> None:
    here, there = machines.join("here"), machines.join("there")
    machines.claim(there, budget=1)
    machines.pass_time(there, postgres.GRACE_SECONDS + 1, "beat")
    assert machines.claim(here, budget=1) is None


def test_a_machine_that_was_cut_off_takes_nothing_over(machines: Machines) -> None:
    here, there = machines.join("here"), machines.join("there")
    machines.claim(there, budget=1)
    for one in (here, there):
        machines.pass_time(one, 3 * postgres.GRACE_SECONDS, "since")
        machines.pass_time(one, postgres.GRACE_SECONDS + 1, "beat")
    here.server.heartbeat()
    assert machines.claim(here, budget=1) is None
    machines.pass_time(here, postgres.GRACE_SECONDS + 1, "since")
    assert machines.claim(here, budget=1) == 0


def test_the_trial_of_a_machine_that_left_is_free_at_once(machines: Machines) -> None:
    with contextlib.ExitStack() as machines.stack:
        machines.claim(machines.join("there"), budget=1)
    with contextlib.ExitStack() as machines.stack:
        assert machines.claim(machines.join("here"), budget=1) == 0


def test_who_lost_a_trial_may_not_tell_it(machines: Machines) -> None:
    with contextlib.ExitStack() as machines.stack:
        there = machines.join("there")
        machines.claim(there)
        there.server.__exit__()
        here = machines.join("here")
        assert machines.claim(here) == 0
        assert there.tell_own(0, BETTER) == here.server.owner
        assert here.trials()[0].status == "running"
        assert here.tell_own(0, DONE) is None
        assert there.tell_own(0, BETTER) == here.server.owner
        assert here.trials()[0].val_acc == 0.5


def test_a_trial_may_be_told_twice(machines: Machines) -> None:
    here = machines.join("here")
    machines.claim(here)
    assert here.tell_own(0, DONE) is None
    assert here.tell_own(0, DONE) is None
    assert [trial.status for trial in here.trials()] == ["complete"]


BREAK = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND datname = current_database()
"""


def test_a_broken_connection_is_mended(machines: Machines) -> None:
    here = machines.join("here")
    machines.claim(here)
    machines.sql(BREAK)
    assert here.tell_own(0, DONE) is None
    assert machines.claim(here) == 1
    assert len(machines.said) == 2  # that it is gone, and that it is back
    assert "secret" not in " ".join(machines.said)


def test_what_was_decided_under_a_lock_that_broke_is_decided_anew(machines: Machines) -> None:
    """Between the look at the trials and the write another machine takes the slot."""
    here, there = machines.join("here"), machines.join("there")
    slots = []

    def values(slot: int) -> dict[str, Any]:
        slots.append(slot)
        if len(slots) == 1:
            machines.sql(BREAK)
            assert machines.claim(there) == 0
        return draw(machines.recipe.space, seed=3, slot=slot)

    claimed = here.claim(machines.recipe.space, 5, (), values)
    assert slots == [0, 1]
    assert claimed == (1, draw(machines.recipe.space, seed=3, slot=1))
    assert len(here.trials()) == 2


def test_one_machine_at_a_time_decides(machines: Machines) -> None:
    here, there = machines.join("here"), machines.join("there")
    claimed = threading.Event()

    def claim() -> None:
        machines.claim(there)
        claimed.set()

    with here.server.study_lock():
        thread = threading.Thread(target=claim)
        thread.start()
        assert not claimed.wait(0.5)
    assert claimed.wait(10)
    thread.join()


def test_a_machine_that_freezes_while_it_decides_stops_nobody(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = machines.join("here"), machines.join("there")
    monkeypatch.setattr(postgres, "GRACE_SECONDS", 0.5)
    with here.server.study_lock():
        assert machines.claim(there) == 0
        with pytest.raises(postgres.ServerLostError):
            here.begin(machines.recipe.space, {"train.lr": 0.1})
    assert [trial.number for trial in here.trials()] == [0]


def test_a_server_that_stays_away_ends_the_search_with_a_line(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = machines.join("here")
    monkeypatch.setattr(postgres, "MAX_RETRY_SECONDS", 0.0)

    def fail() -> None:
        raise postgres.ServerLostError("no route to host")

    with pytest.raises(StudyError, match=r"no route to host.*run the same command to resume"):
        here.server.with_retries(fail)


def test_the_curves_of_the_other_machines_are_fetched(machines: Machines) -> None:
    here, there = machines.join("here"), machines.join("there")
    machines.claim(there)
    run = there.study.trial(0)
    run.begin({"any": "recipe"})
    run.metrics.write_text(run.metrics.read_text() + "1,0.1,2,0.3,2,0.4,1,1\n")
    there.tell_own(0, DONE)
    here.fetch()
    [trial] = Ledger.open(here.study).trials()
    assert trial.status == "complete"
    assert trial.summary == DONE
    assert [row.val_acc for row in trial.run.rows()] == [0.4]
    assert trial.run.config()["train"]["lr"] == trial.values["train.lr"]


def test_a_trial_that_was_finished_here_and_not_told_is_told(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = machines.join("here")
    machines.claim(here)
    here.study.trial(0).finish(DONE.to_json())
    assert list(search_on(here, monkeypatch, budget=1)) == []
    assert [(trial.status, trial.val_acc) for trial in here.trials()] == [("complete", 0.5)]


def test_after_its_time_a_machine_begins_nothing_and_waits_for_nobody(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = machines.join("here"), machines.join("there")
    machines.claim(there)
    assert list(search_on(here, monkeypatch, budget=2, seconds=0.0)) == []
    assert [trial.status for trial in here.trials()] == ["running"]


def test_a_batch_size_that_found_no_memory_is_drawn_again_all_the_same(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines.recipe = machines.recipe.model_copy(
        update={"space": {"train.batch_size": Choice((32, 64))}}
    )
    none_left = Summary.failed("out-of-memory", "out of memory")

    def pool(next_job: Callable[[], Job | None], **_: Any) -> Iterator[Event]:
        while job := next_job():
            fits = job.check or job.recipe.train.batch_size == 32
            yield Event(job, summary=DONE if fits else none_left)

    here = machines.join("here")
    monkeypatch.setattr(coordinator, "run_jobs", pool)
    list(run_shared(here, budget=12, workers=1, devices=("cpu",), say=print))
    sizes = [trial.values["train.batch_size"] for trial in here.trials()]
    assert len(sizes) == 12
    assert sizes.count(64) > 3  # nobody else's memory decides over the next trial's values


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["mysql://me:pw@host/db"], "must be postgresql://user:password@host/database"),
        (["postgresql://h:port/db"], "must be postgresql://user:password@host/database"),
        (["postgresql://me:pw@127.0.0.1:1/db"], "Connection refused"),
        (["{server}/nowhere"], 'database "nowhere" does not exist'),
        (["{storage}", "--pruner", "halving"], 'search.pruner must be "none" (got "halving")'),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_line_without_the_password(
    words: list[str], line: str, database: str, recipe: Recipe, tmp_path: Path
) -> None:
    address = words[0].format(storage=database, server=database.rpartition("/")[0])
    ended = call("search", "small.toml", "--storage", address, *words[1:], cwd=tmp_path)
    assert ended.code == 2
    [said] = ended.err.splitlines()
    assert line in said
    assert "pw" not in said
    assert "secret" not in said


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DeviceError, match=r"pip install 'cnntune\[postgres\]'"):
        connect("postgresql://me@host/db", "small", print)


def test_another_recipe_is_refused_by_the_key_that_differs(
    machines: Machines, recipe: Recipe
) -> None:
    machines.join("here")
    machines.recipe = recipe.with_values({"train.momentum": 0.5})
    with pytest.raises(StudyError, match=r"train\.momentum: 0\.9 there, 0\.5 asked"):
        machines.join("there")


def test_a_folder_with_the_trials_of_another_study_is_refused(machines: Machines) -> None:
    Study(machines.folder / "here" / "small").trial(0).begin({})
    with pytest.raises(StudyError, match="holds trials of another study"):
        machines.join("here")


@pytest.mark.slow
def test_a_search_on_a_server_is_not_continued_without_it(
    storage: str, recipe: Recipe, tmp_path: Path
) -> None:
    words = ("search", "small.toml", "--budget", "1")
    assert call(*words, "--storage", storage, cwd=tmp_path).code == 0
    ended = call(*words, cwd=tmp_path)
    assert ended.code == 2
    assert "its search is stored on postgresql://tester:***@" in ended.err
    for file in (tmp_path / "runs").rglob("*"):
        assert not file.is_file() or b"secret" not in file.read_bytes(), file


def test_the_first_machine_decides_on_the_precision_and_each_on_its_own_memory(
    machines: Machines,
) -> None:
    machines.recipe = machines.recipe.with_values({"train.precision": "auto"})
    first, second = machines.join("a"), machines.join("b")
    first.settle("bfloat16", 7680, stream=True)
    second.settle("float32", 7680, stream=False)
    assert (first.recipe.train.precision, first.recipe.data.stream) == ("bfloat16", True)
    assert (second.recipe.train.precision, second.recipe.data.stream) == ("bfloat16", False)
    third = machines.join("c")
    assert (third.recipe.train.precision, third.image_bytes) == ("bfloat16", 7680)
