"""Which network `cnntune init` should propose: accuracy of each candidate after a short run.

Each candidate is trained with the settings that `init` writes, at three learning rates; the best
counts. Sets: `digits` (8x8), `shapes` (32x32 in colour), and any `.npz` of images and labels.

    python benchmarks/search/first_networks.py [--epochs 3] [--seeds 2] [--npz FILE ...]
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from cnntune.config.recipe import parse
from cnntune.steps.inspect.first_recipe import CANDIDATES, SETTINGS
from cnntune.training.build import build_model, load_data
from cnntune.training.loop import train

CPU = torch.device("cpu")
RATES = (0.02, 0.05, 0.2)
RESIDUAL = (
    {"name": "small-resnet", "width": 16, "depth": 3},
    {"name": "small-resnet", "width": 32, "depth": 2},
)
SETS: dict[str, dict[str, Any]] = {
    "digits": {"name": "digits"},
    "shapes": {"name": "shapes", "size": 4000},
}


def measured(
    data: dict[str, Any], model: dict[str, Any], lr: float, seed: int, epochs: int
) -> tuple[float, float]:
    """Validation accuracy after the last epoch, and seconds."""
    values = {
        "name": "first",
        "seed": seed,
        "data": data,
        "model": model,
        "train": {
            **SETTINGS,
            "lr": lr,
            "epochs": epochs,
            "batch_size": 64,
            "threads": 1,
            "precision": "float32",
        },
    }
    recipe = parse(values, file="benchmark")
    parts = load_data(recipe, CPU)
    start = time.perf_counter()
    rows = list(train(recipe, parts, CPU, model=build_model(recipe, parts)))
    return rows[-1].val_acc, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--npz", type=Path, nargs="*", default=[])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    sets = SETS | {path.stem: {"name": "npz", "path": str(path.resolve())} for path in asked.npz}
    for name, data in sets.items():
        for model in (*CANDIDATES[1:], *RESIDUAL):
            best: tuple[float, float] = (0.0, 0.0)
            seconds = []
            for lr in RATES:
                runs = [
                    measured(data, dict(model), lr, seed, asked.epochs)
                    for seed in range(asked.seeds)
                ]
                seconds += [took for _, took in runs]
                best = max(best, (statistics.mean(acc for acc, _ in runs), lr))
            told = f"{name:10} {' '.join(str(value) for value in model.values()):24}"
            took = statistics.median(seconds)
            print(f"{told} {best[0]:.4f} at lr {best[1]:g}, {took:.1f} s per run", flush=True)


if __name__ == "__main__":
    main()
