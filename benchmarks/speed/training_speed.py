"""An epoch of cnntune's training beside a bare loop of the same arithmetic, and a naive one.

    python benchmarks/speed/training_speed.py [--rounds 5] [--write]

`small-cnn` on images of 3x32x32, batches of 128, crop and flip, with the validation and the look
at 1,000 training images that each epoch ends with. `tuned` is what a careful user writes: images
resident as bytes, augmented in batches, channels-last, the same precision. `naive` is float32 in
PyTorch's own order, with torchvision's transforms image by image in a `DataLoader` of two
workers. With one thread and with all cores; each round has a seed of its own.
"""

import argparse
from collections.abc import Callable
from itertools import count
from typing import Any, TypeAlias

import torch
from measure import COMPARED, Cost, compared, report, rounds, spread, table, took
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from cnntune.config.recipe import Recipe, parse
from cnntune.data import Data
from cnntune.data.parts import ResidentPart
from cnntune.machine.cpus import cores
from cnntune.training.build import build_model, load_data
from cnntune.training.loop import CLEAN_IMAGES, train
from cnntune.training.precision import autocast, resolve

CPU = torch.device("cpu")
BATCH, PADDING = 128, 4
IMAGES = 10_750  # in all: 6,450 to train on, 2,150 to validate
EVAL_BATCH = 1024

Epoch: TypeAlias = Callable[[Recipe, Data], float]  # trains one, and tells the accuracy


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--images", type=int, default=IMAGES, help="in all, cut 3 to 1 to 1")
    arguments.add_argument("--write", action="store_true")
    asked = arguments.parse_args()
    rows = []
    for threads in sorted({1, cores()}):
        rows += compare(threads, asked.images, asked.rounds)
    header = ("threads", "precision of ours", "contender", *COMPARED, "val acc")
    report("training_speed", table(header, rows), write=asked.write)


def recipe_of(precision: str, images: int = IMAGES) -> Recipe:
    values: dict[str, Any] = {
        "data": {"name": "shapes", "size": images},
        "augment": {"crop": PADDING, "flip": True},
        "train": {"epochs": 1, "batch_size": BATCH, "precision": precision},
    }
    return parse(values, file="benchmark")


def compare(threads: int, images: int, times: int) -> list[list[str]]:
    """Rows for float32 and for the precision that is chosen here, where that is another one."""
    torch.set_num_threads(threads)
    recipe = recipe_of("float32", images).with_values({"train.threads": threads})
    data = load_data(recipe, CPU)
    chosen = resolve(recipe.with_values({"train.precision": "auto"}), data, CPU)
    recipes = {settled.train.precision: settled for settled in (recipe, chosen)}
    contenders = {"naive": turns(naive, recipe, data)}
    for precision, settled in recipes.items():
        contenders[f"ours, {precision}"] = turns(ours, settled, data)
        contenders[f"tuned, {precision}"] = turns(tuned, settled, data)
    found = rounds(contenders, times)
    rows = []
    for precision in recipes:
        own = f"ours, {precision}"
        for name in (own, f"tuned, {precision}", "naive"):
            accuracy = spread([float(cost.output) for cost in found[name]])
            who = name.partition(",")[0]
            rows.append(
                [str(threads), precision, who, *compared(found[name], found[own]), accuracy]
            )
    return rows


def turns(epoch: Epoch, recipe: Recipe, data: Data) -> Callable[[], Cost]:
    """An epoch at each call, each time from another seed."""
    seeds = count()

    def turn() -> Cost:
        seed = next(seeds)
        torch.manual_seed(seed)
        return took(lambda: epoch(recipe.with_values({"seed": seed}), data))

    return turn


def ours(recipe: Recipe, data: Data) -> float:
    (row,) = train(recipe, data, CPU)
    return row.val_acc


def tuned(recipe: Recipe, data: Data) -> float:
    """A bare loop over resident bytes; the accuracy after the recipe's epochs."""
    assert isinstance(data.train, ResidentPart)
    assert isinstance(data.val, ResidentPart)
    pixels, labels = data.train.images.pixels, data.train.images.labels
    device, settings = pixels.device, recipe.train
    padded = F.pad(pixels, (PADDING,) * 4)
    model = build_model(recipe, data).to(device).to(memory_format=torch.channels_last)
    optimizer = optimizer_of(model, recipe)
    size = settings.batch_size

    def normalised(chosen: Tensor) -> Tensor:
        scaled = chosen.float().div_(255).contiguous(memory_format=torch.channels_last)
        return scaled.sub_(data.normalise.mean).div_(data.normalise.std)

    for _ in range(settings.epochs):
        model.train()
        order = torch.randperm(len(labels), device=device)
        for batch in order[: len(labels) // size * size].split(size):
            inputs = normalised(cropped_and_flipped(padded, batch))
            with autocast(settings.precision, device):
                loss = F.cross_entropy(model(inputs), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad(), autocast(settings.precision, device):
            model(normalised(pixels[:CLEAN_IMAGES]))
            right = 0
            for part in torch.arange(len(data.val), device=device).split(EVAL_BATCH):
                held_out = data.val.images.take(part)
                right += (model(normalised(held_out.pixels)).argmax(1) == held_out.labels).sum()
    return float(right) / len(data.val)


def optimizer_of(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    settings = recipe.train
    return torch.optim.SGD(
        model.parameters(),
        lr=settings.lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )


def cropped_and_flipped(padded: Tensor, batch: Tensor) -> Tensor:
    """Images at `batch` out of all padded ones: one gather, before bytes become floats."""
    count, device = len(batch), padded.device
    side = padded.shape[-1] - 2 * PADDING
    top, left = torch.randint(2 * PADDING + 1, (2, count, 1, 1), device=device)
    places = torch.arange(side, device=device)
    mirrored = torch.rand(count, 1, 1, device=device) < 0.5
    across = torch.where(mirrored, places.flip(0), places)
    rows, columns = places.view(1, -1, 1) + top, across + left
    return padded[batch.view(-1, 1, 1), :, rows, columns].permute(0, 3, 1, 2)


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
    optimizer = optimizer_of(model, recipe)
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
