"""What it costs to crop, flip and normalise images: ours, and torchvision in a DataLoader.

    python benchmarks/input_pipeline.py [--rounds 5] [--write]

Images of 3x32x32 in batches of 128, in processor seconds for 50,000 of them, workers counted,
beside a training step of `small-cnn` in the precision that is chosen here, with one thread.
"""

import argparse
import gc
import resource
import time
from collections.abc import Callable
from statistics import median

import torch
from measure import ratio, report, table
from torch.utils.data import DataLoader
from torchvision import transforms
from training_speed import BATCH, CPU, PADDING, Pictures, recipe_of

from cnntune.arithmetic import settle
from cnntune.augment import augment
from cnntune.build import build_model, load_data
from cnntune.data import Data
from cnntune.recipe import Recipe
from cnntune.train import Learner

PUBLISHED = 50_000  # images of CIFAR-10's training part
OURS = "cnntune, resident"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--write", action="store_true")
    asked = arguments.parse_args()
    torch.set_num_threads(1)
    recipe = recipe_of("auto")
    data = load_data(recipe, CPU)
    recipe = settle(recipe, data, CPU)
    streamed = load_data(recipe.with_values({"data.stream": True}), CPU)
    contenders: dict[str, Callable[[], None]] = {
        OURS: lambda: batches(recipe, data),
        "cnntune, streamed": lambda: batches_of_workers(recipe, streamed),
        "torchvision, no workers": lambda: loader(data, 0),
        "torchvision, two workers": lambda: loader(data, 2),
        "a training step": lambda: steps(recipe, data),
    }
    costs: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(asked.rounds + 1):
        for name, contender in contenders.items():
            before = cpu_seconds()
            contender()
            if number:
                costs[name].append((cpu_seconds() - before) * PUBLISHED / len(data.train))
    rows = [
        [
            name,
            f"{median(seconds):.2f}",
            ratio(seconds, costs[OURS]),
            f"{median(seconds) / median(costs['a training step']):.1%}",
        ]
        for name, seconds in costs.items()
    ]
    header = ("pipeline", "core s for 50,000", "times ours", "of a training step")
    report("input_pipeline", table(header, rows), write=asked.write)


def cpu_seconds() -> float:
    """Of this process and of children that have ended; workers of a DataLoader end with it."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def batches(recipe: Recipe, data: Data) -> None:
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(data.train), generator=generator)
    for inputs, labels in data.train.batches(order, BATCH):
        augment(inputs, labels, recipe.augment, data.normalise, generator)


def batches_of_workers(recipe: Recipe, data: Data) -> None:
    """The workers end with the pass, since a process is billed for its children when they end."""
    batches(recipe, data)
    vars(data.train).pop("_loader", None)
    gc.collect()


def loader(data: Data, workers: int) -> None:
    mean, std = data.normalise.mean.flatten().tolist(), data.normalise.std.flatten().tolist()
    transform = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=PADDING),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )
    pictures = Pictures(data.train, transform)
    for _ in DataLoader(pictures, BATCH, shuffle=True, num_workers=workers):
        pass


def steps(recipe: Recipe, data: Data) -> None:
    learner = Learner.of(recipe, build_model(recipe, data), CPU)
    learner.begin(1)
    inputs, labels = next(data.train.batches(torch.arange(BATCH), BATCH))
    for _ in range(len(data.train) // BATCH):
        learner.step(inputs, labels)


if __name__ == "__main__":
    main()
