"""Data sets and splits with one bug each; the docstring names the bug."""

import torch
from torch import Tensor

from planted.parts import Pair, cut, digits, pair, patterns

# Images and labels.


def shuffled_labels(*, seed: int) -> Pair:
    """Labels in random order: images and labels were shuffled apart."""
    images, labels = digits(seed)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    images, labels, val_images, val_labels = cut(images, labels[order])
    return pair((images, labels), (val_images, val_labels))


def labels_of_the_next_image(*, seed: int) -> Pair:
    """A header line counted as data: each image has its neighbour's label."""
    images, labels = patterns(seed)
    images, labels, val_images, val_labels = cut(images, labels.roll(1))
    return pair((images, labels), (val_images, val_labels))


def labels_by_index(*, seed: int) -> Pair:
    """The image's index modulo 10 in place of its class."""
    images, labels = digits(seed)
    images, labels, val_images, val_labels = cut(images, torch.arange(len(images)) % 10)
    return pair((images, labels), (val_images, val_labels))


def most_labels_random(*, seed: int) -> Pair:
    """Training labels shuffled among three quarters of the images."""
    images, labels, val_images, val_labels = cut(*digits(seed))
    count = 3 * len(labels) // 4
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    labels = torch.cat([labels[:count][order], labels[count:]])
    return pair((images, labels), (val_images, val_labels))


def train_of_one_class(*, seed: int) -> Pair:
    """Every training image has the label 3: a comparison that is always true."""
    images, labels, val_images, val_labels = cut(*digits(seed))
    return pair((images, torch.full_like(labels, 3)), (val_images, val_labels))


def labels_from_one(*, seed: int) -> Pair:
    """Labels counted from 1: there is a class 0 without images."""
    images, labels, val_images, val_labels = cut(*digits(seed))
    return pair((images, labels + 1), (val_images, val_labels + 1))


def labels_out_of_range(*, seed: int) -> Pair:
    """A label of -1 for "unknown" left in."""
    images, labels, val_images, val_labels = cut(*digits(seed))
    labels = labels.clone()
    labels[::50] = -1
    return pair((images, labels), (val_images, val_labels))


def contradicting_labels(*, seed: int) -> Pair:
    """Each image is there twice, with two labels: a table joined on the wrong key."""
    images, labels, val_images, val_labels = cut(*digits(seed))
    return pair(
        (torch.cat([images, images]), torch.cat([labels, (labels + 3) % 10])),
        (val_images, val_labels),
    )


def blank_images(*, seed: int) -> Pair:
    """All images black: the decoder failed and nobody looked."""
    images, labels, val_images, val_labels = cut(*digits(seed))
    return pair((torch.zeros_like(images), labels), (torch.zeros_like(val_images), val_labels))


def same_image(*, seed: int) -> Pair:
    """Every image is the first one: a loop variable that is never used."""
    images, labels, val_images, val_labels = cut(*patterns(seed))
    return pair(
        (images[:1].repeat(len(images), 1, 1, 1), labels),
        (images[:1].repeat(len(val_images), 1, 1, 1), val_labels),
    )


def mostly_blank_images(*, seed: int) -> Pair:
    """Nine of ten images black: files that were missing were filled with zeros."""
    images, labels, val_images, val_labels = cut(*patterns(seed))
    keep = (torch.arange(len(images)) % 10 == 0)[:, None, None, None]
    return pair((images * keep, labels), (val_images, val_labels))


def nan_pixels(*, seed: int) -> Pair:
    """NaN in some pixels: a division by a range of zero."""
    images, labels, val_images, val_labels = cut(*patterns(seed))
    images = images.clone()
    images[3::20, :, 2, 2] = float("nan")
    return pair((images, labels), (val_images, val_labels))


def one_infinite_pixel(*, seed: int) -> Pair:
    """A single infinite pixel in a single training image."""
    images, labels, val_images, val_labels = cut(*patterns(seed))
    images = images.clone()
    images[7, 0, 0, 0] = float("inf")
    return pair((images, labels), (val_images, val_labels))


