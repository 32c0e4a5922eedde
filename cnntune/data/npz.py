"""Images and labels from a NumPy archive (`numpy.savez`)."""

import zipfile
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from cnntune.data.source import (
    TEST_FRACTION,
    VAL_FRACTION,
    Fraction,
    ImagePath,
    Images,
    Source,
    split_pool,
    stratified_split,
)
from cnntune.errors import DataError

Layout = Literal["auto", "NHW", "NHWC", "NCHW"]
Array = NDArray[Any]

# The names of the arrays of each set, in lower case. "train_images" is the name in MedMNIST.
NAMES = {
    "train": (
        ("x_train", "y_train"),
        ("train_images", "train_labels"),
        ("x", "y"),
        ("images", "labels"),
    ),
    "val": (("x_val", "y_val"), ("x_valid", "y_valid"), ("val_images", "val_labels")),
    "test": (("x_test", "y_test"), ("test_images", "test_labels")),
}
TITLES = {"train": "training", "val": "validation", "test": "test"}
MAX_BYTES = 4 * 2**30  # unpacked; all of ImageNet at 32x32 pixels takes 3.7 GiB
CHANNELS = (1, 3)


def npz(
    *,
    path: ImagePath,
    seed: int,
    layout: Annotated[Layout, Field(description="order of the axes of the arrays")] = "auto",
    val_fraction: Fraction = VAL_FRACTION,
    test_fraction: Fraction = TEST_FRACTION,
) -> Source:
    """Arrays `x_train, y_train[, x_val, y_val][, x_test, y_test]`, or `x, y`.

    Images are integers 0..255, kept as uint8, or floats 0..1, kept as float32, as `[N, H, W]`,
    `[N, H, W, C]` or `[N, C, H, W]` with one or three channels. Labels count from 0, or are
    one-hot. The fractions apply to what the file does not split: both to `x, y`, only that of
    validation to `x_train` if there is an `x_test`.

    Raises:
        DataError: one line per array that cannot be used.
    """
    arrays = _read_arrays(Path(path).expanduser())
    held = ", ".join(sorted(arrays)) or "none of these"
    problems: list[str] = []
    parts: dict[str, Images] = {}
    for part in NAMES:
        try:
            images = _part(part, arrays, layout)
        except DataError as error:
            problems += error.lines
            continue
        if images is not None:
            parts[part] = images
    if "train" not in parts and not problems:
        pairs = ", or ".join(" and ".join(pair) for pair in NAMES["train"])
        problems.append(f"needs arrays {pairs} (got {held})")
    if problems:
        raise DataError(f"{path}: {problem}" for problem in problems)
    highest = max(int(part.labels.max()) for part in parts.values())
    count = sum(len(part) for part in parts.values())
    if highest >= count:  # these are not class labels, and so many outputs would fill the memory
        raise DataError(f"{path}: labels reach {highest}, but there are only {count} images")
    classes = tuple(str(label) for label in range(highest + 1))
    return _split(parts, classes, seed=seed, val_fraction=val_fraction, test_fraction=test_fraction)


def _split(
    parts: dict[str, Images],
    classes: tuple[str, ...],
    *,
    seed: int,
    val_fraction: float,
    test_fraction: float,
) -> Source:
    train, val, test = parts["train"], parts.get("val"), parts.get("test")
    if val is None and test is None:
        return split_pool(
            train, classes, seed=seed, val_fraction=val_fraction, test_fraction=test_fraction
        )
    if val is None:
        chosen, rest = stratified_split(train.labels, (val_fraction,), seed=seed)
        train, val = train.take(rest), train.take(chosen)
    return Source(train=train, val=val, test=test, classes=classes)


def _read_arrays(path: Path) -> dict[str, Array]:
    """The arrays with a name in `NAMES`, by that name in lower case; others are not read."""
    wanted = {name for pairs in NAMES.values() for pair in pairs for name in pair}
    if not path.is_file():
        raise DataError(f"{path}: {'is a folder, not a file' if path.exists() else 'no such file'}")
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path}: is not an .npz archive; write it with numpy.savez")
    arrays: dict[str, Array] = {}
    name = ""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MAX_BYTES:
            raise DataError(
                f"{path}: unpacks to {unpacked / 2**30:.1f} GiB, but at most"
                f" {MAX_BYTES / 2**30:.0f} are allowed; store the images as files and use"
                ' name = "folder"'
            )
        # Pickled objects are not allowed, since they could run code.
        with np.load(path, allow_pickle=False) as file:
            for name in file.files:
                if name.lower() in arrays:
                    raise DataError(f"{path}: {name}: is there twice, in upper and lower case")
                if name.lower() in wanted:
                    arrays[name.lower()] = file[name]
    except DataError:
        raise
    except Exception as error:  # broken archives raise a dozen different types
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        where = f"{path}: {name}" if name else f"{path}"
        if "allow_pickle" in reason:
            reason = "holds Python objects instead of plain numbers"
        raise DataError(f"{where}: cannot be read ({reason})") from error
    return arrays


