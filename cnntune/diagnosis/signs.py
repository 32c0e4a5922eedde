"""Secondary signs of a learning curve: what is worth noting besides the label."""

import math
from collections.abc import Sequence
from itertools import pairwise
from operator import sub
from statistics import median

from cnntune.diagnosis.curve import (
    END_FRACTION,
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
START_GAP = 1 / 3  # of what was learned, between val and train at the end and at the first epoch

LR_ENDED = 0.05  # of the peak learning rate: the schedule has ended
LR_STEP = 0.5  # of the previous learning rate; step schedules use factors of 1/2, 1/5 or 1/10
NOISY = 0.25  # of the val range, by the median step over the last half
SPIKE = 0.5  # of the range, above the values around it: a run with so much noise would not learn
SPIKE_NOISE = 6  # standard deviations, by the median distance from the neighbours on either side
NORMAL_MEDIAN = 0.674  # of a standard deviation: the median absolute value of normal noise
CHANCE = 0.02  # of the loss of guessing, around it
NEAR_CHANCE_ACC = 0.1  # of 1/K: an accuracy this near to it may be that of guessing among K
FELL = 0.5  # of a loss that was far above: a loss in another unit may be that high and not move
EXPLODED = 100.0  # times the loss of guessing, in a log whose losses may be of any unit
COMMON_CLASS_COUNTS = (*range(2, 11), 20, 100, 200, 1000)  # few: each K adds coincidences

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


def signs_of(
    label: str, problem: str, shape: Shape | None, planned_epochs: int | None = None
) -> list[str]:
    """The signs that the curve shows; none of them changes its label."""
    if shape is None:
        return []
    values, half = shape.val.values, shape.val.values[len(shape.val) // 2 :]
    lrs = shape.curve.series("lr").values
    signs = {
        "no-validation": not shape.val_name.startswith("val"),
        "no-train-curve": len(shape.train) < MIN_POINTS,
        "val-not-finite": not all(map(math.isfinite, logged(shape.curve.val_loss))),
        "last-row-lost": row_lost(shape.curve),
        "few-points": len(values) < FEW_POINTS,
        "noisy-val": len(values) >= MANY_POINTS and noise(half) > NOISY * shape.range,
        "transient-spike": label != "unstable"
        and (has_spike(shape.train.values) or has_spike(values)),
        "val-better-than-train": min(shape.gap, shape.acc_gap or 0.0) < -ACC_GAP / 2,
        "gap-from-start": gap_from_start(shape),
        "best-at-start": label == "overfitting" and shape.best == 0,
        "over-confident": problem == "over-confident",
        "at-chance": label == "underfitting"
        and (problem == "guessing" or chance_level(shape) is not None),
        "rate-step": has_step(lrs),
        "schedule-ended": bool(lrs) and lrs[-1] <= LR_ENDED * max(lrs),
        "stopped-early": label in ("still-improving", "too-short")
        and planned_epochs is not None
        and len(shape.curve.epochs) < planned_epochs,
        "saturated-early": problem == "converged-early",
    }
    return [name for name in MEANINGS if signs[name]]


def supposed_chance(shape: Shape) -> Chance | None:
    """What guessing gives, inferred from the log: an accuracy of 1/K, and a loss that matches.

    The loss ends at ln K, or it fell from far above while the accuracy never moved. Neither is
    enough alone: an accuracy of 1/2 on ten classes is not that of guessing.
    """
    accs = (shape.curve.series("val_acc") or shape.curve.series("train_acc")).values
    losses = shape.train if shape.train_name == "train loss" else shape.val
    if (
        len(accs) < MIN_POINTS
        or len(losses) < MIN_POINTS
        or median(accs) < 1 / COMMON_CLASS_COUNTS[-1]
    ):
        return None
    if shape.train_name != "train loss" and shape.val_name != "val loss":
        return None
    classes = round(1 / median(accs))
    if classes < 2 or abs(classes * median(accs) - 1) > NEAR_CHANCE_ACC:
        return None
    chance = Chance.among(classes)
    never_moved = all(abs(classes * acc - 1) <= NEAR_CHANCE_ACC for acc in accs)
    worst, end = max(losses.values), tail_median(losses.values, END_FRACTION)
    came_down = end <= FELL * worst and worst > EXPLODED * chance.loss
    near = abs(end / chance.loss - 1) <= CHANCE
    return chance if near or (never_moved and came_down) else None


def chance_level(shape: Shape) -> int | None:
    """K where the train loss ends at ln K, the loss of guessing among K classes."""
    if shape.train_name != "train loss" or not len(shape.train):
        return None
    near = {
        abs(shape.train_end / math.log(classes) - 1): classes for classes in COMMON_CLASS_COUNTS
    }
    return near[min(near)] if min(near) <= CHANCE else None


def gap_from_start(shape: Shape) -> bool:
    """Whether val was far worse than train at the first evaluation already, and still is.

    Memorising takes a few epochs: such a gap points to images of another kind or a broken split.
    """
    if shape.gap <= START_GAP:
        return False
    train = shape.train.until(shape.val.epochs[0])
    learned = shape.start - shape.train_end
    return bool(train) and learned > 0 and shape.val.values[0] - train[-1] > START_GAP * learned


def has_spike(values: Sequence[float]) -> bool:
    """Whether a value is far above the three before and after it; the ends do not count."""
    return bool(spikes(values))


def spikes(values: Sequence[float]) -> list[int]:
    """The places of the values far above the three before and the three after them.

    The first two and the last are not considered: a first epoch may be far above the second, and
    what follows the last is unknown.
    """
    if len(values) < MANY_POINTS:
        return []
    height = SPIKE * (max(values[0], values[-1]) - min(values))
    if max(map(sub, values[1:], values)) <= height / 3:
        return []  # no step up is a third of what three of them would have to be
    inner = range(2, len(values) - 1)
    if not any(values[at] - min(values[max(0, at - 3) : at]) > height for at in inner):
        return []  # cheaper than the medians, and true of most curves
    sides = [(median(values[max(0, at - 3) : at]), median(values[at + 1 : at + 4])) for at in inner]
    above = [value - max(pair) for value, pair in zip(values[2:], sides, strict=False)]
    scatter = median(map(abs, above)) / NORMAL_MEDIAN
    wanted = max(height, SPIKE_NOISE * scatter)
    return [place for place, size in enumerate(above, 2) if size > wanted]


def has_step(lrs: Sequence[float]) -> bool:
    """Whether a constant learning rate dropped by a half or more in one epoch."""
    held = [earlier == later for earlier, later in pairwise(lrs)]
    dropped = [later <= LR_STEP * earlier for earlier, later in pairwise(lrs)]
    return any(one and two for one, two in zip(held, dropped[1:], strict=False))
