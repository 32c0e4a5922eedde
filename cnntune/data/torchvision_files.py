"""CIFAR-10, MNIST and Fashion-MNIST from files on disk, in the formats that torchvision reads.

The test set is the official one; the validation set is split from the official training set, class
by class.
"""

import contextlib
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cnntune.data.source import (
    VAL_FRACTION,
    Download,
    Fraction,
    ImagePath,
    Images,
    Size,
    Source,
    stratified_split,
    stratified_subset,
)
from cnntune.errors import DataError
from cnntune.machine.optional import import_torchvision

PICKLES = "the unpacked cifar-10-python.tar.gz"
IDX_FILES = "the four unpacked *-ubyte.gz files"


def cifar10(
    *,
    seed: int,
    path: ImagePath = "data",
    download: Download = False,
    size: Size | None = None,
    val_fraction: Fraction = VAL_FRACTION,
) -> Source:
    """50,000 + 10,000 photographs, uint8 `[N, 3, 32, 32]`, 10 classes (Krizhevsky 2009).

    `path` holds `cifar-10-batches-py`; `download` fetches it. `size` keeps that many images of the
    training set, before the validation set is split from it.

    Raises:
        DataError: where files are missing or differ from the published checksums.
        DeviceError: where torchvision cannot be imported.
    """
    train, test, classes = _read("CIFAR10", path, "cifar-10-batches-py", PICKLES, download)
    return _split(train, test, classes, size=size, val_fraction=val_fraction, seed=seed)


def mnist(
    *,
    seed: int,
    path: ImagePath = "data",
    download: Download = False,
    size: Size | None = None,
    val_fraction: Fraction = VAL_FRACTION,
) -> Source:
    """60,000 + 10,000 handwritten digits, uint8 `[N, 1, 28, 28]` (LeCun et al. 1998).

    `path` holds `MNIST/raw`; `download` fetches it. `size` keeps that many images of the training
    set, before the validation set is split from it.

    Raises:
        DataError: where files are missing or broken.
        DeviceError: where torchvision cannot be imported.
    """
    train, test, classes = _read("MNIST", path, "MNIST/raw", IDX_FILES, download)
    return _split(train, test, classes, size=size, val_fraction=val_fraction, seed=seed)


def fashion_mnist(
    *,
    seed: int,
    path: ImagePath = "data",
    download: Download = False,
    size: Size | None = None,
    val_fraction: Fraction = VAL_FRACTION,
) -> Source:
    """60,000 + 10,000 grey images of clothes, uint8 `[N, 1, 28, 28]` (Xiao et al. 2017).

    `path` holds `FashionMNIST/raw`; `download` fetches it. `size` keeps that many images of the
    training set, before the validation set is split from it.

    Raises:
        DataError: where files are missing or broken.
        DeviceError: where torchvision cannot be imported.
    """
    train, test, classes = _read("FashionMNIST", path, "FashionMNIST/raw", IDX_FILES, download)
    return _split(train, test, classes, size=size, val_fraction=val_fraction, seed=seed)


def _read(
    name: str, path: str, folder: str, contents: str, download: bool
) -> tuple[Images, Images, tuple[str, ...]]:
    """The official training and test set, and the class names."""
    dataset = getattr(import_torchvision().datasets, name)
    root = Path(path).expanduser()
    try:
        # Downloads may print, and standard output is for results only. NumPy 2.4.0 to 2.4.4 warn
        # about pickles as old as those of CIFAR-10 (numpy#29301).
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            train = dataset(root, train=True, download=download)
            test = dataset(root, train=False, download=download)
            parts = _images(train), _images(test)
    except Exception as error:  # broken files raise a dozen types, even AssertionError
        wanted = f"{root / folder} must hold {contents}"
        if download:
            fix = "check the connection, or put the files there by hand"
        else:
            fix = "put the files there, or set data.download = true"
        raise DataError(f"data {name}: {wanted} ({_reason(error)}); {fix}") from error
    return *parts, tuple(train.classes)


def _reason(error: Exception) -> str:
    """The message of torchvision, without its advice to set an argument of torchvision."""
    message = (str(error).splitlines() or [""])[0].partition(" You can use download=True")[0]
    return message.rstrip(".") or f"they are broken: {type(error).__name__}"


def _images(dataset: Any) -> Images:
    """The images of CIFAR-10, a NumPy array `[N, H, W, 3]`, or MNIST, a tensor `[N, H, W]`."""
    pixels: Tensor = torch.as_tensor(dataset.data)
    labels = torch.as_tensor(dataset.targets, dtype=torch.int64)
    if len(pixels) != len(labels):
        raise ValueError(f"{len(pixels)} images, but {len(labels)} labels")
    pixels = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
    return Images(pixels.contiguous(), labels)


def _split(
    train: Images,
    test: Images,
    classes: tuple[str, ...],
    *,
    size: int | None,
    val_fraction: float,
    seed: int,
) -> Source:
    if size is not None:
        train = train.take(stratified_subset(train.labels, size, seed=seed))
    val, rest = stratified_split(train.labels, (val_fraction,), seed=seed)
    return Source(train=train.take(rest), val=train.take(val), test=test, classes=classes)
