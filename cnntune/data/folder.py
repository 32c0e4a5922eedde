"""Images in folders, one folder per class: the layout of torchvision's `ImageFolder`, checked.

Images are decoded by Pillow: torchvision's reader crashed the process on a PNG with a bad checksum.
"""

import math
import os
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal
from unicodedata import normalize

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import Field
from torch import Tensor
from torch.utils.data import Dataset

from cnntune.data.source import (
    TEST_FRACTION,
    VAL_FRACTION,
    Fraction,
    ImagePath,
    ImageSide,
    Source,
    check_fractions,
    stratified_split,
)
from cnntune.errors import DataError

Colour = Literal["rgb", "grey"]

# ImageFolder's list, and .jfif and .gif, which it skips silently.
EXTENSIONS = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"),
    *(".pgm", ".ppm"),
)
# Images that we do not read; skipping them silently could train on half of the images.
UNREAD_EXTENSIONS = (".heic", ".heif", ".avif", ".jxl", ".svg", ".psd", ".dng")

VAL_NAMES = ("val", "valid", "validation")
SET_NAMES = ("train", "training", *VAL_NAMES, "dev", "test", "testing", "holdout")

MAX_PIXELS = 50_000_000  # 150 MB as RGB, and more than the 48 million of phone cameras
GREY_16_TO_8_BITS = 257  # 65535 / 255


def folder(
    *,
    path: ImagePath,
    seed: int,
    image_size: ImageSide = 64,
    color: Annotated[Colour, Field(description="channels that are read")] = "rgb",
    val_fraction: Fraction = VAL_FRACTION,
    test_fraction: Fraction = TEST_FRACTION,
) -> Source:
    """Class folders under `path`, or under `path/train` and `path/val` (and `path/test`).

    `path/valid` and `path/validation` work like `path/val`. The fractions split a folder that has
    no such folders. Images are uint8 `[C, image_size, image_size]`, C = 3, or 1 for "grey". Classes
    are in alphabetical order, or by value where all names are integers.

    Raises:
        DataError: one line per folder that cannot be used; files are read later.
    """
    root = Path(path).expanduser()
    if roots := set_folders(root):
        return _from_split(root, roots, image_size, color)
    check_fractions(val_fraction, test_fraction)
    classes, files, labels = _scan(root)
    parts = stratified_split(labels, (val_fraction, test_fraction), seed=seed)
    val, test, train = (
        FolderImages(
            [files[index] for index in part.tolist()], labels[part], image_size, color, root
        )
        for part in parts
    )
    return Source(train=train, val=val, test=test if len(test) else None, classes=classes)


def set_folders(root: Path) -> list[Path]:
    """The folders of the sets: training, validation and perhaps test; empty where there are none.

    Raises:
        DataError: where `root` is no folder, or two folders may be the validation set.
    """
    folders = {found.name.casefold(): found for found in _class_folders(root)}
    found_val = [folders[name] for name in VAL_NAMES if name in folders]
    if "train" not in folders or not found_val:
        return []
    if len(found_val) > 1:
        both = " and ".join(found.name for found in found_val)
        raise DataError(f"{root}: holds {both}, but only one can be the validation set")
    return [folders["train"], found_val[0], *([folders["test"]] if "test" in folders else [])]


def _from_split(top: Path, roots: Sequence[Path], image_size: int, color: Colour) -> Source:
    """Sets in separate folders: training, validation and perhaps test."""
    problems: list[str] = []
    parts: list[FolderImages] = []
    classes: tuple[str, ...] = ()
    for root in roots:
        try:
            found, files, labels = _scan(root)
        except DataError as error:
            problems += error.lines
            continue
        classes = classes or found
        if found != classes:
            problems.append(f"{root}: {_difference(found, classes)}")
        parts.append(FolderImages(files, labels, image_size, color, top))
    if problems:
        raise DataError(problems)
    train, val, *test = parts
    return Source(train=train, val=val, test=test[0] if test else None, classes=classes)


