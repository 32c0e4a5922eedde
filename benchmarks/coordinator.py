"""What the coordinator costs a trial, when training costs nothing.

    python benchmarks/coordinator.py --trials 10 100 1000
    python benchmarks/coordinator.py --storage postgresql://me@localhost/bench --coordinators 1 8

First one coordinator, with the study in memory, in SQLite, and on a server if one is named: the
mean milliseconds of a trial, and the median of its last tenth, which shows what grows with the
study. Then several coordinators on the server at once, which is what 64 workers ask of it.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import cast
from uuid import uuid4

import optuna
import torch
from sqlalchemy import text

from cnntune import search, shared, trials
from cnntune.build import load_recipe
from cnntune.ledger import STUDY_NAME, Ledger
from cnntune.recipe import Recipe
from cnntune.runs import Study
from cnntune.server import Server, connect
from cnntune.shared import run_shared
from cnntune.trials import run_trials
from cnntune.workers import Event, Job

RECIPE = """
name = "nothing"
[space]
train.lr = { log = [1e-4, 1e-1] }
train.weight_decay = { log = [1e-6, 1e-2] }
model.width = { choice = [16, 32, 64] }
"""
CPU = torch.device("cpu")
WORKERS = 64
RESULT = {"status": "complete", "epochs": 1, "best_epoch": 1, "val_acc": 0.5, "val_loss": 1.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--storage", help="a server to measure, too")
    parser.add_argument("--coordinators", type=int, nargs="+", default=[1, 8])
    parser.add_argument(
        "--crowd", type=int, default=400, help="trials of the coordinators together"
    )
    parser.add_argument("--join", metavar="STUDY", help=argparse.SUPPRESS)  # one of a crowd
    options = parser.parse_args()
    for room in (trials, shared):
        setattr(room, "run_jobs", no_training)  # noqa: B010  mypy minds an assignment
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "nothing.toml").write_text(RECIPE)
        recipe = load_recipe(str(Path(folder) / "nothing.toml"))
        if options.join:
            on_server(options.storage, options.join, recipe, Path(folder), options.crowd)
            return
        one_coordinator(recipe, Path(folder), options.trials, options.storage)
        if options.storage:
            crowds(options.storage, options.coordinators, options.crowd)


def no_training(next_job: Callable[[], Job | None], **_: object) -> Iterator[Event]:
    """Workers that are done at once."""
    while job := next_job():
        yield Event(job)
        yield Event(job, summary=dict(RESULT))


def one_coordinator(recipe: Recipe, folder: Path, counts: list[int], storage: str | None) -> None:
    """Print the table of one coordinator alone."""
    print(f"{'trials':>7}  {'study in':<12}{'ms a trial':>12}{'ms, last tenth':>16}")
    for count in counts:
        ways: dict[str, Callable[[str], list[float]]] = {
            "memory": lambda name, count=count: in_memory(recipe, folder / name, count),  # type: ignore[misc]
            "SQLite": lambda name, count=count: in_file(recipe, folder / name, count),  # type: ignore[misc]
        }
        if storage:
            ways["PostgreSQL"] = lambda name, count=count: on_server(  # type: ignore[misc]
                storage, name, recipe, folder, count
            )
        for place, way in ways.items():
            ended = way(f"{place}-{uuid4().hex[:6]}")
            each = [1000 * (after - before) for before, after in pairwise(ended)]
            last = statistics.median(each[-max(1, count // 10) :])
            print(f"{count:>7}  {place:<12}{statistics.mean(each):>12.1f}{last:>16.1f}", flush=True)


def in_memory(recipe: Recipe, folder: Path, count: int) -> list[float]:
    """When the search began, and when each trial ended."""
    memory = optuna.storages.InMemoryStorage()
    optuna_study = optuna.create_study(study_name=STUDY_NAME, storage=memory, direction="maximize")
    optuna_study.set_user_attr("recipe", recipe.as_values())
    storage = cast(optuna.storages.RDBStorage, memory)
    return local(Ledger(Study(folder), storage, optuna_study), count)


def in_file(recipe: Recipe, folder: Path, count: int) -> list[float]:
    """When the search began, and when each trial ended."""
    return local(Ledger.create(Study(folder), recipe, asked=recipe), count)


def local(ledger: Ledger, count: int) -> list[float]:
    """When the search began, and when each trial ended."""
    return times(run_trials(ledger, budget=count, workers=1, device=CPU))


def on_server(storage: str, name: str, recipe: Recipe, folder: Path, count: int) -> list[float]:
    """When the search began, and when each trial ended."""
    with connect(storage, name, print) as server:
        ledger, _ = search.join(Study(folder / name), recipe, server)
        return times(run_shared(ledger, budget=count, workers=1, device=CPU, say=print))


def times(events: Iterator[Event]) -> list[float]:
    """The time at the start, and at each event that ends a trial."""
    start = time.perf_counter()
    return [start, *(time.perf_counter() for event in events if event.summary is not None)]


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
