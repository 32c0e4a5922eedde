"""What can be said of the images in a folder before training: counts, sizes, and what is wrong."""

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cnntune.data.folder import FolderImages, folder, read_image, set_folders
from cnntune.errors import DataError

SIZES = (32, 64, 96, 128, 160, 224)  # pixels; the largest is the usual input size for ImageNet
SAMPLE_SIZE = 1000  # images that are decoded: at 5 ms for a photograph, seconds
MAX_NAMED = 5  # files that cannot be read, in a message
LEAST = 8  # pixels that `data.image_size` needs
THUMBNAIL_SIDE = 16  # pixels
LONG = 1.5  # longer side by shorter: the central square shows two thirds of such an image


@dataclass(frozen=True)
class Survey:
    """The images of a folder.

    `per_class` counts the images of all sets, `sets` are their folders where the images are split
    already: training, validation and perhaps test. `size`, in pixels, is that of all images where
    they are small squares, else the largest of `SIZES` that most have. `sampled` images were
    decoded; of these, `unreadable` could not be, `grey` tells whether none has colour, and `long`
    is the share (0..1) that the central square cuts by a third or more. `copies` are groups of
    files that are equal byte for byte, `conflicts` those in more than one class. `thumbnails` are
    float32 `[N, 3, 16, 16]` in 0..1 with `labels` (int64 `[N]`).
    """

    training: int
    val: int
    per_class: dict[str, int]
    size: int
    sampled: int
    unreadable: tuple[str, ...]
    grey: bool
    long: float
    copies: tuple[tuple[Path, ...], ...]
    conflicts: tuple[tuple[Path, ...], ...]
    thumbnails: Tensor
    labels: Tensor
    sets: tuple[Path, ...] = ()

    @property
    def images(self) -> int:
        """How many there are in all sets."""
        return sum(self.per_class.values())

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.per_class)


def survey(path: Path, *, val_fraction: float, test_fraction: float) -> Survey:
    """Count the images under `path`, and decode a random sample of them.

    The fractions split a folder that is not split yet, as they will in the recipe.

    Raises:
        DataError: where `path` holds no class folders, or none of its images can be read.
    """
    source = folder(path=str(path), seed=0, val_fraction=val_fraction, test_fraction=test_fraction)
    sets = [source.train, source.val, source.test]
    parts = [images for images in sets if isinstance(images, FolderImages)]
    labelled = [
        pair for part in parts for pair in zip(part.files, part.labels.tolist(), strict=True)
    ]
    sample = sorted(random.Random(0).sample(labelled, min(SAMPLE_SIZE, len(labelled))))
    unreadable, seen, labels, sides, coloured = [], [], [], [], False
    for file, label in sample:
        try:
            image = read_image(file)
        except DataError as error:
            unreadable += error.lines
            continue
        small = image.resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX)
        pixels = np.asarray(small, dtype=np.float32) / 255
        coloured = coloured or bool(np.ptp(pixels, axis=2).max() > 0)
        seen.append(torch.from_numpy(pixels).permute(2, 0, 1))
        labels.append(label)
        sides.append(image.size)
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
    copies = _copies([file for file, _ in labelled])
    class_of = dict(labelled)
    counted = Counter(label for _, label in labelled)
    return Survey(
        training=len(parts[0]),
        val=len(parts[1]),
        per_class={name: counted[label] for label, name in enumerate(source.classes)},
        size=_size(sides),
        sampled=len(sample),
        unreadable=tuple(unreadable),
        grey=not coloured,
        long=sum(max(side) >= LONG * min(side) for side in sides) / len(sides),
        copies=copies,
        conflicts=tuple(group for group in copies if len({class_of[file] for file in group}) > 1),
        thumbnails=torch.stack(seen),
        labels=torch.tensor(labels),
        sets=tuple(set_folders(path.expanduser())),
    )


def _size(sides: Sequence[tuple[int, int]]) -> int:
    """The side of the squares that images of these widths and heights are fitted to."""
    if len({side for pair in sides for side in pair}) == 1 and LEAST <= sides[0][0] <= SIZES[-1]:
        return sides[0][0]
    reached = [size for size in SIZES if size <= median(min(pair) for pair in sides)]
    return reached[-1] if reached else SIZES[0]


def _copies(files: Sequence[Path]) -> tuple[tuple[Path, ...], ...]:
    """Groups of two or more files that are equal byte for byte; only those of a size are read."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    for file in files:
        by_size[file.stat().st_size].append(file)
    by_digest: dict[bytes, list[Path]] = defaultdict(list)
    for same in by_size.values():
        for file in same if len(same) > 1 else ():
            by_digest[hashlib.blake2b(file.read_bytes(), digest_size=16).digest()].append(file)
    return tuple(tuple(group) for group in by_digest.values() if len(group) > 1)
