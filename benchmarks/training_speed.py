"""An epoch of cnntune's training beside a bare loop of the same arithmetic, and a naive one.

    python benchmarks/training_speed.py [--rounds 5] [--write]

`small-cnn` on images of 3x32x32, batches of 128, crop and flip, with the validation and the look
at 1,000 training images that each epoch ends with. `tuned` is what a careful user writes: images
resident as bytes, augmented in batches, channels-last, the same precision. `naive` is float32 in
PyTorch's own order, with torchvision's transforms image by image in a `DataLoader` of two
workers. The tuned comparison has one thread and counts processor time; the naive one has all
cores and counts the clock.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from measure import ratio, report, table
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from cnntune.arithmetic import settle
from cnntune.build import build_model, load_data
from cnntune.data import Data
from cnntune.data.parts import ResidentPart
from cnntune.device import cores
from cnntune.recipe import Recipe, parse
from cnntune.train import CLEAN_IMAGES, train

CPU = torch.device("cpu")
BATCH, PADDING = 128, 4
IMAGES = 4300  # in all: 2,580 to train on, 860 to validate
MOMENTUM, LR, WEIGHT_DECAY = 0.9, 0.05, 1e-4


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--write", action="store_true")
    asked = arguments.parse_args()
    rows = []
    for precision in ("float32", "auto"):
        recipe = recipe_of(precision)
        data = load_data(recipe, CPU)
        recipe = settle(recipe, data, CPU)
        rows += [
            compare(recipe, data, tuned, "tuned", 1, time.process_time, asked.rounds),
            compare(recipe, data, naive, "naive", cores(), time.perf_counter, asked.rounds),
        ]
    header = ("precision", "threads", "beside", "ours s", "theirs s", "ratio", "accuracies")
    report("training_speed", table(header, rows), write=asked.write)


def recipe_of(precision: str) -> Recipe:
    values: dict[str, Any] = {
        "data": {"name": "shapes", "size": IMAGES},
        "augment": {"crop": PADDING, "flip": True},
        "train": {"epochs": 1, "batch_size": BATCH, "precision": precision},
    }
    return parse(values, file="benchmark")


def compare(
    recipe: Recipe,
    data: Data,
    other: Callable[[Recipe, Data], float],
    name: str,
    threads: int,
    clock: Callable[[], float],
    rounds: int,
) -> list[str]:
    """An epoch of each in turn; the first round is left out."""
    torch.set_num_threads(threads)
    recipe = recipe.with_values({"train.threads": threads})
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    accuracies: dict[str, list[float]] = {"ours": [], "theirs": []}
    for number in range(rounds + 1):
        for who, epoch in (("ours", ours), ("theirs", other)):
            start = clock()
            accuracy = epoch(recipe, data)
            if number:
                seconds[who].append(clock() - start)
                accuracies[who].append(accuracy)
    return [
        recipe.train.precision,
        str(threads),
        name,
        f"{median(seconds['ours']):.2f}",
        f"{median(seconds['theirs']):.2f}",
        ratio(seconds["theirs"], seconds["ours"]),
        f"{median(accuracies['ours']):.3f}, {median(accuracies['theirs']):.3f}",
    ]


def ours(recipe: Recipe, data: Data) -> float:
    (row,) = train(recipe, data, CPU)
    return row.val_acc


def tuned(recipe: Recipe, data: Data) -> float:
    """A bare loop over resident bytes."""
    assert isinstance(data.train, ResidentPart)
    pixels, labels = data.train.images.pixels, data.train.labels
    mean, std = data.normalise.mean, data.normalise.std
    lower = recipe.train.precision == "bfloat16"
    model = build_model(recipe, data).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )

    def normalised(chosen: Tensor) -> Tensor:
        return ((chosen.float() / 255).contiguous(memory_format=torch.channels_last) - mean) / std

    model.train()
    for batch in torch.randperm(len(labels))[: len(labels) // BATCH * BATCH].split(BATCH):
        inputs = cropped_and_flipped(normalised(pixels[batch]))
        with torch.autocast("cpu", torch.bfloat16, enabled=lower):
            loss = F.cross_entropy(model(inputs), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=lower):
        model(normalised(pixels[:CLEAN_IMAGES]))
        assert isinstance(data.val, ResidentPart)
        logits = model(normalised(data.val.images.pixels))
    return float((logits.argmax(1) == data.val.labels).float().mean())


def cropped_and_flipped(inputs: Tensor) -> Tensor:
    count, channels, height, width = inputs.shape
    padded = F.pad(inputs, (PADDING,) * 4)
    down, right = torch.randint(0, 2 * PADDING + 1, (2, count, 1, 1, 1))
    cropped = padded[
        torch.arange(count).view(-1, 1, 1, 1),
        torch.arange(channels).view(1, -1, 1, 1),
        torch.arange(height).view(1, 1, -1, 1) + down,
        torch.arange(width).view(1, 1, 1, -1) + right,
    ]
    flipped = torch.where(torch.rand(count, 1, 1, 1) < 0.5, cropped.flip(3), cropped)
    return flipped.contiguous(memory_format=torch.channels_last)


def naive(recipe: Recipe, data: Data) -> float:
    """What tutorials show: image by image in a DataLoader, float32."""
    mean, std = data.normalise.mean.flatten().tolist(), data.normalise.std.flatten().tolist()
    plain = [transforms.ToTensor(), transforms.Normalize(mean, std)]
    random = [transforms.RandomCrop(32, padding=PADDING), transforms.RandomHorizontalFlip()]
    batches = DataLoader(
        Pictures(data.train, transforms.Compose([*random, *plain])),
        BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=2,
    )
    held_out = DataLoader(Pictures(data.val, transforms.Compose(plain)), BATCH, num_workers=2)
    model = build_model(recipe, data)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    model.train()
    for inputs, labels in batches:
        loss = F.cross_entropy(model(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return accuracy_of(model, held_out, len(data.val))


@torch.no_grad()
def accuracy_of(model: nn.Module, batches: Any, images: int) -> float:
    model.eval()
    return sum(float((model(x).argmax(1) == y).sum()) for x, y in batches) / images


class Pictures(Dataset[Any]):
    """Images as torchvision's data sets give them."""

    def __init__(self, part: Any, transform: Any) -> None:
        self.pixels = part.images.pixels.permute(0, 2, 3, 1).numpy()
        self.labels, self.transform = part.labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), int(self.labels[index])


if __name__ == "__main__":
    main()
