"""`cnntune lr-sweep` beside other libraries' finders: time, and regret of the rate they suggest.

    python benchmarks/speed/lr_finders.py [--rounds 3] [--venv .bench-venv] [--write]

A finder raises the rate in one run and reads the curve; lr-sweep tries each rate. Each round has a
seed of its own. Regret is the best validation accuracy of 10 epochs at the best rate of a
half-decade grid, minus that at the rate suggested, in points, for `small-cnn` with SGD on digits:
each a mean over the seeds; the mean and the worst over the rates suggested.
"""

import argparse
import json
from functools import cache
from pathlib import Path
from statistics import fmean, median

from contenders import CPU, ours, peers, write_images
from measure import Cost, report, run, scratch, table

from cnntune.config.recipe import Recipe
from cnntune.data import Data
from cnntune.training.build import load_data
from cnntune.training.loop import train
from cnntune.training.open_recipe import load_recipe

EPOCHS = 10
GRID = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--venv", type=Path, default=Path(".bench-venv"))
    arguments.add_argument("--write", action="store_true")
    asked = arguments.parse_args()
    others = peers(asked.venv)
    with scratch() as name:
        folder = Path(name)
        path = write_images(folder, "digits")
        recipe = load_recipe(str(path.with_suffix(".toml")), ["train.precision=float32"])
        data = load_data(recipe, CPU)
        found: dict[str, list[tuple[float, Cost]]] = {}
        for seed in range(asked.rounds):
            recipe_words = [str(path.with_suffix(".toml")), "--seed", str(seed), "--json"]
            cost = run(ours("lr-sweep", *recipe_words), cwd=folder)
            found.setdefault("cnntune lr-sweep", []).append((json.loads(cost.output)["lr"], cost))
            for library in ("lightning", "fastai"):
                if library not in others.versions:
                    continue
                cost = run(others.script("find_lr.py", library, path, seed), cwd=folder)
                for rule, lr in json.loads(cost.output.splitlines()[-1]).items():
                    found.setdefault(rule, []).append((lr, cost))

        @cache
        def accuracy(lr: float) -> float:
            return fmean(best(recipe, data, lr, seed) for seed in range(asked.rounds))

        highest = max(accuracy(lr) for lr in GRID)
        rows = []
        for rule, answers in found.items():
            regrets = [100 * (highest - accuracy(lr)) for lr, _ in answers]
            costs = [cost for _, cost in answers]
            rows.append(
                [
                    rule,
                    ", ".join(f"{lr:.2g}" for lr, _ in answers),
                    f"{fmean(regrets):.1f}",
                    f"{max(regrets):.1f}",
                    f"{median(cost.wall for cost in costs):.1f}",
                    f"{median(cost.cpu for cost in costs):.1f}",
                ]
            )
    header = ("finder", "rates", "mean regret", "worst regret", "wall s", "CPU s")
    rows += [
        [library, "not installed", *[""] * 4]
        for library in ("lightning", "fastai")
        if library not in others.versions
    ]
    report("lr_finders", f"{table(header, rows)}\n\n{others}", write=asked.write)


def best(recipe: Recipe, data: Data, lr: float, seed: int) -> float:
    """The accuracy of the best epoch; 0 where the run diverged."""
    values = {"train.lr": lr, "train.epochs": EPOCHS, "train.threads": 1, "seed": seed}
    rows = list(train(recipe.with_values(values), data, CPU))
    return 0.0 if rows[-1].diverged else max(row.val_acc for row in rows)


if __name__ == "__main__":
    main()