def _difference(found: Sequence[str], expected: Sequence[str]) -> str:
    more = [name for name in found if name not in expected]
    less = [name for name in expected if name not in found]
    problems = [f"has class folders that train lacks ({', '.join(more)})"] if more else []
    problems += [f"lacks class folders that train has ({', '.join(less)})"] if less else []
    return " and ".join(problems)


def _scan(root: Path) -> tuple[tuple[str, ...], list[Path], Tensor]:
    """The classes under `root`, all image files, and the label of each (int64 `[N]`)."""
    by_name = {normalize("NFC", found.name): found for found in _class_folders(root)}
    names = in_class_order(by_name)
    folders = [by_name[name] for name in names]
    if not folders:
        raise DataError(f"{root}: holds no folders; put the images of each class in a folder")
    if all(name.casefold() in SET_NAMES for name in names):
        train = next((name for name in names if name.casefold().startswith("train")), names[0])
        raise DataError(
            f"{root}: holds {', '.join(names)}, which are splits and not classes; give"
            f" {root / train}, to be split by cnntune, or name the folders train and val"
        )
    visible = [_visible_files(found) for found in folders]
    problems = [
        problem
        for found, files in zip(folders, visible, strict=True)
        for problem in _problems_of(found, files)
    ]
    if len(folders) == 1 and not problems:
        problems = [f"{root}: needs at least two class folders (got {names[0]} alone)"]
    if problems:
        raise DataError(problems)
    members = [sorted(file for file in files if _is(file, EXTENSIONS)) for files in visible]
    labels = [label for label, files in enumerate(members) for _ in files]
    return tuple(names), [file for files in members for file in files], torch.tensor(labels)


def _problems_of(class_folder: Path, files: Sequence[Path]) -> list[str]:
    """The problems of one class folder, given all files in it and below it."""
    unread = [file for file in files if _is(file, UNREAD_EXTENSIONS)]
    if unread:
        return [
            f"{class_folder}: holds {len(unread)} {unread[0].suffix} file(s), which cannot be read;"
            " convert them to PNG or JPEG"
        ]
    images = [file for file in files if _is(file, EXTENSIONS)]
    if not images:
        return [f"{class_folder}: holds no images (allowed: {' '.join(EXTENSIONS)})"]
    if not any(file.parent == class_folder for file in images):
        return [
            f"{class_folder}: holds only folders; if these are the classes, give"
            f" {class_folder} as the path"
        ]
    return []


def _class_folders(root: Path) -> list[Path]:
    if not root.exists():
        raise DataError(f"data.path: {root}: no such folder")
    if not root.is_dir():
        must = f"{root}: must be a folder with one folder per class (got a file)"
        if root.suffix.lower() == ".npz":
            must += "; for NumPy arrays write a cnntune.toml with"
            must += f' [data], name = "npz" and path = "{root}"'
        raise DataError(must)
    return [entry for entry in root.iterdir() if _is_visible(entry.name) and entry.is_dir()]


def in_class_order(names: Iterable[str]) -> list[str]:
    """Sorted by name; by value where every name is an integer, so that 2 is before 10."""
    listed = list(names)
    if all(name.isascii() and name.isdecimal() for name in listed):
        return sorted(listed, key=lambda name: (int(name), name))
    return sorted(listed)


def _visible_files(top: Path) -> list[Path]:
    """All files in and below `top`, without hidden ones."""
    files = []
    for parent, folders, names in os.walk(top):
        folders[:] = [name for name in folders if _is_visible(name)]  # `os.walk` enters only these
        files += [Path(parent, name) for name in names if _is_visible(name)]
    return files


def _is_visible(name: str) -> bool:
    """Whether a name is not hidden (.ipynb_checkpoints, macOS's ._ files) nor __MACOSX."""
    return not name.startswith(".") and name != "__MACOSX"


