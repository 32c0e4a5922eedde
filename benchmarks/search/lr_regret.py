"""What following `lr-sweep` costs: validation accuracy against the best rate of a fine grid.

For each of 3 models x 2 optimizers x 2 data sets: train 10 epochs with cosine decay at each rate of
a half-decade grid, 3 seeds each; run the sweep with 3 seeds. Regret is the accuracy of the best
rate minus that of the rate picked, each a mean over the seeds of the training, in points. The plain
sweep of the lecture, five rates and the lowest loss at the end, stands beside ours.

    python benchmarks/search/lr_regret.py [--workers 2] [--runs runs/lr-regret]

Finished runs are kept and not trained again.
"""

import argparse
import dataclasses
import itertools
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from cnntune.config.recipe import Recipe
from cnntune.data import Data
from cnntune.runs.files import read_json, write_json
from cnntune.runs.run import Run
from cnntune.steps import lr_sweep, sweep_recipe
from cnntune.training.build import load_data
from cnntune.training.open_recipe import load_recipe
from cnntune.workers.pool import Job, in_order, run_jobs

MODELS = {
    "small-cnn": ("model.name=small-cnn", "model.width=16"),
    "small-cnn, no norm": ("model.name=small-cnn", "model.width=16", "model.norm=none"),
    "small-resnet": ("model.name=small-resnet", "model.width=8", "model.depth=1"),
}
OPTIMIZERS = ("sgd", "adamw")
DATA = {
    "digits": ("data.name=digits", "data.val_fraction=0.4", "augment.crop=1"),
    "shapes": ("data.name=shapes", "data.size=4000", "data.val_fraction=0.4", "augment.crop=0"),
}
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
SEEDS = (0, 1, 2)
CPU = torch.device("cpu")
PLAIN = lr_sweep.GRID  # the lecture's rates, without neighbours, extension or further seeds


def recipe_of(model: str, optimizer: str, data: str, seed: int) -> Recipe:
    overrides = [
        *DATA[data],
        "data.test_fraction=0.0",
        *MODELS[model],
        f"train.optimizer={optimizer}",
        "train.batch_size=64",
        "train.epochs=10",
        "train.schedule=cosine",
        "train.threads=1",
        "train.precision=float32",
        f"seed={seed}",
    ]
    return load_recipe(str(Path(__file__).with_name("lr_regret.toml")), overrides)


def accuracy_of(runs: Path, cell: tuple[str, str, str], lr: float) -> float:
    """Mean over seeds of the best epoch's accuracy, in points; a run that diverged counts as 0."""
    summaries = [Run(folder(runs, cell, lr, seed)).summary() or {} for seed in SEEDS]
    return 100 * statistics.fmean(summary.get("val_acc", 0.0) for summary in summaries)


def folder(runs: Path, cell: tuple[str, str, str], lr: float, seed: int) -> Path:
    return runs / "-".join(cell).replace(", ", "-").replace(" ", "-") / f"lr-{lr:g}-seed-{seed}"


def training_jobs(runs: Path, cell: tuple[str, str, str], rates: set[float]) -> Iterator[Job]:
    for number, (lr, seed) in enumerate(itertools.product(sorted(rates), SEEDS)):
        path = folder(runs, cell, lr, seed)
        if Run(path).summary() is None:
            yield Job(number, recipe_of(*cell, seed).with_values({"train.lr": lr}), path)


def picks(runs: Path, cell: tuple[str, str, str], seed: int, data: Data) -> dict[str, Any]:
    """The rates that our sweep and the plain one pick; kept, since sweeps take their time too."""
    path = folder(runs, cell, 0.0, seed).with_name(f"sweep-seed-{seed}.json")
    kept = read_json(path)
    if kept is None:
        curves = list(sweep_recipe.sweep(recipe_of(*cell, seed), data, CPU))
        first = [c for c in curves if c.repeat == 0 and c.iterations == lr_sweep.ITERATIONS]
        plain = [curve for curve in first if curve.lr in PLAIN]
        picked = lr_sweep.judge(curves).lr
        kept = {"ours": picked, "plain": min(plain, key=lambda curve: curve.last).lr}
        kept["curves"] = [dataclasses.asdict(curve) for curve in curves]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, kept)
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/lr-regret"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for data_name in DATA:
        data = load_data(recipe_of("small-cnn", "sgd", data_name, 0), CPU)
        for cell in itertools.product(MODELS, OPTIMIZERS, (data_name,)):
            chosen = [picks(options.runs, cell, seed, data) for seed in SEEDS]
            rates = set(RATES).union(*((pick["ours"], pick["plain"]) for pick in chosen))
            jobs = training_jobs(options.runs, cell, rates)
            for _ in run_jobs(in_order(jobs), workers=options.workers, devices=("cpu",)):
                pass
            accuracies = {lr: accuracy_of(options.runs, cell, lr) for lr in sorted(rates)}
            best = max(accuracies, key=lambda lr: accuracies[lr])
            rows.append(
                {
                    "data": data_name,
                    "model": cell[0],
                    "optimizer": cell[1],
                    "best rate": f"{best:g}",
                    "accuracy": accuracies[best],
                    "ours picks": ", ".join(f"{pick['ours']:g}" for pick in chosen),
                    "regret": max(accuracies[best] - accuracies[p["ours"]] for p in chosen),
                    "mean": statistics.fmean(
                        accuracies[best] - accuracies[p["ours"]] for p in chosen
                    ),
                    "plain": max(accuracies[best] - accuracies[p["plain"]] for p in chosen),
                }
            )
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    columns = list(table.columns)
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        cells = [f"{x:.1f}" if isinstance(x, float) else str(x) for x in row.values()]
        print("| " + " | ".join(cells) + " |")
    print(
        f"\nworst regret: ours {table['regret'].max():.1f} points"
        f" (mean {table['mean'].mean():.2f}), plain sweep {table['plain'].max():.1f}"
    )


if __name__ == "__main__":
    main()
