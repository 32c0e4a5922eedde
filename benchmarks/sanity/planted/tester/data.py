"""Data sets and splits with one bug each, as a tester would plant them."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset, TensorDataset

from planted.parts import Pair, cut, digits, pair, patterns


class _Wrapped(Dataset[Any]):
    """Bytes made lighter by up to 160 on access, in arithmetic of eight bits."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.numbers = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        light = torch.randint(0, 160, (1,), dtype=torch.uint8)
        return self.images[index] + light, int(self.numbers[index])


class _Scattered(Dataset[Any]):
    """The pixels of each image in a new random order on each access."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.numbers = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index]
        order = torch.randperm(image[0].numel())
        return image.flatten(1)[:, order].view_as(image), int(self.numbers[index])


def normalised_by_variance(*, seed: int) -> Pair:
    """Divided by the variance in place of the deviation; the recipe's normalisation is off."""
    images, labels = patterns(seed)
    images = (images - images.mean()) / images.var()
    train_x, train_y, val_x, val_y = cut(images, labels)
    return pair((train_x, train_y), (val_x, val_y))


def deviation_of_zero(*, seed: int) -> Pair:
    """Each pixel over its own deviation plus 1e-8; some pixels were black where it was measured."""
    images, labels = digits(seed)
    some = images[:40]
    images = (images - some.mean(0)) / (some.std(0) + 1e-8)
    train_x, train_y, val_x, val_y = cut(images, labels)
    return pair((train_x, train_y), (val_x, val_y))


def wrapped_bytes(*, seed: int) -> Pair:
    """Training bytes made lighter on access: 200 + 100 is 44."""
    train_x, train_y, val_x, val_y = cut(*patterns(seed))
    train_b, val_b = ((255 * x).round().to(torch.uint8) for x in (train_x, val_x))
    return _Wrapped(train_b, train_y), TensorDataset(val_b, val_y)


def val_brightened(*, seed: int) -> Pair:
    """Validation images lighter by 0.3, cut at white."""
    train_x, train_y, val_x, val_y = cut(*patterns(seed))
    return pair((train_x, train_y), ((val_x + 0.3).clamp(0, 1), val_y))


def train_pixels_scattered(*, seed: int) -> Pair:
    """Training pixels shuffled anew on each access: the order of the images was meant."""
    train_x, train_y, val_x, val_y = cut(*patterns(seed))
    return _Scattered(train_x, train_y), TensorDataset(val_x, val_y)


def labels_of_the_next_batch(*, seed: int) -> Pair:
    """Training labels behind by a batch of 32, as after a prefetch."""
    train_x, train_y, val_x, val_y = cut(*digits(seed))
    return pair((train_x, train_y.roll(32)), (val_x, val_y))


def labels_doubled(*, seed: int) -> Pair:
    """Labels times two: every other class is empty."""
    train_x, train_y, val_x, val_y = cut(*digits(seed))
    return pair((train_x, 2 * train_y), (val_x, 2 * val_y))


def val_letterboxed(*, seed: int) -> Pair:
    """Validation images made smaller and put into a black frame."""
    train_x, train_y, val_x, val_y = cut(*patterns(seed))
    inner = F.interpolate(val_x, size=10, mode="bilinear")
    return pair((train_x, train_y), (F.pad(inner, (3, 3, 3, 3)), val_y))


def blended_with_another(*, seed: int) -> Pair:
    """Each training image mixed half and half with another; the label stays that of the first."""
    train_x, train_y, val_x, val_y = cut(*patterns(seed))
    return pair(((train_x + train_x.roll(1, dims=0)) / 2, train_y), (val_x, val_y))


def one_image_of_each_class(*, seed: int) -> Pair:
    """Images kept in a dictionary by class, so that the last one of each is all there is."""
    train_x, train_y, val_x, val_y = cut(*digits(seed))
    last = {int(label): index for index, label in enumerate(train_y)}
    chosen = torch.tensor([last[int(label)] for label in train_y])
    return pair((train_x[chosen], train_y), (val_x, val_y))
