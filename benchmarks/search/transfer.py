"""What earlier learning is worth: few images a class, with weights from other classes or without.

A small network learns some kinds of images, and then four others, of which it gets few. Printed is
the accuracy on the test part, mean ± standard deviation over the seeds.

    python benchmarks/search/transfer.py [--seeds 5] [--per-class 10 30 100] [--data digits shapes]
"""

import argparse
import statistics
import tempfile
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch

from cnntune.config.recipe import Recipe, parse
from cnntune.config.space import Value
from cnntune.models.pretrained.weights import save_weights
from cnntune.training.build import build_model, load_data
from cnntune.training.evaluate import evaluate
from cnntune.training.loop import train

CPU = torch.device("cpu")
RATES = (0.02, 0.1, 0.5)  # the best on the validation part counts
Values = dict[str, Value]


@dataclass(frozen=True)
class Task:
    """Classes to learn first, others to learn afterwards, and the network."""

    data: str
    first: str
    then: str
    values: Values


TASKS = (
    Task("digits", "0 1 2 3 4 5", "6 7 8 9", {"model.width": 32, "model.depth": 3}),
    Task(
        "shapes",
        "circle triangle star ring",
        "square pentagon cross crescent",
        {"model.width": 16, "model.depth": 4, "data.size": 6000, "data.image_size": 16},
    ),
)
WAYS: dict[str, Values] = {
    "from scratch": {"model.weights": ""},
    "linear probe": {"train.freeze": "backbone"},
    "fine-tuned, backbone at a tenth": {},
    "fine-tuned, all at one rate": {"train.backbone_lr": 1.0},
    "fine-tuned, 0.7 of the rate a block": {"train.layer_decay": 0.7},
    "thawed block by block": {"train.freeze": "backbone", "train.unfreeze_every": 8},
}


def recipe_of(task: Task, classes: str, values: Values, seed: int) -> Recipe:
    base = parse(
        {
            "name": "transfer",
            "seed": seed,
            "data": {"name": task.data, "classes": classes.split(), "seed": seed},
            "train": {
                "epochs": 15,
                "schedule": "cosine",
                "batch_size": 64,
                "threads": 1,
                "precision": "float32",
            },
        },
        file="benchmark",
    )
    return base.with_values(task.values | values)


def learn_first(task: Task, folder: Path, seed: int) -> Path:
    """The weights of a network that knows the first classes."""
    recipe = recipe_of(task, task.first, {}, seed)
    parts = load_data(recipe, CPU)
    model = build_model(recipe, parts)
    for _ in train(recipe, parts, CPU, model=model):
        pass
    path = folder / f"{task.data}-{seed}.pt"
    mean, std = parts.normalise.mean.flatten(), parts.normalise.std.flatten()
    save_weights(model, mean, std, parts.classes, path)
    return path


def accuracy(task: Task, way: str, weights: Path, per_class: int, seed: int) -> float:
    """Of the other classes, on the test part."""
    few: Values = {"data.per_class": per_class, "train.epochs": 40, "train.batch_size": 20}
    values = {"model.weights": str(weights), **few, **WAYS[way]}
    parts = load_data(recipe_of(task, task.then, values, seed), CPU)
    assert parts.test is not None
    found = []
    for lr in RATES:
        recipe = recipe_of(task, task.then, {**values, "train.lr": lr}, seed)
        model = build_model(recipe, parts)
        rows = list(train(recipe, parts, CPU, model=model))
        found.append((rows[-1].val_acc, evaluate(model, parts.test).acc))
    return max(found)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--per-class", type=int, nargs="+", default=[10, 30, 100])
    parser.add_argument("--data", nargs="+", default=[task.data for task in TASKS])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for task in (task for task in TASKS if task.data in asked.data):
            seeds = range(asked.seeds)
            weights = [learn_first(task, Path(folder), seed) for seed in seeds]
            for per_class, way in product(asked.per_class, WAYS):
                scores = [accuracy(task, way, weights[seed], per_class, seed) for seed in seeds]
                spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
                told = f"{statistics.mean(scores):.3f} ± {spread:.3f}"
                print(f"{task.data}, {per_class} a class, {way}: {told}", flush=True)


if __name__ == "__main__":
    main()