def _part(part: str, arrays: dict[str, Array], layout: Layout) -> Images | None:
    """One of the three sets, or None where the file has none of its arrays."""
    found = [pair for pair in NAMES[part] if pair[0] in arrays or pair[1] in arrays]
    if not found:
        return None
    if len(found) > 1:
        both = " and ".join(next(name for name in pair if name in arrays) for pair in found)
        raise DataError(f"holds {both}, but only one can be the {TITLES[part]} set")
    images_name, labels_name = found[0]
    missing = [name for name in found[0] if name not in arrays]
    if missing:
        pairs = " or ".join(", ".join(pair) for pair in NAMES[part])
        raise DataError(
            f"{missing[0]}: is missing beside {next(name for name in found[0] if name in arrays)};"
            f" arrays of the {TITLES[part]} set are called {pairs}"
        )
    problems: list[str] = []
    pixels = labels = torch.empty(0)
    try:
        pixels = _pixels(
            arrays.pop(images_name), layout
        )  # popped, so that the memory of a copied array is freed
    except DataError as error:
        problems += [f"{images_name}: {line}" for line in error.lines]
    try:
        labels = _labels(arrays[labels_name])
    except DataError as error:
        problems += [f"{labels_name}: {line}" for line in error.lines]
    if not problems and len(pixels) != len(labels):
        problems.append(f"{images_name} has {len(pixels)} images, {labels_name} {len(labels)}")
    if problems:
        raise DataError(problems)
    return Images(pixels, labels)


def _pixels(array: Array, layout: Layout) -> Tensor:
    """Uint8 or float32 `[N, C, H, W]`."""
    if array.size == 0:
        raise DataError(f"must hold images (got shape {list(array.shape)})")
    values = _checked_values(array)
    found = _layout(array.shape) if layout == "auto" else layout
    if len(found) != array.ndim:
        raise DataError(f"layout {found} needs {len(found)} axes (got {list(array.shape)})")
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    if found == "NHW":
        tensor = tensor.unsqueeze(1)
    elif found == "NHWC":
        tensor = tensor.permute(0, 3, 1, 2).contiguous()
    if tensor.shape[1] not in CHANNELS:
        raise DataError(f"must have 1 or 3 channels (got {tensor.shape[1]}, layout {found})")
    return tensor


def _layout(shape: tuple[int, ...]) -> Layout:
    """The only layout that matches.

    Raises:
        DataError: where none matches, or two do.
    """
    if len(shape) == 3:
        return "NHW"
    if len(shape) == 4:
        first, last = shape[1] in CHANNELS, shape[3] in CHANNELS
        if first and last:
            raise DataError(
                f"shape {list(shape)} could be NHWC or NCHW: choose one with data.layout"
            )
        if first or last:
            return "NCHW" if first else "NHWC"
    raise DataError(
        f"must be [N, H, W], [N, H, W, C] or [N, C, H, W] with 1 or 3 channels (got {list(shape)})"
    )


def _checked_values(array: Array) -> Array:
    """Bytes or floats 0..1; integers 0..255 of any other type become bytes."""
    if array.dtype.kind not in "uif":
        raise DataError(f"must be uint8, or floats 0..1 (got {array.dtype})")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        count = int(array.size - np.isfinite(array).sum())
        raise DataError(f"must be finite (got {count} values of NaN or infinity)")
    low, high = array.min(), array.max()
    if array.dtype.kind == "f" and low >= 0 and high <= 1:
        return array.astype(np.float32)
    if low >= 0 and high <= 255 and (array.dtype.kind != "f" or (array == np.rint(array)).all()):
        return array.astype(np.uint8)
    raise DataError(
        f"must be integers 0..255, or floats 0..1 (got {array.dtype} {low:.9g} ... {high:.9g})"
    )


def _labels(array: Array) -> Tensor:
    """Int64 `[N]` from class numbers `[N]` or `[N, 1]`, or from one-hot rows `[N, C]`."""
    if array.dtype.kind not in "buif":
        raise DataError(f"must be class numbers 0, 1, 2 ... (got {array.dtype})")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2:
        # A single one in each row, and zeros elsewhere.
        if not (np.isin(array, (0, 1)).all() and (array.sum(1) == 1).all()):
            raise DataError(f"has rows that are not one-hot (shape {list(array.shape)})")
        return torch.from_numpy(array.argmax(1).astype(np.int64))
    if array.ndim != 1:
        raise DataError(f"must be [N], or one-hot [N, C] (got {list(array.shape)})")
    if not np.isfinite(array).all() or (array != np.rint(array)).any():
        raise DataError("must be integers")
    if len(array) and array.min() < 0:
        raise DataError(f"must count from 0 (got {array.min():.9g})")
    return torch.from_numpy(array.astype(np.int64))
