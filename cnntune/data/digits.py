"""Real handwritten digits that are included in scikit-learn: small, fast, no download."""

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cnntune.data.source import (
    TEST_FRACTION,
    VAL_FRACTION,
    ClassNames,
    Fraction,
    Images,
    PerClass,
    Size,
    Source,
    choose_classes,
    split_pool,
    stratified_subset,
)

SIDE = 8  # pixels
MAX_VALUE = 16  # scikit-learn counts the dark pixels of a 4x4 block, so 0 ... 16


def digits(
    *,
    seed: int,
    size: Size | None = None,
    classes: ClassNames | None = None,
    per_class: PerClass | None = None,
    val_fraction: Fraction = VAL_FRACTION,
    test_fraction: Fraction = TEST_FRACTION,
) -> Source:
    """The 1797 digits of `sklearn.datasets.load_digits`, uint8 `[N, 1, 8, 8]`, 10 classes.

    `classes` keeps some classes, such as ["0", "1"], `size` that many images in total over the
    three sets, and `per_class` at most that many training images of each class. Source: the test
    set of UCI Optical Recognition of Handwritten Digits (Alpaydin and Kaynak 1998).

    Raises:
        DataError: where `size` exceeds the number of images, or a class does not exist.
    """
    table = _table()
    scaled = table[:, :-1].reshape(-1, 1, SIDE, SIDE).float() * 255 / MAX_VALUE
    pool = Images(scaled.round().to(torch.uint8), table[:, -1].long())
    names = tuple(str(digit) for digit in range(10))
    if classes is not None:
        pool, names = choose_classes(pool, names, classes)
    if size is not None:
        pool = pool.take(stratified_subset(pool.labels, size, seed=seed))
    return split_pool(
        pool,
        names,
        seed=seed,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        per_class=per_class,
    )


def _table() -> Tensor:
    """One row per digit, uint8 `[1797, 65]`: 64 pixels and the label.

    The file is read from scikit-learn's folder, since importing scikit-learn takes a second.
    """
    spec = find_spec("sklearn")
    assert spec is not None  # it is a dependency
    assert spec.origin is not None
    file = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
    with gzip.open(file, "rt") as lines:
        return torch.from_numpy(np.loadtxt(lines, dtype=np.uint8, delimiter=","))