def outlier_pixels(*, seed: int) -> Pair:
    """A few sentinel values of -99999 that mean "no data"."""
    images, labels, val_images, val_labels = cut(*patterns(seed))
    images = images.clone()
    images[5::60, 0, :2, :2] = -99999.0
    return pair((images, labels), (val_images, val_labels))


def bytes_as_floats(*, seed: int) -> Pair:
    """Floats of 0..255; the recipe has normalisation off."""
    images, labels, val_images, val_labels = cut(*patterns(seed))
    return pair((255 * images, labels), (255 * val_images, val_labels))


def scaled_twice(*, seed: int) -> Pair:
    """Divided by 255 twice: all pixels below 0.004; the recipe has normalisation off."""
    images, labels, val_images, val_labels = cut(*digits(seed))
    return pair((images / 255, labels), (val_images / 255, val_labels))


def constant_channel(*, seed: int) -> Pair:
    """A fourth channel, alpha, that is 1 everywhere."""
    images, labels = patterns(seed)
    images = torch.cat([images, torch.ones_like(images[:, :1])], dim=1)
    images, labels, val_images, val_labels = cut(images, labels)
    return pair((images, labels), (val_images, val_labels))


def rows_as_channels(*, seed: int) -> Pair:
    """Height, width, channels given as channels, height, width: shape [16, 16, 3]."""
    images, labels = patterns(seed)
    images, labels, val_images, val_labels = cut(images.permute(0, 2, 3, 1).contiguous(), labels)
    return pair((images, labels), (val_images, val_labels))


def viewed_not_permuted(*, seed: int) -> Pair:
    """HWC memory viewed as [C, H, W]: colours and places scrambled."""
    images, labels = patterns(seed, side=32)
    memory = images.permute(0, 2, 3, 1).contiguous()
    images, labels, val_images, val_labels = cut(memory.view(images.shape), labels)
    return pair((images, labels), (val_images, val_labels))


# The split.


def shuffled_val_pixels(*, seed: int) -> Pair:
    """Validation pixels in another order than training pixels."""
    images, labels, val_images, val_labels = cut(*digits(seed))
    order = torch.randperm(64, generator=torch.Generator().manual_seed(seed))
    scrambled = val_images.flatten(1)[:, order].view_as(val_images)
    return pair((images, labels), (scrambled, val_labels))


def val_in_bytes(*, seed: int) -> Pair:
    """Training pixels 0..1, validation pixels 0..255."""
    images, labels, val_images, val_labels = cut(*digits(seed))
    return pair((images, labels), (255 * val_images, val_labels))


def val_standardised_alone(*, seed: int) -> Pair:
    """Validation images standardised, training images not."""
    images, labels, val_images, val_labels = cut(*patterns(seed))
    val_images = (val_images - val_images.mean()) / val_images.std()
    return pair((images, labels), (val_images, val_labels))


def val_inverted(*, seed: int) -> Pair:
    """Black on white for validation, white on black for training."""
    images, labels, val_images, val_labels = cut(*digits(seed))
    return pair((images, labels), (1 - val_images, val_labels))


def val_channels_swapped(*, seed: int) -> Pair:
    """Validation images in the order blue, green, red."""
    images, labels, val_images, val_labels = cut(*patterns(seed))
    tint = torch.tensor([1.0, 0.7, 0.3]).view(1, 3, 1, 1)
    return pair((tint * images, labels), ((tint * val_images).flip(1), val_labels))


def val_upside_down(*, seed: int) -> Pair:
    """Validation images read by a library that puts the origin at the bottom."""
    images, labels, val_images, val_labels = cut(*digits(seed))
    return pair((images, labels), (val_images.flip(2), val_labels))


def val_overlaps_train(*, seed: int) -> Pair:
    """Half of the validation images are training images: two independent draws."""
    images, labels, val_images, val_labels = cut(*digits(seed))
    half = len(val_images) // 2
    return pair(
        (images, labels),
        (
            torch.cat([images[:half], val_images[half:]]),
            torch.cat([labels[:half], val_labels[half:]]),
        ),
    )


