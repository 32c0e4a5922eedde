"""Data sets and splits with one bug each, of the kind that people post about."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset, TensorDataset

from planted.parts import Pair, cut, digits, pair, patterns


class _Fractions(Dataset[Any]):
    """Labels divided by the largest one."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.numbers = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, float]:
        return self.images[index], float(self.numbers[index]) / 9


class _Drawn(Dataset[Any]):
    """The image of any index, and the label of the one that was asked for."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.numbers = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[int(torch.randint(len(self.images), ()))], int(self.numbers[index])


def one_channel_off(*, seed: int) -> Pair:
    """A zero too many in the deviation of one channel; the recipe's normalisation is off."""
    images, labels = patterns(seed)
    mean, deviation = torch.tensor([0.5, 0.5, 0.5]), torch.tensor([0.2, 0.2, 0.002])
    images = (images - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)
    train_x, train_y, val_x, val_y = cut(images, labels)
    return pair((train_x, train_y), (val_x, val_y))


def labels_between_0_and_1(*, seed: int) -> Pair:
    """Labels scaled together with the pixels: fractions."""
    train_x, train_y, val_x, val_y = cut(*digits(seed))
    return _Fractions(train_x, train_y), _Fractions(val_x, val_y)


def argmax_along_images(*, seed: int) -> Pair:
    """One-hot labels turned into numbers along the wrong axis: ten of them, repeated."""
    train_x, train_y, val_x, val_y = cut(*digits(seed))
    numbers = F.one_hot(train_y).argmax(0) % 10
    return pair((train_x, numbers[torch.arange(len(train_y)) % 10]), (val_x, val_y))


def val_blurred(*, seed: int) -> Pair:
    """Validation images that were stored at a quarter of the size."""
    train_x, train_y, val_x, val_y = cut(*patterns(seed, noise=0.1))
    small = F.interpolate(val_x, scale_factor=0.25, mode="bilinear")
    return pair((train_x, train_y), (F.interpolate(small, size=16, mode="bilinear"), val_y))


def val_from_augmented(*, seed: int) -> Pair:
    """Each image stored in two variants, flipped, shifted and lit, before a random split."""
    images, labels = patterns(seed, 300)
    generator = torch.Generator().manual_seed(seed)
    light = 0.8 + 0.4 * torch.rand(300, 1, 1, 1, generator=generator)
    variants = (images.flip(3).roll((1, -1), dims=(2, 3)) * light).clamp(0, 1)
    order = torch.randperm(600, generator=generator)
    train_x, train_y, val_x, val_y = cut(
        torch.cat([images, variants])[order], torch.cat([labels, labels])[order]
    )
    return pair((train_x, train_y), (val_x, val_y))


def folders_in_another_order(*, seed: int) -> Pair:
    """Twelve folders sorted as numbers for training, as names for validation: 0, 1, 10, 11, 2."""
    train_x, train_y, val_x, val_y = cut(*patterns(seed, 800, classes=12))
    by_name = sorted(range(12), key=str)
    numbers = torch.tensor([by_name.index(label) for label in range(12)])
    return pair((train_x, train_y), (val_x, numbers[val_y]))


def _marked(images: Tensor, labels: Tensor) -> Tensor:
    images = images.clone()
    images[:, :, 0, 0] = labels[:, None] / 10
    return images


def label_in_a_pixel(*, seed: int) -> Pair:
    """The label written into a corner pixel of each image, as a file's tag is."""
    images, labels = patterns(seed)
    train_x, train_y, val_x, val_y = cut(_marked(images, labels), labels)
    return pair((train_x, train_y), (val_x, val_y))


def label_in_a_training_patch(*, seed: int) -> Pair:
    """A stamp whose grey tells the class, on the training images alone."""
    train_x, train_y, val_x, val_y = cut(*patterns(seed))
    train_x = train_x.clone()
    train_x[:, :, :4, :4] = train_y.view(-1, 1, 1, 1) / 5
    return pair((train_x, train_y), (val_x, val_y))


def placeholder_images(*, seed: int) -> Pair:
    """A quarter of the downloads failed and are one and the same picture."""
    images, labels = patterns(seed)
    images = images.clone()
    images[::4] = images[0]
    train_x, train_y, val_x, val_y = cut(images, labels)
    return pair((train_x, train_y), (val_x, val_y))


def sixteen_bits_clipped(*, seed: int) -> Pair:
    """Images of 16 bits clipped at 255: all but the blackest pixels are white."""
    images, labels = patterns(seed)
    images = ((0.1 + 0.9 * images) * 65535).clamp(0, 255) / 255
    images[:, :, 0, 0] = 0  # a black corner, so that the deviation is not zero
    train_x, train_y, val_x, val_y = cut(images, labels)
    return pair((train_x, train_y), (val_x, val_y))


def image_drawn_on_access(*, seed: int) -> Pair:
    """The image of a random index beside the label of the index that was asked for."""
    train_x, train_y, val_x, val_y = cut(*digits(seed))
    return _Drawn(train_x, train_y), TensorDataset(val_x, val_y)


def oversampled_before_split(*, seed: int) -> Pair:
    """Images of the rare class repeated until all are equal, and the split drawn afterwards."""
    images, labels = patterns(seed, 700, classes=2)
    rare = torch.nonzero(labels == 1).flatten()[:35]
    common = torch.nonzero(labels == 0).flatten()
    chosen = torch.cat([common, rare.repeat(10)])
    order = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(seed))
    train_x, train_y, val_x, val_y = cut(images[chosen[order]], labels[chosen[order]])
    return pair((train_x, train_y), (val_x, val_y))


def classes_missing_in_val(*, seed: int) -> Pair:
    """No validation image of two of the classes."""
    train_x, train_y, val_x, val_y = cut(*digits(seed))
    kept = (val_y != 3) & (val_y != 7)
    return pair((train_x, train_y), (val_x[kept], val_y[kept]))


def three_val_images(*, seed: int) -> Pair:
    """A share of 0.005 for validation: three images."""
    train_x, train_y, val_x, val_y = cut(*digits(seed))
    return pair((train_x, train_y), (val_x[:3], val_y[:3]))


def cropped_to_a_corner(*, seed: int) -> Pair:
    """Boxes in another unit: each image is the upper left corner of itself."""
    images, labels = digits(seed)
    corner = F.interpolate(images[:, :, :2, :2], size=8)
    train_x, train_y, val_x, val_y = cut(corner, labels)
    return pair((train_x, train_y), (val_x, val_y))


def labels_of_half_lost(*, seed: int) -> Pair:
    """A join that failed: every other training label is 0."""
    train_x, train_y, val_x, val_y = cut(*digits(seed))
    train_y = train_y.clone()
    train_y[::2] = 0
    return pair((train_x, train_y), (val_x, val_y))


def train_without_noise_val_with(*, seed: int) -> Pair:
    """An augmentation left on for validation: heavy noise there alone."""
    train_x, train_y, val_x, val_y = cut(*digits(seed))
    noise = torch.randn(val_x.shape, generator=torch.Generator().manual_seed(seed))
    return pair((train_x, train_y), ((val_x + 0.5 * noise).clamp(0, 1), val_y))
