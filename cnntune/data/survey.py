"""Count the images in a folder, for a first recipe."""

from dataclasses import dataclass
from pathlib import Path
from statistics import median

from PIL import Image

from cnntune.data.folder import FolderImages, folder
from cnntune.errors import DataError

SIZES = (32, 64, 96, 128, 160, 224)  # pixels; the largest is the usual input size for ImageNet
SAMPLE_SIZE = 100  # images whose size is read


@dataclass(frozen=True)
class Survey:
    """The images of a folder: how many, of how many classes, and the size to train at."""

    images: int
    training: int  # of these, in the training set
    classes: int
    size: int


def survey(path: Path, *, val_fraction: float, test_fraction: float) -> Survey:
    """Count the images under `path`; the size is the largest of `SIZES` that most of them have.

    The fractions split a folder that is not split yet, as they will in the recipe.

    Raises:
        DataError: where `path` holds no class folders, or none of its images can be read.
    """
    source = folder(path=str(path), seed=0, val_fraction=val_fraction, test_fraction=test_fraction)
    sets = [source.train, source.val, source.test]
    images = [images for images in sets if isinstance(images, FolderImages)]
    files = [file for part in images for file in part.files]
    stride = max(1, len(files) // SAMPLE_SIZE)
    sides = [side for file in files[::stride] if (side := _side(file))]
    if not sides:
        raise DataError(f"{path}: none of the images can be read")
    reached = [size for size in SIZES if size <= median(sides)]
    size = reached[-1] if reached else SIZES[0]
    return Survey(len(files), len(images[0]), len(source.classes), size)


def _side(file: Path) -> int | None:
    """The shorter side in pixels; None where the file is not an image."""
    try:
        with Image.open(file) as image:
            return min(image.size)
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
