"""Recipe keys that are valid alone and cannot be combined.

Plain functions of flat settings: `diagnose` has no validated recipe when it checks the changes that
it advises.
"""

from collections.abc import Iterator, Mapping
from typing import Any

CROSS_ENTROPY = "cross-entropy"

Settings = Mapping[str, Any]


def conflicts(settings: Settings) -> list[tuple[str, str]]:
    """Each key that the others do not allow as it is, with what it must be instead.

    `settings` maps flat recipe keys such as `train.lr` to values. A key that is missing, or has a
    value of another type, conflicts with nothing.
    """
    return [
        *_of_warmup(settings),
        *_of_loss(settings),
        *_of_transfer(settings),
        *_of_final_test(settings),
    ]


def _of_warmup(settings: Settings) -> Iterator[tuple[str, str]]:
    warmup, epochs = settings.get("train.warmup_epochs"), settings.get("train.epochs")
    if not isinstance(warmup, int | float):
        return
    if warmup and settings.get("train.schedule") == "one-cycle":
        yield "train.warmup_epochs", "must be 0: the one-cycle schedule warms up by itself"
    elif isinstance(epochs, int) and warmup >= epochs:
        yield (
            "train.warmup_epochs",
            f"must be < {epochs}, which is train.epochs (got {warmup:g});"
            " change one of them, such as --set train.warmup_epochs=0",
        )


def _of_loss(settings: Settings) -> Iterator[tuple[str, str]]:
    loss = settings.get("train.loss", CROSS_ENTROPY)
    if settings.get("train.label_smoothing") and loss != CROSS_ENTROPY:
        yield "train.label_smoothing", f"must be 0 with a custom loss ({loss})"


def _of_transfer(settings: Settings) -> Iterator[tuple[str, str]]:
    """A random backbone that is frozen, and unfreezing what is not frozen."""
    freeze = settings.get("train.freeze", "none")
    if freeze != "none" and settings.get("model.weights") == "":
        yield "train.freeze", f'must be "none" without model.weights (got "{freeze}")'
    elif freeze == "none" and settings.get("train.unfreeze_every"):
        yield "train.unfreeze_every", 'must be 0 with train.freeze = "none"'


def _of_final_test(settings: Settings) -> Iterator[tuple[str, str]]:
    if settings.get("test.scales") == []:
        yield "test.scales", "must hold at least one scale, such as 1.0"
