"""Learning curves drawn by hand, one of each label, and what draws more of them."""

import math
from collections.abc import Callable

from cnntune.diagnosis.curve import Curve, Values

NAN = float("nan")


def run(
    train_loss: Values = (),
    val_loss: Values = (),
    train_acc: Values = (),
    val_acc: Values = (),
    lr: Values = (),
) -> Curve:
    """A curve with epochs counted from 1."""
    lists = [list(values) for values in (train_loss, val_loss, train_acc, val_acc, lr)]
    return Curve([float(epoch + 1) for epoch in range(max(map(len, lists)))], *lists)


def every(function: Callable[[int], float], epochs: int) -> list[float]:
    return [function(epoch) for epoch in range(epochs)]


def decay(start: float, end: float, rate: float, epochs: int) -> list[float]:
    """An exponential fall from `start` towards `end`."""
    return every(lambda epoch: end + (start - end) * math.exp(-rate * epoch), epochs)


OVERFITTING = run(
    train_loss=[2.0, 1.4, 1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.12, 0.09, 0.06, 0.04],
    val_loss=[2.0, 1.5, 1.2, 1.05, 1.0, 1.04, 1.1, 1.2, 1.3, 1.42, 1.55, 1.7],
    train_acc=[0.3, 0.5, 0.65, 0.75, 0.82, 0.88, 0.92, 0.94, 0.96, 0.97, 0.98, 0.99],
    val_acc=[0.3, 0.48, 0.58, 0.62, 0.65, 0.65, 0.64, 0.63, 0.62, 0.61, 0.61, 0.6],
)
STUCK = run(
    train_loss=[2.306, 2.304, 2.303, 2.303, 2.302, 2.303, 2.303, 2.302],
    val_loss=[2.304, 2.303, 2.304, 2.303, 2.303, 2.304, 2.303, 2.303],
    val_acc=[0.1, 0.11, 0.1, 0.1, 0.09, 0.1, 0.1, 0.1],
)
IMPROVING = run(
    train_loss=[2.2, 2.0, 1.8, 1.62, 1.45, 1.3, 1.16, 1.03, 0.9, 0.8],
    val_loss=[2.25, 2.05, 1.86, 1.7, 1.55, 1.41, 1.28, 1.16, 1.06, 0.97],
    train_acc=[0.2, 0.28, 0.35, 0.41, 0.47, 0.52, 0.57, 0.62, 0.67, 0.71],
    val_acc=[0.18, 0.26, 0.33, 0.39, 0.44, 0.49, 0.54, 0.58, 0.62, 0.65],
)
CONVERGED = run(
    train_loss=decay(2.3, 0.2, 0.6, 30),
    val_loss=decay(2.3, 0.3, 0.6, 30),
    train_acc=every(lambda epoch: 0.95 - 0.85 * math.exp(-0.6 * epoch), 30),
    val_acc=every(lambda epoch: 0.92 - 0.82 * math.exp(-0.6 * epoch), 30),
)
EXPLODED = run(
    train_loss=[2.3, 1.9, 1.7, 1.6, 2.9, 4.8, 6.5, 7.0],
    val_loss=[2.2, 1.9, 1.7, 1.7, 3.1, 4.9, 6.6, 7.2],
    val_acc=[0.2, 0.3, 0.38, 0.4, 0.2, 0.12, 0.1, 0.1],
)
LABELLED = {
    "overfitting": OVERFITTING,
    "underfitting": STUCK,
    "still-improving": IMPROVING,
    "converged": CONVERGED,
    "unstable": EXPLODED,
}
