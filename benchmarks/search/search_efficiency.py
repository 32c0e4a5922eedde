"""Epochs until plain random search's final best is reached, for each way of pruning.

    python benchmarks/search/search_efficiency.py

First a table of whole runs is trained (`--runs`, resumable): random configurations of a recipe, 27
epochs each, on digits and on shapes. Then each policy is replayed on the table many times, in an
order drawn anew, with the very functions that decide in a search (`cnntune.study.pruning`). Plain
random search trains 50 trials whole; its best validation accuracy is the goal, and counted are the
epochs until a policy has a trial that reaches it. A policy that has not reached it after 50 trials
goes on with further ones. `lr-sweep first` draws only rates in the range that `cnntune lr-sweep`
found, and pays for the sweep with the epochs that its iterations come to.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from cnntune.config.space import Pruner
from cnntune.runs.study import Study
from cnntune.study.ledger import Ledger
from cnntune.study.pruning import PRUNE, Progress, brackets, targets
from cnntune.training.build import load_data
from cnntune.training.loop import steps_per_epoch
from cnntune.training.open_recipe import load_recipe

EPOCHS = 27
BUDGET = 50  # trials of the plain search
CONFIRMING_RUNS = 4  # of a sweep: the best two rates with two further seeds; not among its curves
TASKS = {  # recipe, trials of the table, settings that make a validation image count for little
    "digits": (
        300,
        ["data.val_fraction=0.6", "data.test_fraction=0.0", 'train.schedule="cosine"'],
    ),
    "shapes": (
        200,
        ["data.size=1000", "model.width=16", "space.model.width={ choice = [8, 16, 32] }"],
    ),
}


@dataclass(frozen=True)
class Configuration:
    """One row of the table: its learning rate and its curve."""

    lr: float
    accs: list[float]
    complete: bool  # or diverged


@dataclass(frozen=True)
class Sweep:
    """What `lr-sweep` found for the task, and what it cost in epochs."""

    low: float
    high: float
    epochs: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=400)
    parser.add_argument("--runs", type=Path, default=Path("runs/search-efficiency"))
    parser.add_argument("--workers", default="auto")
    options = parser.parse_args()
    rows = []
    for task in TASKS:
        table = table_of(task, options.runs, options.workers)
        sweep = sweep_of(task, options.runs)
        rows += compare(task, table, sweep, options.repetitions)
    print(pd.DataFrame(rows).to_string(index=False))


def command(task: str, verb: str, runs: Path, *words: str) -> None:
    """Run a command of ours on the task."""
    sets = [word for text in TASKS[task][1] for word in ("--set", text)]
    common = ["--runs", str(runs), "--quiet", *sets]
    subprocess.run(
        [sys.executable, "-m", "cnntune", verb, task, *common, *words],
        stdout=subprocess.DEVNULL,
        check=True,
    )


def table_of(task: str, runs: Path, workers: str) -> list[Configuration]:
    """The whole runs of random configurations; those that are there are not trained again."""
    size = str(TASKS[task][0])
    folder = runs / "tables"
    command(task, "search", folder, "--epochs", str(EPOCHS), "--budget", size, "--workers", workers)
    return [
        Configuration(
            float(trial.values["train.lr"]),
            [row.val_acc for row in trial.run.rows() if not row.diverged],
            trial.status == "complete",
        )
        for trial in Ledger.open(Study(folder / task)).trials()
        if trial.status in ("complete", "diverged")
    ]


def sweep_of(task: str, runs: Path) -> Sweep:
    """The range that a sweep of its own study found."""
    folder = runs / "sweeps"
    if not (folder / task / "lr-sweep.json").exists():
        command(task, "lr-sweep", folder)
    found = json.loads((folder / task / "lr-sweep.json").read_text())
    recipe = load_recipe(task, TASKS[task][1])
    images = len(load_data(recipe, torch.device("cpu")).train)
    iterations = sum(len(curve["losses"]) for curve in found["curves"])
    iterations += CONFIRMING_RUNS * len(found["curves"][0]["losses"])
    low, high = found["range"]
    return Sweep(low, high, iterations / steps_per_epoch(images, recipe.train.batch_size))


def compare(
    task: str, table: Sequence[Configuration], sweep: Sweep, repetitions: int
) -> list[dict[str, object]]:
    """A row for each policy: mean epochs to the goal, and how many times fewer than random."""
    rng = random.Random(0)
    orders = [rng.sample(table, len(table)) for _ in range(repetitions)]
    goals = [max(best(c) for c in order[:BUDGET]) for order in orders]

    def swept(order: Sequence[Configuration]) -> list[Configuration]:
        return [c for c in order if sweep.low <= c.lr <= sweep.high]

    policies: dict[str, Callable[[Sequence[Configuration], float], float]] = {
        "random": lambda order, goal: epochs_to(goal, order, "none"),
        "median": lambda order, goal: epochs_to(goal, order, "median"),
        "hyperband": lambda order, goal: epochs_to(goal, order, "hyperband"),
        "halving": lambda order, goal: epochs_to(goal, order, "halving"),
        "lr-sweep first, random": lambda order, goal: (
            sweep.epochs + epochs_to(goal, swept(order), "none")
        ),
        "lr-sweep first, halving": lambda order, goal: (
            sweep.epochs + epochs_to(goal, swept(order), "halving")
        ),
    }
    costs = {
        name: [policy(order, goal) for order, goal in zip(orders, goals, strict=True)]
        for name, policy in policies.items()
    }
    plain = statistics.fmean(costs["random"])
    return [
        {
            "task": task,
            "policy": name,
            "epochs (mean)": round(statistics.fmean(cost)),
            "epochs (median)": round(statistics.median(cost)),
            "times fewer (means)": round(plain / statistics.fmean(cost), 2),
        }
        for name, cost in costs.items()
    ]


def best(configuration: Configuration) -> float:
    """What a whole run is kept for; a diverged one is never the best."""
    return max(configuration.accs) if configuration.complete else 0.0


def epochs_to(goal: float, order: Sequence[Configuration], pruner: Pruner) -> int:
    """Epochs trained until a trial reaches the goal, or until the table is used up."""
    spent, first = 0, 0
    trials: dict[int, Progress] = {}
    while first < len(order):
        for bracket in brackets(pruner, EPOCHS, first=first, count=min(BUDGET, len(order) - first)):
            trials |= {number: Progress(number) for number in bracket.numbers}
            # The median rule looks at trials one by one, as they run one after the other.
            waves = [[n] for n in bracket.numbers] if pruner == "median" else [bracket.numbers]
            for wave in waves:
                while any(not trials[number].ended for number in wave):
                    decided = targets(pruner, EPOCHS, [bracket], trials)
                    for number, until in decided.items():
                        if number not in wave:
                            continue
                        trial = order[number]
                        done = len(trials[number].accs)
                        new = trial.accs[done:until]
                        hit = [k for k, acc in enumerate(new) if trial.complete and acc >= goal]
                        if hit:
                            return spent + hit[0] + 1
                        spent += len(new)
                        trials[number] = advanced(trial, trials[number], until)
        first += BUDGET
    return spent


def advanced(trial: Configuration, now: Progress, until: int) -> Progress:
    """How the trial stands after `until` epochs, or after it was pruned where it stood."""
    if until == PRUNE:
        return Progress(now.number, now.accs, ended=True)
    diverged = not trial.complete and until > len(trial.accs)
    over = until >= EPOCHS or diverged
    return Progress(now.number, trial.accs[:until], ended=over, ranks=not diverged)


if __name__ == "__main__":
    main()
