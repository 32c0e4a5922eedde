"""What the coordinator costs a trial, when training costs nothing.

    python benchmarks/speed/coordinator.py [--write]
    python benchmarks/speed/coordinator.py --storage postgresql://me@host/bench --coordinators 1 8

First one coordinator, with the study in memory, in SQLite, and on a server if one is named, and so
many finished trials in it already. Then several coordinators on the server at once, and what that
means for 64 workers.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import cast
from uuid import uuid4

import optuna
from measure import report, table
from optuna.trial import create_trial
from sqlalchemy import Engine, MetaData, func, select, text

from cnntune.config.recipe import Recipe
from cnntune.runs.study import Study
from cnntune.runs.summary import Summary
from cnntune.steps import search
from cnntune.study import coordinator
from cnntune.study.coordinator import run_trials
from cnntune.study.ledger import STUDY_NAME, Ledger
from cnntune.study.postgres import Server, connect
from cnntune.study.shared_coordinator import run_shared
from cnntune.training.open_recipe import load_recipe
from cnntune.workers.pool import Event, Job

RECIPE = """
name = "nothing"
[space]
train.lr = { log = [1e-4, 1e-1] }
train.weight_decay = { log = [1e-6, 1e-2] }
model.width = { choice = [16, 32, 64] }
"""
CPU = ("cpu",)
WORKERS = 64
HEADER = (
    "trials before",
    "ms a trial, in memory",
    "with SQLite's record",
    "with a server's",
    "study.db, MiB",
    "the process, MiB",
)
MEASURED = 40  # trials, after those that are there
RESULT = Summary("complete", 1, 1, val_acc=0.5, val_loss=1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, nargs="+", default=[10, 100, 1000, 10000])
    parser.add_argument("--storage", help="a server to measure, too")
    parser.add_argument("--coordinators", type=int, nargs="+", default=[1, 8])
    parser.add_argument(
        "--crowd", type=int, default=400, help="trials of the coordinators together"
    )
    parser.add_argument("--write", action="store_true", help="into docs/performance.md")
    parser.add_argument("--join", metavar="STUDY", help=argparse.SUPPRESS)  # one of a crowd
    asked = parser.parse_args()
    setattr(coordinator, "run_jobs", no_training)  # noqa: B010  mypy minds an assignment
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "nothing.toml").write_text(RECIPE)
        recipe = load_recipe(str(Path(folder) / "nothing.toml"))
        if asked.join:
            one_of_a_crowd(asked.storage, asked.join, recipe, Path(folder), asked.crowd)
            return
        rows = one_coordinator(recipe, Path(folder), asked.trials, asked.storage)
        report("coordinator", table(HEADER, rows), write=asked.write)
        if asked.storage:
            crowds(asked.storage, asked.coordinators, asked.crowd)


def no_training(next_job: Callable[[], Job | None], **_: object) -> Iterator[Event]:
    """Workers that are done at once."""
    while job := next_job():
        yield Event(job)
        yield Event(job, summary=RESULT)


def one_coordinator(
    recipe: Recipe, folder: Path, sizes: list[int], storage: str | None
) -> list[list[str]]:
    """Rows of one coordinator alone, as the study grows."""
    rows = []
    for size in sizes:
        memory = in_memory(recipe, folder / uuid4().hex, size)
        process = resident()
        file = folder / uuid4().hex
        disk = in_file(recipe, file, size)
        server = "not asked"
        if storage:
            server = f"{on_server(storage, uuid4().hex, recipe, folder, size):.1f}"
        database = (file / "study.db").stat().st_size / 2**20
        rows.append(
            [
                f"{size:,}",
                f"{memory:.2f}",
                f"{disk:.1f}",
                server,
                f"{database:.1f}",
                f"{process:.0f}",
            ]
        )
        print(*rows[-1], sep="  ", flush=True)
    return rows


def resident() -> float:
    """MiB that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def in_memory(recipe: Recipe, folder: Path, size: int) -> float:
    """Milliseconds a trial, where `size` trials are there already."""
    memory = optuna.storages.InMemoryStorage()
    optuna_study = optuna.create_study(study_name=STUDY_NAME, storage=memory, direction="maximize")
    optuna_study.set_user_attr("recipe", recipe.as_values())
    done = create_trial(value=RESULT.val_acc, user_attrs={"summary": RESULT.to_json()})
    optuna_study.add_trials([done] * size)
    storage = cast(optuna.storages.RDBStorage, memory)
    return local(Ledger(Study(folder), storage, optuna_study), size)


