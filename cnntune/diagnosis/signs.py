"""Secondary signs of a learning curve: what its reader would remark on besides the verdict."""

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from cnntune.diagnosis.curve import (
    END,
    MANY_POINTS,
    MIN_POINTS,
    Shape,
    logged,
    noise,
    row_lost,
    tail_median,
)
from cnntune.runs.chance import Chance

FEW_POINTS = 5  # below: confidence at most one half
ACC_GAP = 0.1  # between train and val at the end; AutoTrainer (ICSE 2021) uses 0.07 and 0.10
LOSS_GAP = 0.25  # of the first train loss, between val and train at the end

LR_ENDED = 0.05  # of the peak rate: the schedule has run out
LR_STEP = 0.5  # of the rate before; schedules that step go down by a half, a fifth or a tenth
NOISY = 0.25  # of the val range, by the median step over the last half
SPIKE = 0.5  # of the range, above what lies around it: no noise that lets a run learn is so large
SPIKE_NOISE = 6  # median steps; of normal noise one value in some 10,000 goes so far
CHANCE = 0.02  # of the loss of guessing, around it
NEAR_ONE_IN = 0.1  # of 1/K: an accuracy this near to it is perhaps that of guessing among K
FELL = 0.5  # of a loss that was far above: in another unit a loss may lie there and not move
EXPLODED = 100.0  # times the loss of guessing, in a log whose losses may be of any unit
USUAL_CLASSES = (*range(2, 11), 20, 100, 200, 1000)  # few, for each K makes a chance hit likelier

MEANINGS = {  # of the signs, in the order in which they are listed
    "no-validation": "no validation curve was logged; the label is that of the training curve",
    "no-train-curve": f"the training curve has fewer than {MIN_POINTS} points",
    "val-not-finite": "a validation loss is NaN or infinite",
    "last-row-lost": "the last row holds NaN in every column; the rows before it decide",
    "few-points": f"fewer than {FEW_POINTS} points; the confidence is at most 0.5",
    "noisy-val": "over the last half, the validation curve jumps by a quarter of its range",
    "transient-spike": "a value far above those around it, from which the run recovered",
    "val-better-than-train": "validation is ahead of training: augmentation, dropout, or an easier"
    " validation set",
    "gap-from-start": "validation was far behind training at the first evaluation already",
    "best-at-start": "validation was best at the first evaluation, and overfitting followed",
    "over-confident": "validation loss rises while validation accuracy holds",
    "at-chance": "accuracy or loss is that of guessing",
    "rate-step": "the learning rate was constant and then dropped by a half or more at once",
    "schedule-ended": f"the learning rate ends at {LR_ENDED:.0%} of its peak or less",
    "stopped-early": "the run has fewer epochs than were planned",
    "saturated-early": "the second half of the run gained next to nothing",
}


def flags_of(
    label: str, problem: str, shape: Shape | None, planned_epochs: int | None = None
) -> list[str]:
    """The signs that the curve shows; none of them decides about its label."""
    if shape is None:
        return []
    values, half = shape.val.values, shape.val.values[len(shape.val) // 2 :]
    rates = shape.curve.series("lr").values
    signs = {
        "no-validation": not shape.val_name.startswith("val"),
        "no-train-curve": len(shape.train) < MIN_POINTS,
        "val-not-finite": not all(map(math.isfinite, logged(shape.curve.val_loss))),
        "last-row-lost": row_lost(shape.curve),
        "few-points": len(values) < FEW_POINTS,
        "noisy-val": len(values) >= MANY_POINTS and noise(half) > NOISY * shape.range,
        "transient-spike": label != "unstable"
        and (has_spike(shape.train.values) or has_spike(values)),
        "val-better-than-train": min(shape.loss_gap or 0.0, shape.acc_gap or 0.0) < -ACC_GAP / 2,
        "gap-from-start": gap_from_start(shape),
        "best-at-start": label == "overfitting" and shape.best == 0,
        "over-confident": problem == "over-confident",
        "at-chance": label == "underfitting"
        and (problem == "guessing" or chance_level(shape) is not None),
        "rate-step": has_step(rates),
        "schedule-ended": bool(rates) and rates[-1] <= LR_ENDED * max(rates),
        "stopped-early": label in ("still-improving", "too-short")
        and planned_epochs is not None
        and len(shape.curve.epochs) < planned_epochs,
        "saturated-early": problem == "converged-early",
    }
    return [name for name in MEANINGS if signs[name]]


def supposed_chance(shape: Shape) -> Chance | None:
    """What guessing gives, where a log shows it: an accuracy of 1/K, and a loss that fits.

    The loss ends at ln K, or it came down from far above while the accuracy never moved. Either
    alone says nothing: half of ten classes are told right at an accuracy of 1/2, too.
    """
    accs = (shape.curve.series("val_acc") or shape.curve.series("train_acc")).values
    losses = shape.train if shape.train_name == "train loss" else shape.val
    if len(accs) < MIN_POINTS or len(losses) < MIN_POINTS or median(accs) < 1 / USUAL_CLASSES[-1]:
        return None
    if shape.train_name != "train loss" and shape.val_name != "val loss":
        return None
    classes = round(1 / median(accs))
    if classes < 2 or abs(classes * median(accs) - 1) > NEAR_ONE_IN:
        return None
    chance = Chance.among(classes)
    never_moved = all(abs(classes * acc - 1) <= NEAR_ONE_IN for acc in accs)
    worst, end = max(losses.values), tail_median(losses.values, END)
    came_down = end <= FELL * worst and worst > EXPLODED * chance.loss
    near = abs(end / chance.loss - 1) <= CHANCE
    return chance if near or (never_moved and came_down) else None


def chance_level(shape: Shape) -> int | None:
    """K where the train loss ends at ln K, the loss of guessing among K classes."""
    if shape.train_name != "train loss" or not len(shape.train):
        return None
    near = {abs(shape.train_end / math.log(classes) - 1): classes for classes in USUAL_CLASSES}
    return near[min(near)] if min(near) <= CHANCE else None


def gap_from_start(shape: Shape) -> bool:
    """Whether val was far behind train at the first evaluation already, and still is.

    Memorising takes a few epochs: such a gap tells of images of another kind, or a broken split.
    """
    if (shape.loss_gap or 0.0) <= LOSS_GAP:
        return False
    train = shape.train.until(shape.val.epochs[0])
    return bool(train) and shape.val.values[0] - train[-1] > LOSS_GAP * shape.unit


def has_spike(values: Sequence[float]) -> bool:
    """Whether a value stands far above the three before and after it; the ends are none."""
    if len(values) < MANY_POINTS:
        return False
    height = max(values[0], values[-1]) - min(values)
    least = max(SPIKE * height, SPIKE_NOISE * noise(values))
    for at in range(2, len(values) - 1):
        before, after = values[max(0, at - 3) : at], values[at + 1 : at + 4]
        if values[at] - min(before) <= least:
            continue  # spares most values the medians
        if values[at] - max(median(before), median(after)) > least:
            return True
    return False


def has_step(rates: Sequence[float]) -> bool:
    """Whether a learning rate that had been held dropped by a half or more at once."""
    held = [earlier == later for earlier, later in pairwise(rates)]
    dropped = [later <= LR_STEP * earlier for earlier, later in pairwise(rates)]
    return any(one and two for one, two in zip(held, dropped[1:], strict=False))
