"""Real handwritten digits that come inside scikit-learn: small, quick, and never downloaded."""

import torch

from cnntune.data.source import (
    TEST_FRACTION,
    VAL_FRACTION,
    Count,
    Fraction,
    Images,
    Source,
    choose_classes,
    split_pool,
    stratified_subset,
)

BRIGHTEST = 16  # scikit-learn counts the dark pixels of a 4x4 block, so 0 ... 16


def digits(
    *,
    seed: int,
    size: Count | None = None,
    classes: list[str] | None = None,
    per_class: Count | None = None,
    val_fraction: Fraction = VAL_FRACTION,
    test_fraction: Fraction = TEST_FRACTION,
) -> Source:
    """The 1797 digits of `sklearn.datasets.load_digits`, uint8 `[N, 1, 8, 8]`, 10 classes.

    `classes` keeps some classes, such as ["0", "1"], `size` that many images, all parts together,
    and `per_class` at most that many training images of each class. Source: UCI Optical Recognition
    of Handwritten Digits (Alpaydin and Kaynak 1998), its test part.

    Raises:
        DataError: where `size` is more than there are, or a class does not exist.
    """
    from sklearn.datasets import load_digits  # a second to import, and only wanted here

    bunch = load_digits()
    scaled = torch.from_numpy(bunch.images) * 255 / BRIGHTEST
    pool = Images(
        scaled.round().to(torch.uint8).unsqueeze(1), torch.from_numpy(bunch.target).long()
    )
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
