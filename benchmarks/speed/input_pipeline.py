"""What it costs to crop, flip and normalise images: ours, and torchvision in a DataLoader.

    python benchmarks/speed/input_pipeline.py [--rounds 5] [--write]

Images of 3x32x32 in batches of 128, with one thread, and the workers of a `DataLoader` already
there. Processor seconds are those of all processes for 50,000 images; beside them the steps of
`small-cnn` that train on as many, in the precision that is chosen here. Last, how long an epoch of
training over streamed images waits for them.
"""

import argparse
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from measure import Cost, ratio, report, rounds, table, took
from torch.utils.data import DataLoader
from torchvision import transforms
from training_speed import BATCH, CPU, IMAGES, PADDING, Pictures, recipe_of

from cnntune.config.recipe import Recipe
from cnntune.data import Data
from cnntune.data.augment import augment
from cnntune.training.build import build_model, load_data
from cnntune.training.loop import Learner, train
from cnntune.training.precision import resolve

PUBLISHED = 50_000  # images of CIFAR-10's training part
JITTER, ERASED = 0.4, 0.5
MORE = {f"augment.{name}": JITTER for name in ("brightness", "contrast", "saturation")}
MORE["augment.erase"] = ERASED
WORKERS = {"no workers": 0, "two workers": 2}
STEPS = "a training step"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--images", type=int, default=IMAGES, help="in all, cut 3 to 1 to 1")
    arguments.add_argument("--write", action="store_true")
    asked = arguments.parse_args()
    torch.set_num_threads(1)
    recipe = recipe_of("auto", asked.images)
    data = load_data(recipe, CPU)
    recipe = resolve(recipe, data, CPU).with_values({"train.threads": 1})
    streamed = load_data(recipe.with_values({"data.stream": True}), CPU)
    contenders: dict[str, Callable[[], object]] = {STEPS: lambda: steps(recipe, data)}
    augmentations = {"crop, flip": recipe, "crop, flip, jitter, erase": recipe.with_values(MORE)}
    for title, augmented in augmentations.items():
        contenders[f"{title}: ours, resident"] = partial(batches, augmented, data)
        contenders[f"{title}: ours, streamed"] = partial(batches, augmented, streamed)
        for workers, number in WORKERS.items():
            loader = loader_of(data, number, more=title != "crop, flip")
            contenders[f"{title}: torchvision, {workers}"] = partial(exhaust, loader)
    found = rounds({name: partial(took, work) for name, work in contenders.items()}, asked.rounds)
    rows = [row(name, found, len(data.train)) for name in found]
    header = ("work", "images a second", "core s for 50,000", "times ours", "of a training step")
    waits = [waiting(recipe, streamed) for _ in range(asked.rounds + 1)][1:]
    note = f"Training waits for streamed images during {median(waits):.0%} of an epoch."
    report("input_pipeline", f"{table(header, rows)}\n\n{note}", write=asked.write)


def row(name: str, found: dict[str, list[Cost]], images: int) -> list[str]:
    costs = found[name]
    own = found.get(f"{name.partition(':')[0]}: ours, resident")
    cpus = [cost.cpu for cost in costs]
    shares = [cost.cpu / step.cpu for cost, step in zip(costs, found[STEPS], strict=True)]
    return [
        name,
        f"{images / median(cost.wall for cost in costs):,.0f}",
        f"{median(cpus) * PUBLISHED / images:.2f}",
        ratio(cpus, [cost.cpu for cost in own]) if own else "",
        f"{median(shares):.1%}",
    ]


def batches(recipe: Recipe, data: Data) -> None:
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(data.train), generator=generator)
    for inputs, labels in data.train.batches(order, BATCH):
        augment(inputs, labels, recipe.augment, data.normalise, generator)


def loader_of(data: Data, workers: int, *, more: bool) -> DataLoader[Any]:
    mean, std = data.normalise.mean.flatten().tolist(), data.normalise.std.flatten().tolist()
    moved = [transforms.RandomCrop(32, padding=PADDING), transforms.RandomHorizontalFlip()]
    coloured = [transforms.ColorJitter(JITTER, JITTER, JITTER)] if more else []
    plain = [transforms.ToTensor(), transforms.Normalize(mean, std)]
    erased = [transforms.RandomErasing(ERASED)] if more else []
    pictures = Pictures(data.train, transforms.Compose([*moved, *coloured, *plain, *erased]))
    kept = workers > 0
    return DataLoader(pictures, BATCH, shuffle=True, num_workers=workers, persistent_workers=kept)


def exhaust(loader: DataLoader[Any]) -> None:
    for _ in loader:
        pass


def steps(recipe: Recipe, data: Data) -> None:
    learner = Learner.of(recipe, build_model(recipe, data), CPU)
    learner.begin(1)
    inputs, labels = next(data.train.batches(torch.arange(BATCH), BATCH))
    for _ in range(len(data.train) // BATCH):
        learner.step(inputs, labels)


def waiting(recipe: Recipe, data: Data) -> float:
    """The share of an epoch's time, validation included, in which the loop stood still."""
    before = data.waited_seconds
    (epoch,) = train(recipe, data, CPU)
    return (data.waited_seconds - before) / epoch.seconds


if __name__ == "__main__":
    main()