def val_is_train(*, seed: int) -> Pair:
    """The training part used for validation too."""
    images, labels, _, _ = cut(*patterns(seed))
    return pair((images, labels), (images, labels))


def _twins(kind: str, seed: int) -> Pair:
    """Images copied and changed before the split, as augmentation on disk does."""
    images, labels, _, val_labels = cut(*patterns(seed))
    copies, copied = images[: len(val_labels)], labels[: len(val_labels)]
    generator = torch.Generator().manual_seed(seed)
    changed: dict[str, Tensor] = {
        "noise": (copies + 0.01 * torch.randn(copies.shape, generator=generator)).clamp(0, 1),
        "flip": copies.flip(3),
        "light": (1.1 * copies).clamp(0, 1),
    }
    return pair((images, labels), (changed[kind], copied))


def noisy_twins(*, seed: int) -> Pair:
    """Validation images are training images with a little noise, as saved again as JPEG."""
    return _twins("noise", seed)


def flipped_twins(*, seed: int) -> Pair:
    """Validation images are training images mirrored: augmented before the split."""
    return _twins("flip", seed)


def brighter_twins(*, seed: int) -> Pair:
    """Validation images are training images made brighter: augmented before the split."""
    return _twins("light", seed)


def class_missing_in_train(*, seed: int) -> Pair:
    """Two classes are in the validation part only."""
    images, labels, val_images, val_labels = cut(*digits(seed))
    kept = labels < 8
    return pair((images[kept], labels[kept]), (val_images, val_labels))


def sorted_split(*, seed: int) -> Pair:
    """Sorted by class, then cut: the last classes are in the validation part alone."""
    images, labels = digits(seed)
    order = labels.sort(stable=True).indices
    images, labels, val_images, val_labels = cut(images[order], labels[order])
    return pair((images, labels), (val_images, val_labels))


def val_classes_permuted(*, seed: int) -> Pair:
    """Class names numbered in another order for the validation folder."""
    images, labels, val_images, val_labels = cut(*digits(seed))
    order = torch.randperm(10, generator=torch.Generator().manual_seed(seed))
    return pair((images, labels), (val_images, order[val_labels]))


def val_classes_shifted(*, seed: int) -> Pair:
    """Validation labels off by one: a folder too many on one side."""
    images, labels, val_images, val_labels = cut(*patterns(seed))
    return pair((images, labels), (val_images, (val_labels + 1) % 6))


def val_classes_swapped(*, seed: int) -> Pair:
    """Two pairs of classes swapped in the validation part."""
    images, labels, val_images, val_labels = cut(*digits(seed))
    mapping = torch.tensor([1, 0, 2, 3, 4, 5, 6, 7, 9, 8])
    return pair((images, labels), (val_images, mapping[val_labels]))


def val_labels_shuffled(*, seed: int) -> Pair:
    """Validation labels read in another order than the images."""
    images, labels, val_images, val_labels = cut(*digits(seed))
    order = torch.randperm(len(val_labels), generator=torch.Generator().manual_seed(seed))
    return pair((images, labels), (val_images, val_labels[order]))


def val_of_one_class(*, seed: int) -> Pair:
    """Ten validation images, all of one class."""
    images, labels, val_images, val_labels = cut(*digits(seed))
    kept = torch.nonzero(val_labels == 4).flatten()[:10]
    return pair((images, labels), (val_images[kept], val_labels[kept]))


def val_labels_forgotten(*, seed: int) -> Pair:
    """Validation labels that are all 0, as where a table lacks them."""
    images, labels, val_images, val_labels = cut(*digits(seed))
    return pair((images, labels), (val_images, torch.zeros_like(val_labels)))


def empty_val(*, seed: int) -> Pair:
    """No validation image: a filter that nothing passes."""
    images, labels, val_images, val_labels = cut(*digits(seed))
    return pair((images, labels), (val_images[:0], val_labels[:0]))