def in_file(recipe: Recipe, folder: Path, size: int) -> float:
    """Milliseconds a trial, where `size` trials are there already."""
    ledger = Ledger.create(Study(folder), recipe, asked=recipe)
    fill(ledger.storage.engine, size)
    return local(ledger, size)


def local(ledger: Ledger, size: int) -> float:
    return milliseconds(run_trials(ledger, budget=size + MEASURED, workers=1, devices=CPU))


def on_server(storage: str, name: str, recipe: Recipe, folder: Path, size: int) -> float:
    """Milliseconds a trial, where `size` trials are there already."""
    with connect(storage, name, print) as server:
        ledger, _ = search.join(Study(folder / name), recipe, server)
        fill(server.storage.engine, size)
        budget = size + MEASURED
        return milliseconds(run_shared(ledger, budget=budget, workers=1, devices=CPU, say=print))


def fill(engine: Engine, size: int) -> None:
    """Put `size` finished trials into the newest study, at once."""
    tables = MetaData()
    tables.reflect(engine, only=["studies", "trials", "trial_user_attributes"])
    trial, about = tables.tables["trials"], tables.tables["trial_user_attributes"]
    newest = select(func.max(tables.tables["studies"].c.study_id))
    now = datetime.now()
    with engine.begin() as connection:
        study_id = connection.execute(newest).scalar()
        row = {"study_id": study_id, "state": "COMPLETE", "datetime_start": now}
        row |= {"datetime_complete": now}
        connection.execute(trial.insert(), [row | {"number": number} for number in range(size)])
        ids = connection.execute(select(trial.c.trial_id).where(trial.c.study_id == study_id))
        summary = {"key": "summary", "value_json": json.dumps(RESULT.to_json())}
        connection.execute(about.insert(), [summary | {"trial_id": one} for one in ids.scalars()])


def milliseconds(events: Iterator[Event]) -> float:
    """The median from the end of one trial to the end of the next."""
    ends = [time.perf_counter() for event in events if event.summary is not None]
    return 1000 * statistics.median(after - before for before, after in pairwise(ends))


def crowds(storage: str, sizes: list[int], count: int) -> None:
    """Print what several coordinators get out of one server."""
    print(f"\n{'coordinators':>12}{'trials/s':>10}{'transactions a trial':>22}{'connections':>13}")
    for size in sizes:
        name = f"crowd-{uuid4().hex[:6]}"
        with connect(storage, name, print) as server:
            before = transactions(server)
            command = [sys.executable, __file__, "--storage", storage, "--join", name]
            crowd = [subprocess.Popen([*command, "--crowd", str(count)]) for _ in range(size)]
            most = 0
            while any(process.poll() is None for process in crowd):
                most = max(most, connections(server))
                time.sleep(0.2)
            spent = (transactions(server) - before) / count
            rate = (count - 1) / seconds_between(server, name)
        print(f"{size:>12}{rate:>10.0f}{spent:>22.0f}{most - 2:>13}", flush=True)
        print(
            f"{'':>12}{WORKERS} workers wait where a trial takes less than {WORKERS / rate:.1f} s"
        )


def one_of_a_crowd(storage: str, name: str, recipe: Recipe, folder: Path, count: int) -> None:
    with connect(storage, name, lambda _: None) as server:
        ledger, _ = search.join(Study(folder / name), recipe, server)
        for _event in run_shared(ledger, budget=count, workers=1, devices=CPU, say=lambda _: None):
            pass


def transactions(server: Server) -> int:
    return ask(
        server, "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
    )


def connections(server: Server) -> int:
    return ask(server, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cnntune'")


def seconds_between(server: Server, name: str) -> float:
    """From the end of the first trial to the end of the last one."""
    question = (
        "SELECT extract(epoch FROM max(datetime_complete) - min(datetime_complete))"
        f" FROM trials JOIN studies USING (study_id) WHERE study_name = '{name}'"
    )
    return float(ask(server, question))


def ask(server: Server, question: str) -> int:
    with server.storage.engine.begin() as connection:
        answer: int = connection.execute(text(question)).scalar_one()
        return answer


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
