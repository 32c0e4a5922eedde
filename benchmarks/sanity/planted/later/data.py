"""Data sets and splits with one bug each, written after the rules were."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from planted.parts import Pair, cut, digits, pair, patterns


class _Changed(Dataset[Any]):
    """Images and labels after a change that each access makes."""

    def __init__(self, images: Tensor, labels: Tensor, change: Any) -> None:
        self.images, self.numbers, self.change = images, labels, change

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        return self.change(self.images[index], int(self.numbers[index]))


def label_drawn_on_access(*, seed: int) -> Pair:
    """A label drawn anew each time, from a generator where an index was meant."""
    images, labels, val_images, val_labels = cut(*digits(seed))

    def change(image: Tensor, _: int) -> tuple[Tensor, int]:
        return image, int(torch.randint(10, ()))

    return _Changed(images, labels, change), _Changed(val_images, val_labels, change)


def sorted_train_labels(*, seed: int) -> Pair:
    """Training labels sorted, training images not."""
    images, labels, val_images, val_labels = cut(*digits(seed))
    return pair((images, labels.sort().values), (val_images, val_labels))


def resized_to_one_pixel(*, seed: int) -> Pair:
    """Images made smaller to one pixel, then larger again."""
    images, labels = patterns(seed)
    images = images.mean((2, 3), keepdim=True).expand_as(images).contiguous()
    images, labels, val_images, val_labels = cut(images, labels)
    return pair((images, labels), (val_images, val_labels))


def truncated_to_integers(*, seed: int) -> Pair:
    """Pixels of 0..1 cast to whole numbers: nearly all of them 0."""
    images, labels = patterns(seed)
    images, labels, val_images, val_labels = cut((0.98 * images).long().float(), labels)
    return pair((images, labels), (val_images, val_labels))


def standardised_twice(*, seed: int) -> Pair:
    """ImageNet's mean and deviation applied twice; the recipe's normalisation is off."""
    images, labels = patterns(seed)
    for _ in range(2):
        images = (images - 0.45) / 0.225
    images, labels, val_images, val_labels = cut(images, labels)
    return pair((images, labels), (val_images, val_labels))


def ten_images_repeated(*, seed: int) -> Pair:
    """An index taken modulo 10: ten training images, forty times each."""
    images, labels, val_images, val_labels = cut(*digits(seed))
    kept = torch.arange(len(images)) % 10
    return pair((images[kept], labels[kept]), (val_images, val_labels))


def some_val_copies(*, seed: int) -> Pair:
    """Three validation images in a hundred are training images."""
    images, labels, val_images, val_labels = cut(*digits(seed))
    val_images, val_labels = val_images.clone(), val_labels.clone()
    val_images[::33], val_labels[::33] = images[: len(val_images[::33])], labels[:6]
    return pair((images, labels), (val_images, val_labels))


def neighbouring_frames(*, seed: int) -> Pair:
    """Validation images are training images one pixel further: frames of one film."""
    images, labels, _, val_labels = cut(*patterns(seed))
    count = len(val_labels)
    return pair((images, labels), (images[:count].roll(1, dims=3), labels[:count]))


def val_zoomed(*, seed: int) -> Pair:
    """Validation images cut to their middle and made larger."""
    images, labels, val_images, val_labels = cut(*digits(seed))
    middle = F.interpolate(val_images[:, :, 2:6, 2:6], size=8, mode="bilinear")
    return pair((images, labels), (middle, val_labels))


def val_mirrored(*, seed: int) -> Pair:
    """Validation images mirrored, as by an augmentation that is always on."""
    images, labels, val_images, val_labels = cut(*digits(seed))
    return pair((images, labels), (val_images.flip(3), val_labels))


def val_turned(*, seed: int) -> Pair:
    """Validation images turned by a right angle: rows and columns exchanged."""
    images, labels, val_images, val_labels = cut(*digits(seed))
    return pair((images, labels), (val_images.transpose(2, 3).contiguous(), val_labels))


def val_grey(*, seed: int) -> Pair:
    """Colour images for training, grey ones in three equal channels for validation."""
    images, labels, val_images, val_labels = cut(*patterns(seed))
    tint = torch.tensor([1.0, 0.5, 0.1]).view(1, 3, 1, 1)
    grey = (tint * val_images).mean(1, keepdim=True).expand_as(val_images).contiguous()
    return pair((tint * images, labels), (grey, val_labels))


def val_labels_reversed(*, seed: int) -> Pair:
    """Validation classes counted from the end."""
    images, labels, val_images, val_labels = cut(*patterns(seed))
    return pair((images, labels), (val_images, 5 - val_labels))


def val_labels_missing(*, seed: int) -> Pair:
    """Validation labels of -1, as for images that nobody has labelled."""
    images, labels, val_images, val_labels = cut(*digits(seed))
    return pair((images, labels), (val_images, torch.full_like(val_labels, -1)))


def one_image_of_another_size(*, seed: int) -> Pair:
    """One validation image that was never resized."""
    images, labels, val_images, val_labels = cut(*digits(seed))

    def change(image: Tensor, label: int) -> tuple[Tensor, int]:
        return (F.pad(image, (1, 1)), label) if label == 7 else (image, label)

    return (
        _Changed(images, labels, lambda image, label: (image, label)),
        _Changed(val_images, val_labels, change),
    )


def swapped_halves(*, seed: int) -> Pair:
    """Two files of labels joined in the wrong order: each half has the other's labels."""
    images, labels, val_images, val_labels = cut(*digits(seed))
    half = len(labels) // 2
    return pair((images, labels.roll(half)), (val_images, val_labels))


def noise_for_images(*, seed: int) -> Pair:
    """Pixels that a wrong decoder made: noise, whatever the class."""
    images, labels = digits(seed)
    images = torch.rand(images.shape, generator=torch.Generator().manual_seed(seed))
    images, labels, val_images, val_labels = cut(images, labels)
    return pair((images, labels), (val_images, val_labels))


def val_of_another_set(*, seed: int) -> Pair:
    """Validation images of another data set with as many classes."""
    images, labels, _, _ = cut(*patterns(seed))
    _, _, val_images, val_labels = cut(*patterns(seed + 1))
    return pair((images, labels), (val_images, val_labels))


def train_darkened(*, seed: int) -> Pair:
    """Training images divided by ten, validation images not."""
    images, labels, val_images, val_labels = cut(*patterns(seed))
    return pair((images / 10, labels), (val_images, val_labels))


def every_label_zero(*, seed: int) -> Pair:
    """All labels 0, in both parts: a column that was never filled."""
    images, labels, val_images, val_labels = cut(*digits(seed))
    return pair((images, torch.zeros_like(labels)), (val_images, torch.zeros_like(val_labels)))


def label_of_255(*, seed: int) -> Pair:
    """255 for "ignore" among the labels: 256 classes are counted."""
    images, labels, val_images, val_labels = cut(*digits(seed))
    labels = labels.clone()
    labels[::40] = 255
    return pair((images, labels), (val_images, val_labels))
