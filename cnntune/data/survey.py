"""What can be said of images before training: counts, sizes, and what is wrong with them."""

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cnntune.data.folder import (
    FolderImages,
    SetFolders,
    folder,
    inner_folder,
    read_image,
    set_folders,
)
from cnntune.data.npz import npz
from cnntune.data.parts import as_unit
from cnntune.data.source import Images, Source
from cnntune.data.table import METADATA, table
from cnntune.errors import DataError

SIZES = (32, 64, 96, 128, 160, 224)  # pixels; the largest is the usual input size for ImageNet
SAMPLE_SIZE = 1000  # images that are decoded: at 5 ms for a photograph, seconds
MAX_NAMED = 5  # files that cannot be read, in a message
LEAST = 8  # pixels that `data.image_size` needs
THUMBNAIL_SIDE = 16  # pixels
BUILDERS: dict[str, Callable[..., Source]] = {"folder": folder, "csv": table, "npz": npz}
LONG = 1.5  # longer side by shorter: the central square shows two thirds of such an image


@dataclass(frozen=True)
class Survey:
    """Images, and what a recipe calls them: `[data] name` and `path`.

    `per_class` counts the images of all sets, `sets` are their folders where a folder is split
    already. `size`, in pixels, is that of all images where
    they are small squares, else the largest of `SIZES` that most have. `sampled` images were
    decoded; of these, `unreadable` could not be, `grey` tells whether none has colour, and `long`
    is the share (0..1) that the central square cuts by a third or more. `copies` are groups of
    images that are equal byte for byte, `conflicts` those in more than one class. `thumbnails` are
    float32 `[N, 3, 16, 16]` in 0..1 with `labels` (int64 `[N]`).
    """

    builder: str
    path: Path
    training: int
    val: int
    per_class: dict[str, int]
    size: int
    sampled: int
    unreadable: tuple[str, ...]
    grey: bool
    long: float
    copies: tuple[tuple[str, ...], ...]
    conflicts: tuple[tuple[str, ...], ...]
    thumbnails: Tensor
    labels: Tensor
    sets: SetFolders | None = None

    @property
    def images(self) -> int:
        """How many there are in all sets."""
        return sum(self.per_class.values())

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.per_class)


def survey(path: Path, *, val_fraction: float, test_fraction: float) -> Survey:
    """Count the images of a folder, a table or an archive, and decode a random sample of them.

    A folder may hold the classes one level deeper, or a `metadata.csv`. The fractions split what is
    not split yet, as they will in the recipe.

    Raises:
        DataError: where no images with labels are found, or none of them can be read.
    """
    builder, path = _recognised(path)
    source = BUILDERS[builder](
        path=str(path), seed=0, val_fraction=val_fraction, test_fraction=test_fraction
    )
    labelled = _labelled(source)
    sample = random.Random(0).sample(labelled, min(SAMPLE_SIZE, len(labelled)))
    unreadable, seen, labels, sides, coloured = [], [], [], [], False
    for image, label in sorted(sample, key=lambda pair: pair[0].name):
        try:
            decoded = image.decoded()
        except DataError as error:
            unreadable += error.lines
            continue
        small = decoded.resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX)
        pixels = np.asarray(small, dtype=np.float32) / 255
        coloured = coloured or bool(np.ptp(pixels, axis=2).max() > 0)
        seen.append(torch.from_numpy(pixels).permute(2, 0, 1))
        labels.append(label)
        sides.append(decoded.size)
    if not sides:
        more = len(unreadable) - MAX_NAMED
        rest = [f"and {more} more"] if more > 0 else []
        raise DataError(
            [
                f"{path}: none of its {len(sample)} images can be read",
                *unreadable[:MAX_NAMED],
                *rest,
            ]
        )
    copies = _copies([image for image, _ in labelled])
    class_of = {image.name: label for image, label in labelled}
    counted = Counter(label for _, label in labelled)
    return Survey(
        builder=builder,
        path=path,
        training=_count(source.train),
        val=_count(source.val),
        per_class={name: counted[label] for label, name in enumerate(source.classes)},
        size=_size(sides),
        sampled=len(sample),
        unreadable=tuple(unreadable),
        grey=not coloured,
        long=sum(max(side) >= LONG * min(side) for side in sides) / len(sides),
        copies=copies,
        conflicts=tuple(group for group in copies if len({class_of[name] for name in group}) > 1),
        thumbnails=torch.stack(seen),
        labels=torch.tensor(labels),
        sets=set_folders(path.expanduser()) if builder == "folder" else None,
    )


def _count(part: Any) -> int:
    return len(part)


def _recognised(path: Path) -> tuple[str, Path]:
    """The built-in data set that reads `path`, and the path that it needs.

    Raises:
        DataError: where `path` is a folder without class folders.
    """
    found = path.expanduser()
    if found.is_file() and found.suffix.lower() in (".csv", ".tsv"):
        return "csv", path
    if found.is_file() and found.suffix.lower() == ".npz":
        return "npz", path
    if (found / METADATA).is_file():
        return "csv", path / METADATA
    return "folder", inner_folder(path)


@dataclass(frozen=True)
class _File:
    """An image in a file."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    def decoded(self) -> Image.Image:
        """In RGB, upright.

        Raises:
            DataError: where it cannot be read.
        """
        return read_image(self.path)

    def size(self) -> int:
        return self.path.stat().st_size

    def digest(self) -> bytes:
        return hashlib.blake2b(self.path.read_bytes(), digest_size=16).digest()


@dataclass(frozen=True)
class _InArray:
    """An image in an array, uint8 or float 0..1 `[C, H, W]`."""

    pixels: Tensor
    name: str

    def decoded(self) -> Image.Image:
        """In RGB."""
        unit = as_unit(self.pixels)
        pixels = (unit * 255).round().byte().expand(3, -1, -1)
        return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())

    def size(self) -> int:
        return self.pixels.nbytes

    def digest(self) -> bytes:
        return hashlib.blake2b(self.pixels.numpy().tobytes(), digest_size=16).digest()


def _labelled(source: Source) -> list[tuple[_File | _InArray, int]]:
    """All images with their labels."""
    found: list[tuple[_File | _InArray, int]] = []
    titles = ("training", "validation", "test")
    for title, part in zip(titles, (source.train, source.val, source.test), strict=True):
        images: list[_File] | list[_InArray] = []
        if isinstance(part, FolderImages):
            images = [_File(file) for file in part.files]
        elif isinstance(part, Images):
            images = [_InArray(one, f"{title} image {k}") for k, one in enumerate(part.pixels)]
        if isinstance(part, FolderImages | Images):
            found += zip(images, part.labels.tolist(), strict=True)
    return found


def _size(sides: Sequence[tuple[int, int]]) -> int:
    """The side of the squares that images of these widths and heights are fitted to."""
    if len({side for pair in sides for side in pair}) == 1 and LEAST <= sides[0][0] <= SIZES[-1]:
        return sides[0][0]
    reached = [size for size in SIZES if size <= median(min(pair) for pair in sides)]
    return reached[-1] if reached else SIZES[0]


def _copies(images: Sequence[_File | _InArray]) -> tuple[tuple[str, ...], ...]:
    """Groups of two or more images that are equal byte for byte; only those of a size are read."""
    by_size: dict[int, list[_File | _InArray]] = defaultdict(list)
    for image in images:
        by_size[image.size()].append(image)
    by_digest: dict[bytes, list[str]] = defaultdict(list)
    for same in by_size.values():
        for image in same if len(same) > 1 else ():
            by_digest[image.digest()].append(image.name)
    return tuple(tuple(group) for group in by_digest.values() if len(group) > 1)
