"""Checks of hyperparameters that no training run here shows: the size of the batch."""

from cnntune.findings import Finding
from cnntune.steps.sanity.modes import batch_norms
from cnntune.steps.sanity.subject import Subject

SMALL_BATCH = 4  # images; statistics of fewer are noise (Wu and He 2018: 2 loses points)


def optimizer(subject: Subject) -> list[Finding]:
    """Training with the recipe's hyperparameters must reach what other values reach.

    A learning rate that is too high, weight decay that removes several percent of each weight per
    step, momentum close to 1, or clipping to a tiny norm leave accuracy far below the references of
    `learns`; then each is replaced in turn, and the one whose replacement repairs it is named:
    "42 % with train.weight_decay, 93 % with train.weight_decay = 0". Batch norm needs more than a
    few images per batch. (CS231n, optimisation.)
    """
    train = subject.recipe.train
    found = []
    if train.batch_size < SMALL_BATCH and batch_norms(subject.untrained):
        text = f"batch norm with batches of {train.batch_size}: its statistics are noise"
        found.append(
            Finding("optimizer", "warn", text, "use train.batch_size >= 16, or group norm")
        )
    if len(subject.data.train) < train.batch_size:
        text = f"train.batch_size = {train.batch_size} exceeds the {len(subject.data.train)}"
        text += " training images: an epoch is a single step"
        found.append(Finding("optimizer", "info", text, "lower train.batch_size"))
    return found or [Finding("optimizer", "ok", f"{train.optimizer}, lr {train.lr:.2g}")]
