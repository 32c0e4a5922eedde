"""What is in a folder of images, for a first recipe."""

from dataclasses import dataclass
from pathlib import Path
from statistics import median

from PIL import Image

from cnntune.data.folder import FolderImages, folder
from cnntune.errors import DataError

SIZES = (32, 64, 96, 128, 160, 224)  # pixels; the largest is what ImageNet's networks see
LOOKED_AT = 100  # images whose size is read


@dataclass(frozen=True)
class Survey:
    """The images of a folder: how many, of how many classes, and the size to train at."""

    images: int
    training: int  # of them, once the others are cut off for validation and test
    classes: int
    size: int


def survey(path: Path, *, val_fraction: float, test_fraction: float) -> Survey:
    """Count the images under `path`; the size is the largest of `SIZES` that most of them fill.

    The fractions cut a folder that is not cut into parts yet, as they will in the recipe.

    Raises:
        DataError: where `path` holds no class folders, or none of its images can be read.
    """
    source = folder(path=str(path), seed=0, val_fraction=val_fraction, test_fraction=test_fraction)
    parts = [part for part in (source.train, source.val, source.test) if part is not None]
    images = [part for part in parts if isinstance(part, FolderImages)]
    files = [file for part in images for file in part.files]
    sides = [side for file in files[:: max(1, len(files) // LOOKED_AT)] if (side := _side(file))]
    if not sides:
        raise DataError(f"{path}: none of its images can be read")
    filled = [size for size in SIZES if size <= median(sides)]
    size = filled[-1] if filled else SIZES[0]
    return Survey(len(files), len(images[0]), len(source.classes), size)


def _side(file: Path) -> int | None:
    """The shorter side in pixels; None where the file is no image."""
    try:
        with Image.open(file) as image:
            return min(image.size)
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
