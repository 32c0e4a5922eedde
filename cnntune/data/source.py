"""What a data builder returns: the three sets, before they are moved to a device."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from torch.utils.data import Dataset

from cnntune.config.searchable import OTHER_IMAGES, Costly
from cnntune.errors import DataError

MIN_SIDE = 8  # pixels: that of the digits; densenet121 takes no fewer
Fraction = Annotated[
    float,
    Field(ge=0, lt=1, description="share of the images for this set, drawn per class"),
    OTHER_IMAGES,
]
Size = Annotated[int, Field(ge=1, description="number of images that are kept"), OTHER_IMAGES]
PerClass = Annotated[
    int,
    Field(ge=1, description="largest number of training images per class"),
    Costly("more training images raise the accuracy"),
]
ClassNames = Annotated[list[str], Field(description="names of the classes that are kept")]
ImagePath = Annotated[str, Field(description="where the images are"), OTHER_IMAGES]
ImageSide = Annotated[
    int,
    Field(ge=MIN_SIDE, description="side of the square images, in pixels"),
    Costly("larger images take longer to train on"),
]
Download = Annotated[bool, Field(description="fetch the files if they are missing")]

VAL_FRACTION = 0.2  # of all images; 360 of the digits, so one image is 0.28 points of accuracy
TEST_FRACTION = 0.2


@dataclass(frozen=True)
class Images:
    """One of the three sets, held in memory.

    `pixels` is uint8 or float32 `[N, C, H, W]`; `labels` is int64 `[N]`, counted from 0.
    """

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor) -> "Images":
        """The images at `indices` (int64 `[M]`), in that order."""
        return Images(self.pixels[indices], self.labels[indices])


@dataclass(frozen=True)
class Source:
    """Training, validation and test set (a map-style `Dataset` returns `(image, label)`)."""

    train: Images | Dataset[Any]
    val: Images | Dataset[Any]
    test: Images | Dataset[Any] | None
    classes: tuple[str, ...]


def stratified_split(
    labels: Tensor, fractions: tuple[float, ...], *, seed: int
) -> tuple[Tensor, ...]:
    """Split indices so that each subset has every class in proportion, up to rounding.

    `labels` is int64 `[N]`. Returns one sorted index tensor per fraction, then one with the rest.
    """
    generator = torch.Generator().manual_seed(seed)
    subsets: list[list[Tensor]] = [[] for _ in range(len(fractions) + 1)]
    for label in labels.unique():
        members = torch.nonzero(labels == label).flatten()
        members = members[torch.randperm(len(members), generator=generator)]
        start = 0
        for subset, fraction in zip(subsets, fractions, strict=False):
            stop = start + round(len(members) * fraction)
            subset.append(members[start:stop])
            start = stop
        subsets[-1].append(members[start:])
    return tuple(torch.cat(subset).sort().values for subset in subsets)


def stratified_subset(labels: Tensor, size: int, *, seed: int) -> Tensor:
    """Sorted indices of exactly `size` images, each class in proportion to within one image.

    Raises:
        DataError: where there are fewer images.
    """
    if size > len(labels):
        raise DataError(
            f"data.size: must be at most {len(labels)}, the number of images (got {size})"
        )
    generator = torch.Generator().manual_seed(seed)
    # Spread the shuffled members of each class evenly over 0 ... 1; any cut is then proportional.
    position = torch.empty(len(labels), dtype=torch.float64)
    for label in torch.unique(labels):
        members = torch.nonzero(labels == label).flatten()
        ranks = torch.randperm(len(members), generator=generator)
        position[members] = (ranks + 0.5).double() / len(members)
    return position.argsort(stable=True)[:size].sort().values


def choose_classes(
    pool: Images, names: tuple[str, ...], wanted: Sequence[str]
) -> tuple[Images, tuple[str, ...]]:
    """The images of the classes `wanted`, relabelled from 0 in that order, and their names.

    Raises:
        DataError: where a name is not in `names` or is repeated.
    """
    unknown = [name for name in wanted if name not in names]
    if unknown or len(set(wanted)) < len(wanted):
        found = unknown[0] if unknown else "a repeated name"
        raise DataError(f"data.classes: must be among {', '.join(names)} (got {found})")
    new_label = torch.full((len(names),), -1)
    new_label[[names.index(name) for name in wanted]] = torch.arange(len(wanted))
    labels = new_label[pool.labels]
    return Images(pool.pixels[labels >= 0], labels[labels >= 0]), tuple(wanted)


def few_of_each(images: Images, per_class: int, *, seed: int) -> Images:
    """At most `per_class` images of each class, drawn with `seed`, in their original order."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images), generator=generator)
    kept = [order[images.labels[order] == label][:per_class] for label in images.labels.unique()]
    return images.take(torch.cat(kept).sort().values)


def check_fractions(val_fraction: float, test_fraction: float) -> None:
    """Check that the fractions leave a training set.

    Raises:
        DataError: where they do not.
    """
    if val_fraction + test_fraction >= 1:
        raise DataError(
            "data.val_fraction + data.test_fraction: must be < 1"
            f" (got {val_fraction:g} + {test_fraction:g})"
        )


def split_pool(
    pool: Images,
    classes: tuple[str, ...],
    *,
    seed: int,
    val_fraction: float,
    test_fraction: float,
    per_class: int | None = None,
) -> Source:
    """Split a pool of images into the three sets, class by class; without a test set if 0.

    `per_class` keeps at most that many training images of each class.

    Raises:
        DataError: where the fractions leave no training set.
    """
    check_fractions(val_fraction, test_fraction)
    val, test, train = stratified_split(pool.labels, (val_fraction, test_fraction), seed=seed)
    kept = pool.take(train)
    return Source(
        train=kept if per_class is None else few_of_each(kept, per_class, seed=seed),
        val=pool.take(val),
        test=pool.take(test) if len(test) else None,
        classes=classes,
    )