def _is(file: Path, extensions: Sequence[str]) -> bool:
    return file.suffix.lower() in extensions


class FolderImages(Dataset[tuple[Tensor, int]]):
    """Image files, decoded on access: (uint8 `[C, image_size, image_size]`, label).

    The shorter side is resized to `image_size`, and the centre is cropped. Transparent pixels are
    put on white, and EXIF orientation is applied. Indexing raises `DataError` where an image cannot
    be read. Thread-safe.
    """

    bytes_only = True

    def __init__(
        self,
        files: Sequence[Path],
        labels: Tensor,
        image_size: int,
        color: Colour = "rgb",
        root: Path | None = None,
    ) -> None:
        self.files, self.labels = list(files), labels
        self.image_size, self.color, self.root = image_size, color, root

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = read_image(self.files[index], color=self.color)
        side = self.image_size
        cut = ImageOps.fit(image, (side, side), method=Image.Resampling.BILINEAR)
        return _pixels(cut), int(self.labels[index])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return 1 if self.color == "grey" else 3, self.image_size, self.image_size

    @property
    def image_bytes(self) -> int:
        """The size of an image in memory."""
        return math.prod(self.shape)

    @property
    def names(self) -> list[str]:
        """The files, relative to the folder that the recipe names."""
        return [os.path.relpath(file, self.root) if self.root else str(file) for file in self.files]


def pixels_of(image: Image.Image) -> Tensor:
    """Uint8 `[C, H, W]` with 8 bits per channel: C is 1 for grey images, else 3.

    Raises:
        DataError: where the range of its values is unknown.
    """
    is_grey = image.mode in ("1", "L") or image.mode.startswith("I")
    return _pixels(_on_white(_with_8_bits(image)).convert("L" if is_grey else "RGB"))


def _pixels(image: Image.Image) -> Tensor:
    width, height = image.size
    return torch.from_numpy(np.array(image)).view(height, width, -1).permute(2, 0, 1).contiguous()


def read_image(file: Path, *, color: Colour = "rgb") -> Image.Image:
    """A file as an upright image of mode "RGB" or "L", with 8 bits per channel.

    Raises:
        DataError: where the file is not an image, is broken or too large, or where the range of its
            values is unknown.
    """
    try:
        with file.open("rb") as stream:
            with _quiet():
                image = Image.open(stream)
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise DataError(
                    f"has {width}x{height} pixels, but at most {MAX_PIXELS // 1_000_000} million"
                    " are allowed"
                )
            image.load()
            with _quiet():
                ImageOps.exif_transpose(image, in_place=True)
            return _on_white(_with_8_bits(image)).convert("L" if color == "grey" else "RGB")
    except DataError as error:
        raise DataError(f"{file}: {line}" for line in error.lines) from None
    except UnidentifiedImageError:
        raise DataError(f"{file}: is not an image ({_first_bytes(file)})") from None
    except Exception as error:  # Pillow's decoders raise many different types
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{file}: cannot be read ({reason})") from error


_filters = threading.Lock()  # `catch_warnings` affects all threads of the process


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Pillow's warnings of large images, which have our limit, and of broken EXIF data.

    An image whose EXIF data cannot be read is treated as one without.
    """
    with _filters, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _with_8_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey, which `convert` would clip to white; raise if the range is unknown."""
    # "I" has 32 bits, but PNG and PGM use at most 16 of them.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        scaled = np.rint(np.asarray(image).astype(np.float32) / GREY_16_TO_8_BITS)
        return Image.fromarray(scaled.astype(np.uint8))
    if image.mode in ("I", "F"):
        kind = "float" if image.mode == "F" else "32-bit integer"
        raise DataError(f"has {kind} pixels of unknown range; save it with 8 or 16 bits")
    return image


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)


def _first_bytes(file: Path) -> str:
    with file.open("rb") as stream:
        start = stream.read(16)
    return f"it starts with {start!r}" if start else "it is empty"
