"""Label a run's learning curves and give advice (CS231n step 6: look at loss and accuracy curves).

Each rule is a function whose docstring is the lesson; the first rule that matches decides the
label. Thresholds are shares: of what was learned (the fall of val from its start to its best), of
the first loss, or of the noise of the curve itself, so the unit of the loss does not matter.
The shares of a gap, a rise and a fall were set on the labels of 172 public logs; what
concerns a poor fit, spikes and swings was set on the synthetic curves of
benchmarks/diagnosis/diagnosis_robustness.py, since few public logs show it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

from cnntune.diagnosis.advice import (
    DECAY_LR,
    FIND_NAN,
    Prescription,
    Settings,
    advice_for,
    prescriptions,
)
from cnntune.diagnosis.curve import (
    END_FRACTION,
    MANY_POINTS,
    MIN_POINTS,
    MIN_SMOOTH_POINTS,
    Curve,
    Shape,
    fall,
    fall_error,
    fraction,
    known_loss,
    last_third,
    log_ratio,
    logged,
    measure,
    noise,
    rolling_median,
    row_lost,
    scatter,
    slope,
    steps,
    tail_median,
    without_duplicates,
)
from cnntune.diagnosis.signs import (
    ACC_GAP,
    CHANCE,
    FEW_POINTS,
    chance_level,
    signs_of,
    spikes,
    supposed_chance,
)
from cnntune.findings import Severity
from cnntune.runs.chance import Chance
from cnntune.texts import counted

Label = Literal[
    "overfitting", "underfitting", "still-improving", "converged", "unstable", "too-short"
]

NOTICEABLE = 0.1  # of the first loss: a smaller rise is noise, a smaller fall is no learning
HALF = 0.5  # of what the train loss fell, lost again by the end
SWING = 0.5  # of the level, by the median distance of a value from the mean of its neighbours
MIN_SWINGS = 6  # steps after the first quarter; fewer may be chance
MIN_SPIKES = 3  # one is an accident, two a coincidence
SPIKE_SHARE = 0.02  # of the points: a long run that recovered from all of them is sound
WORSE_THAN_CHANCE = 10.0  # times the loss of guessing; a calibrated network stays near it

UNLEARNED = 0.25  # share of wrong answers times share of the loss left: half of either
RISE = 0.045  # geometric mean of a rise's share of what was learned and its log ratio to the best
GAP = 0.6  # geometric mean of the gap's share of what was learned and the log ratio of val to train
IMPROVING = 0.05  # of what was learned, gained over the last third
NOISE = 2.0  # median steps, or standard errors, within which a change is chance
GAINED = 0.02  # of all answers, by val accuracy over the last third: worth more epochs
SAME_ACC = 0.005  # half a point below its best: val accuracy has not fallen
SATURATED = 0.02  # of what was learned, gained over the last half

JUMPS = (
    10.0  # median steps above the reference within which a loss that stays there is thrown about
)

NEAR = 0.5  # of a threshold: beyond it the label that it decides is possible too
MAX_MARGIN = 10.0  # of a measurement beyond its threshold that noise may have raised
UNVALIDATED = 0.6  # the confidence in a label that validation could overturn


@dataclass(frozen=True)
class Diagnosis:
    """The diagnosis of a run: one label, the confidence in it, the evidence, and what to change.

    `confidence` is in 0..1; `also` holds labels that would be acceptable too; `best_epoch` is that
    of the lowest val loss (highest val accuracy where no val loss was logged), and `last_epoch`
    that of the last entry, both in `unit`; `epochs` is the number of entries; `flags` are
    secondary signs, see `signs.signs_of`; `prescriptions` are the changes of recipe keys in the
    advice, where the settings are known, and `change` is the first key and its new value.
    """

    label: Label
    confidence: float
    severity: Severity
    evidence: str
    advice: list[str] = field(default_factory=list)
    also: list[Label] = field(default_factory=list)
    best_epoch: float | None = None
    epochs: int = 0
    last_epoch: float | None = None
    unit: Literal["epoch", "step"] = "epoch"
    flags: list[str] = field(default_factory=list)
    change: tuple[str, Any] | None = None
    prescriptions: list[Prescription] = field(default_factory=list)


@dataclass(frozen=True)
class Verdict:
    """What a rule found; `margin` is the factor by which the threshold was exceeded, from 1 on."""

    label: Label
    problem: str
    evidence: str
    margin: float
    severity: Severity
    also: tuple[Label, ...] = ()


def diverged(curve: Curve, planned_epochs: int | None = None) -> Verdict | None:
    """A loss that ends as NaN or infinity: the steps were too large, or the data is broken.

    A NaN followed by numbers is no divergence, nor is a single NaN row at the end; a column without
    any number was never logged. But where no loss is finite and accuracy did not improve, the run
    diverged in its first steps.
    """
    name = known_loss(curve)
    numbers = curve.series(name)
    losses = logged(getattr(curve, name))
    broken = len(numbers) and not math.isfinite(losses[-1])
    if broken and (planned_epochs is not None or not row_lost(curve)):
        text = f"{name.replace('_', ' ')} is not finite after {curve.unit} {numbers.epochs[-1]:g}"
        return Verdict("unstable", "diverged", text, math.inf, "fail")
    accuracy = curve.series("val_acc").values
    learned = accuracy and max(accuracy) - accuracy[0] > NOTICEABLE
    if len(numbers) or learned or not (losses or logged(curve.train_loss)):
        return None
    return Verdict("unstable", "diverged", "no logged loss is finite", math.inf, "fail")


def train_loss_rises(shape: Shape) -> Verdict | None:
    """A train loss that rises again has stopped learning: the learning rate is too high.

    A val loss that rises while the train loss falls is overfitting; where no train loss was
    logged, val has to end well above its first value.
    """
    known = len(shape.train) >= MIN_POINTS
    name, held = (shape.train_name, shape.train) if known else (shape.val_name, shape.val)
    values = rolling_median(held.values, MIN_SMOOTH_POINTS)
    first, low, last = values[0], min(values), tail_median(held.values, END_FRACTION)
    back, noticeable = last - low, NOTICEABLE * abs(first)
    if back <= max(HALF * (first - low), noticeable):
        return None
    if not known and last - first <= noticeable:
        return None
    fell = f", fell to {low:.3g}" if low < first else ""
    text = f"{name} started at {first:.3g}{fell} and ended at {last:.3g}"
    return Verdict("unstable", "diverged", text, ratio(back, noticeable), "fail")


def swings(shape: Shape) -> Verdict | None:
    """A curve that jumps up and down: the steps overshoot, and each evaluates another network.

    A train loss by half of its level and by a tenth of its first value, or a val accuracy by a
    tenth of all answers. A validation set of a few samples swings as much by chance.
    """
    loss = shape.train_name == "train loss"
    for name, values, level in (
        (shape.train_name, shape.train.values if loss else [], SWING),
        ("val accuracy", shape.curve.series("val_acc").values, 0.0),
    ):
        settled = values[len(values) // 4 :]
        if len(steps(settled)) < max(MIN_SWINGS, len(settled) // 2):
            continue  # it rests most of the time
        size, unit = scatter(settled), abs(values[0]) if level else 1.0
        wanted = max(level * median(map(abs, settled)), NOTICEABLE * unit)
        if size > wanted:
            text = f"{name} jumps up and down by {size:.3g} per {shape.curve.unit}, between"
            text += f" {min(settled):.3g} and {max(settled):.3g}"
            also: tuple[Label, ...] = () if level else ("still-improving",)
            margin = min(1 / NEAR, ratio(size, wanted))
            return Verdict("unstable", "oscillating", text, margin, "warn", also)
    return None


def spikes_often(shape: Shape) -> Verdict | None:
    """A train loss that jumps far above its neighbours again and again: the steps are too large.

    One spike from which the run recovers is a sign only. Val loss spikes also where the running
    statistics of batch norm lag, so it counts only if no train loss was logged.
    """
    known = len(shape.train) >= MIN_POINTS
    name, held = (shape.train_name, shape.train) if known else (shape.val_name, shape.val)
    found = spikes(held.values)
    wanted = max(MIN_SPIKES, SPIKE_SHARE * len(held))
    if len(found) < wanted:
        return None
    at = ", ".join(f"{held.epochs[place]:g}" for place in found[:MIN_SPIKES])
    text = (
        f"{name} jumps far above the values around it {len(found)} times ({shape.curve.unit}s {at}"
    )
    text += ", ...)" if len(found) > MIN_SPIKES else ")"
    return Verdict("unstable", "oscillating", text, ratio(len(found), wanted - 1), "warn")


def guessing(shape: Shape) -> Verdict | None:
    """A network no better than guessing has learned nothing, whatever its loss did.

    log C is the loss of uniform predictions (CS231n step 1): falling to it, even steadily, is not
    learning yet. A loss that is, or was, an order of magnitude higher means confident wrong
    predictions: the steps were so large that the weights exploded.
    """
    supposed = supposed_chance(shape)
    chance = shape.chance or supposed
    if chance is None or chance.loss <= 0:
        return None
    name, held = shape.train_name, shape.train
    if name != "train loss" or len(held) < MIN_POINTS:
        name, held = shape.val_name, shape.val
    loss = name.endswith("loss")
    end, worst = tail_median(held.values, END_FRACTION), max(held.values)
    far = f"far above the loss of guessing ({chance.loss:.4g})"
    if loss and end > WORSE_THAN_CHANCE * chance.loss:
        margin = ratio(end, WORSE_THAN_CHANCE * chance.loss)
        return Verdict("unstable", "diverged", f"{name} ends at {end:.4g}, {far}", margin, "fail")
    chance = chance if chance.tells else supposed
    accs = (shape.curve.series("val_acc") or shape.curve.series("train_acc")).values
    if chance is None or not accs:
        return None
    if chance.beaten_by(max(accs)):
        return _unlearned_again(shape, chance) if loss else None
    if not loss:
        return _no_better(chance, accs, "no loss was logged")
    if end < (1 - CHANCE) * chance.loss:
        return None
    if worst > WORSE_THAN_CHANCE * chance.loss:
        text = f"{name} was {worst:.4g}, {far}, and accuracy is {max(accs):.3g} at best"
        return Verdict(
            "unstable", "diverged", text, ratio(worst, WORSE_THAN_CHANCE * chance.loss), "fail"
        )
    return _no_better(chance, accs, f"{name} ends at {end:.4g}")


def _unlearned_again(shape: Shape, chance: Chance) -> Verdict | None:
    """A network that was better than guessing and ends as one that guesses, in loss and accuracy.

    It has lost what it had learned: one step too large has thrown its weights out of reach.
    """
    name = "val" if shape.curve.series("val_acc") else "train"
    known, losses = shape.curve.series(f"{name}_acc"), shape.train
    if shape.train_name != "train loss" or len(losses) < MIN_POINTS:
        losses = shape.val
    best, last = max(known.values), tail_median(known.values, END_FRACTION)
    end = tail_median(losses.values, END_FRACTION)
    dropped = best - last
    if chance.beaten_by(last) or dropped <= NOTICEABLE or end < (1 - CHANCE) * chance.loss:
        return None
    at = known.epochs[known.values.index(best)]
    text = f"{name} accuracy was {best:.3g} in {shape.curve.unit} {at:g} and ended at {last:.3g},"
    text += f" with a loss of {end:.4g}; guessing gives {chance.acc:.3g} and {chance.loss:.4g}"
    return Verdict("unstable", "diverged", text, ratio(dropped, NOTICEABLE), "fail")


def no_better_than_chance(shape: Shape) -> Verdict | None:
    """A flat curve whose validation accuracy is that of guessing: not converged, but failed."""
    accs, chance = shape.curve.series("val_acc").values, shape.chance
    if chance is None or not chance.tells or not accs or chance.beaten_by(max(accs)):
        return None
    return _no_better(chance, accs, f"{shape.val_name} ends at {shape.end:.4g}")


def _no_better(chance: Chance, accs: Sequence[float], text: str) -> Verdict:
    text += f" and accuracy is {max(accs):.3g} at best; guessing gives {chance.loss:.4g}"
    text += f" and {chance.acc:.3g}"
    margin = min(MAX_MARGIN, ratio(chance.noise, max(0.0, max(accs) - chance.acc)))
    return Verdict("underfitting", "guessing", text, margin, "warn")


def stuck(shape: Shape) -> Verdict | None:
    """A loss that hardly changes: the learning rate is far off, or something is broken.

    The network, the labels or the inputs may be at fault: repeat steps 1-3. A slow but steady fall
    that would gain a twentieth of the first loss in another run as long is `still_improving`.
    Where accuracy is known, `poorly_fitted` decides how much of it is unlearned.
    """
    if len(shape.train) < MIN_POINTS or shape.train_fall >= NOTICEABLE:
        return None
    train = shape.train.values
    rate = fall(last := last_third(train)) * len(train) / len(last)
    steady = fall(last) > NOISE * fall_error(last) and rate > NEAR * NOTICEABLE * abs(train[0])
    accuracy = best_accuracy(shape)[1]
    unlearned_part = 1.0 if accuracy is None else (1 - accuracy) * loss_left(shape)
    fell_on_val = shape.val_fall >= 2 * NOTICEABLE  # twice: a small validation set is noisy
    if steady or fell_on_val or unlearned_part <= UNLEARNED:
        return None
    first, end, fell = train[0], shape.train_end, shape.train_fall
    text = f"{shape.train_name} went from {first:.4g} to {end:.4g}, a change of {-fell:+.1%}"
    known = shape.chance or supposed_chance(shape)  # a loss alone does not say how many classes
    if known and (classes := chance_level(shape)):
        text += f"; guessing among {classes} classes gives ln {classes} = {math.log(classes):.4g}"
    margin = min(MAX_MARGIN, ratio(NOTICEABLE, max(fell, 0.0)))
    problem, where = "stuck", reference_loss(shape)
    if fall(train) > NOISE * fall_error(train):
        problem = "stuck-slow"
        text += ", slowly but steadily"
    elif where is not None and jumps_above(train, where):
        problem = "stuck-above"
        rose = "stays" if train[0] >= where else "rose and stays"
        text += f"; it {rose} above {where:.4g}: the steps are too large to come down"
    return Verdict("underfitting", problem, text, margin, "warn", ("converged",))


def reference_loss(shape: Shape) -> float | None:
    """What a train loss has to go below: that of guessing if it is known, else its first value.

    None of an error rate, which does not say whether a network is worse than none.
    """
    if shape.train_name != "train loss":
        return None
    chance = shape.chance or supposed_chance(shape)
    if chance is not None:
        return chance.loss
    classes = chance_level(shape)
    return math.log(classes) if classes else shape.train.values[0]


def jumps_above(losses: Sequence[float], reference: float) -> bool:
    """Whether losses stay above the reference, by no more than a few of their own steps.

    Too large steps throw a network about, just above the loss of one that predicts nothing; with
    too small ones the loss keeps the value of the initial weights, whatever that is.
    """
    later = losses[1:]
    excess = median(later) - reference
    return min(later) > reference and 0 < excess <= JUMPS * noise(losses)


def val_rises(shape: Shape) -> Verdict | None:
    """Val gets worse while train gets better: the network memorises its training set.

    Regularise, or get more data, and keep the weights of the best epoch.
    """
    since = shape.val.epochs[shape.best]
    chance = NOISE * noise(shape.val.values[shape.best :])
    near_zero = shape.end <= SATURATED * shape.start  # a change of which alters no prediction
    if not shape.has_both or near_zero or shape.rise <= chance or rise_score(shape) <= RISE:
        return None
    before = shape.train.until(since) or shape.train.values
    then, now = tail_median(before, 1 / len(before)), shape.train_end
    if fraction(then - now, then) <= IMPROVING:
        return None
    if shape.gap < 0:
        return None  # val is still lower than train: the training set is augmented or mixed
    best = f"{shape.smooth[shape.best]:.3g} ({shape.curve.unit} {since:g})"
    text = f"{shape.val_name} rose from {best} to {shape.end:.3g}"
    text += f" while {shape.train_name} fell from {then:.3g} to {now:.3g}"
    margin = ratio(rise_score(shape), RISE)
    if not accuracy_holds(shape):
        return Verdict("overfitting", "overfitting", text, margin, "warn")
    text += "; val accuracy did not fall"
    margin = min(margin, 2.0)
    return Verdict("overfitting", "over-confident", text, margin, "info", ("converged",))


def still_improving(shape: Shape) -> Verdict | None:
    """A val curve that still falls at the end: longer training is the cheapest improvement."""
    wanted = IMPROVING * shape.range
    if shape.comparable and len(shape.train):
        wanted = max(wanted, SATURATED * abs(shape.train.values[0]))  # most was learned before val
    if shape.range <= 0 or shape.trend <= wanted or not trusted(shape):
        return None
    share = min(1.0, shape.trend / shape.range)
    text = (
        f"{shape.val_name} fell to {shape.end:.3g}, by {share:.0%} of its range over the last"
        f" {len(shape.last_third)} points"
    )
    margin = ratio(shape.trend, wanted)
    also: list[Label] = ["converged"] if margin < 1 / NEAR else []
    gap = (shape.acc_gap or 0.0) > ACC_GAP
    if gap or (gap_score(shape) > NEAR * GAP and not bounded_gap(shape)):
        also.append("overfitting")
        text += f", although {shape.train_name} is at {shape.train_end:.3g}"
    if len(shape.val) < FEW_POINTS:
        also.append("too-short")
    return Verdict("still-improving", "still-improving", text, margin, "info", tuple(also))


def trusted(shape: Shape) -> bool:
    """Whether the fall of val over the last third is more than chance.

    Of few points, a last one that is the best confirms the fall: their scatter about a line is
    mostly the bend of the curve.
    """
    values = shape.val.values
    if len(values) < MANY_POINTS and values[-1] < min(values[:-1]):
        return True
    beyond = shape.trend > NOISE * fall_error(shape.last_third)
    return beyond and len(values) >= FEW_POINTS


def contradictory(shape: Shape) -> Verdict | None:
    """Three or four points that rise and fall: another epoch could turn any label around."""
    values, moves = shape.val.values, steps(shape.val.values)
    both_ways = min(max(moves, default=0.0), -min(moves, default=0.0))
    if len(values) >= FEW_POINTS or both_ways <= IMPROVING * abs(shape.start):
        return None
    listed = ", ".join(f"{value:.3g}" for value in values)
    text = f"{shape.val_name} is {listed}: {len(values)} points that contradict each other"
    other: tuple[Label, ...] = ("still-improving", "converged")
    return Verdict("too-short", "too-short", text, 1.0, "info", other)


def large_gap(shape: Shape) -> Verdict | None:
    """Val is far above train: the lecture's "big gap = overfitting".

    Regularise more, or get more data. Where both accuracies are known they decide, also while val
    still falls, unless the gap is a lag; so too where val accuracy is so close to 1 that no large
    gap is possible. A gap of losses counts by the share of what training learned that val did not
    follow, and by their ratio: two losses near zero are far apart only as a ratio, and those of a
    poor fit only as a share.
    """
    acc_gap, score = shape.acc_gap or 0.0, 0.0 if bounded_gap(shape) else gap_score(shape)
    if not shape.has_both or (acc_gap <= ACC_GAP and score <= GAP):
        return None
    improves = still_improving(shape) is not None
    if improves and (acc_gap <= ACC_GAP or lags(shape, acc_gap)):
        return None
    text = f"{shape.val_name} ends at {shape.end:.3g}, {shape.train_name} at "
    text += f"{shape.train_end:.3g}"
    if acc_gap > ACC_GAP:
        text += f"; val accuracy is {100 * acc_gap:.0f} points below train accuracy"
    else:
        text += f"; val did not follow {shape.gap:.0%} of what training learned"
    margin = max(ratio(acc_gap, ACC_GAP), ratio(score, GAP))
    other: Label = "still-improving" if improves else "converged"
    return Verdict("overfitting", "overfitting", text, margin, "warn", (other,))


def lags(shape: Shape, acc_gap: float) -> bool:
    """Whether val accuracy gains as much per evaluation as it is behind train accuracy.

    Then it is an evaluation late, as at the start of every run, and memorises nothing yet. Of few
    points, each better than the one before, the gain per evaluation is too uncertain to tell.
    """
    if len(shape.val) < FEW_POINTS:
        return True
    return slope(last_third(shape.curve.series("val_acc").values)) >= acc_gap


def gap_score(shape: Shape) -> float:
    """The gap as a share of what was learned and as a log ratio: their geometric mean."""
    share = shape.gap
    return math.sqrt(share * log_ratio(shape.end, shape.train_end)) if share > 0 else 0.0


def bounded_gap(shape: Shape) -> bool:
    """Whether accuracies say how large the gap is, or can be."""
    accuracy = shape.curve.end("val_acc")
    return shape.acc_gap is not None or (accuracy is not None and 1 - accuracy <= ACC_GAP)


def rise_score(shape: Shape) -> float:
    """The rise of val since its best, as a share of what was learned and as a log ratio.

    Their geometric mean: a loss near zero may double, and one that hardly fell may lose all of it.
    """
    share = 1.0 if shape.range <= 0 else min(1.0, shape.rise / shape.range)
    return math.sqrt(max(0.0, share) * log_ratio(shape.end, shape.smooth[shape.best]))


def too_weak(shape: Shape, reference: Shape | None) -> Verdict | None:
    """No gap, but worse than another run on both train and val: the lecture's "increase capacity".

    Without that other run and without accuracies, a plateau cannot be distinguished from
    convergence.
    """
    if reference is None or not (shape.has_both and reference.has_both):
        return None
    names = (shape.train_name, shape.val_name)
    if names != (reference.train_name, reference.val_name):
        return None
    on_train = fraction(shape.train_end - reference.train_end, shape.train.values[0])
    on_val = fraction(shape.end - min(reference.smooth), shape.val.values[0])
    if min(on_train, on_val) <= NOTICEABLE:
        return None
    text = f"{names[0]} ends at {shape.train_end:.3g} and {names[1]} at {shape.end:.3g}; "
    text += f"the best run reached {reference.train_end:.3g} and {min(reference.smooth):.3g}"
    margin = ratio(min(on_train, on_val), NOTICEABLE)
    return Verdict("underfitting", "too-weak", text, margin, "warn", ("converged",))


def poorly_fitted(shape: Shape) -> Verdict | None:
    """A flat curve far from a solution, also on the training set: "increase capacity" (CS231n).

    Measured by what is unlearned: the share of wrong answers times the share of the first loss that
    is left. The better of the two accuracies counts, since augmentation lowers that of training.
    Where the loss more than halved, wrong answers are those of a hard task, such as predicting the
    next word or one of 1000 classes: there `levelled_off` names both labels.
    """
    left, limit = unlearned(shape)
    if left <= limit or loss_left(shape) < HALF:
        return None
    train = shape.curve.series("train_acc").values
    if len(train) >= MIN_POINTS and fall(errors := [1 - acc for acc in last_third(train)]) > max(
        IMPROVING * (max(train) - min(train)), NOISE * fall_error(errors)
    ):
        return None  # train accuracy still rises
    name, best = best_accuracy(shape)
    text = f"{name} accuracy levelled off at {best:.3g}"
    if shape.train_name == "train loss" and len(shape.train):
        text += f" and train loss at {shape.train_end:.3g} of {first_loss(shape):.3g}"
    text += ": the network does not fit its training set"
    also: tuple[Label, ...] = ("converged",) if left < 2 * limit else ()
    return Verdict("underfitting", "too-weak", text, ratio(left, limit), "warn", also)


def unlearned(shape: Shape) -> tuple[float, float]:
    """How much is unlearned in 0..1, and the limit beyond which a network is poorly fitted.

    0.0 where no accuracy was logged. Without train accuracy the limit is twice as high, since the
    val score may be an mAP or IoU.
    """
    _, best = best_accuracy(shape)
    if best is None:
        return 0.0, UNLEARNED
    known = len(shape.curve.series("train_acc")) >= MIN_POINTS
    return (1 - best) * loss_left(shape), UNLEARNED if known else 2 * UNLEARNED


def loss_left(shape: Shape) -> float:
    """The part of the first train loss that is left at the end, in 0..1; 1.0 where it is unknown.

    The loss of guessing counts as the first one where it is known, since one epoch lowers it.
    """
    if not len(shape.train):
        return 1.0
    first = first_loss(shape)
    return min(1.0, max(0.0, shape.train_end / abs(first))) if first else 1.0


def best_accuracy(shape: Shape) -> tuple[str, float | None]:
    """The higher of train and val accuracy at the end, and which of them it is."""
    ends = {name: shape.curve.end(f"{name}_acc") for name in ("train", "val")}
    known = {name: end for name, end in ends.items() if end is not None}
    return max(known.items(), key=lambda one: one[1]) if known else ("train", None)


def first_loss(shape: Shape) -> float:
    """The first train loss, or the loss of guessing if that is known and higher."""
    first = shape.train.values[0]
    known = shape.chance is not None and shape.train_name == "train loss"
    return max(first, shape.chance.loss) if known and shape.chance else first


def levelled_off(shape: Shape) -> Verdict:
    """The curve is flat and no other rule matched: more epochs would not help.

    A run that gained next to nothing in its second half was too long.
    """
    best = min(shape.val.values)
    text = f"{shape.val_name} levelled off at {shape.end:.3g}; its best was {best:.3g}"
    validated = shape.val_name.startswith("val")
    rises = validated and shape.rise > NOISE * noise(shape.val.values)
    rise = rise_score(shape) / RISE if rises else 0.0
    alone = rise > 1 and not shape.has_both
    gap = max(ratio(shape.acc_gap or 0, ACC_GAP), gap_score(shape) / GAP)
    trend = max(ratio(shape.trend, IMPROVING * shape.range), ratio(accuracy_gain(shape), GAINED))
    poor = ratio(*unlearned(shape))
    name, accuracy = best_accuracy(shape)
    also: list[Label] = ["still-improving"] if trend > NEAR else []
    if poor > NEAR:
        also.append("underfitting")
        text += f"; {name} accuracy is {accuracy:.3g}, so a larger network may fit better"
    elif accuracy is None and len(shape.train) and loss_left(shape) > 1 - NOTICEABLE / NEAR:
        also.append("underfitting")
        poor = NEAR
        text += "; without accuracy, underfitting cannot be ruled out"
    problem = "converged-early" if shape.second_half <= SATURATED * shape.range else "converged"
    if max(gap, rise) > NEAR:
        also.append("overfitting")
        problem = "converged-with-gap"
    if not shape.val_name.startswith("val"):
        text += "; without a validation curve, overfitting cannot be ruled out"
    if alone:
        text += "; without a train curve, overfitting cannot be ruled out"
    margin = ratio(1.0, max(trend, gap, rise, poor, 0.1))
    severity: Severity = "warn" if alone else "ok"
    return Verdict("converged", problem, text, margin, severity, tuple(also))


def accuracy_gain(shape: Shape) -> float:
    """How much val accuracy rose over the last third, where that is more than chance; else 0.0."""
    accs = shape.curve.series("val_acc").values
    if len(accs) < MIN_POINTS or max(last := last_third(accs)) - min(last) <= NEAR * GAINED:
        return 0.0
    gain, error = -fall(last), fall_error(last)
    return gain if gain > NOISE * error else 0.0


RULES: tuple[Callable[[Shape], Verdict | None], ...] = (
    train_loss_rises,
    swings,
    spikes_often,
    guessing,
    stuck,
    val_rises,
    large_gap,
    still_improving,
    contradictory,
    no_better_than_chance,
)


def diagnose(
    curve: Curve,
    *,
    planned_epochs: int | None = None,
    reference: Curve | None = None,
    settings: Settings | None = None,
    chance: Chance | None = None,
) -> Diagnosis:
    """Label one run. Raises nothing, whatever the curve holds.

    `planned_epochs` is the number of epochs in the recipe, which may exceed those trained;
    `reference` is the study's best run, which distinguishes underfitting from convergence;
    `settings` maps flat recipe keys to their values, so that the advice can name them; `chance` is
    what guessing gives on the validation set, where that is known.
    """
    curve = without_duplicates(curve)
    shape = measure(curve, chance)
    other = measure(without_duplicates(reference)) if reference else None
    verdict = diverged(curve, planned_epochs) or judge(curve, shape, other)
    signs = signs_of(verdict.label, verdict.problem, shape, planned_epochs)
    prescribed = [] if "stopped-early" in signs else prescriptions(verdict.problem, settings)
    lost = "last-row-lost" in signs and verdict.label != "unstable"
    advice = advice_for(verdict.problem, settings)
    same_kind = "check that training and validation data are of the same kind"
    if "val-not-finite" in signs and verdict.problem != "diverged":
        advice.insert(0, "check the validation set and its evaluation: val loss is not finite")
    if all(map(math.isfinite, (*logged(curve.train_loss), *logged(curve.val_loss)))):
        head = FIND_NAN.partition(":")[0]  # after it the command may be another
        advice = [line for line in advice if not line.startswith(head)]
    if {"schedule-ended", "rate-step"} & set(signs):
        advice = [line for line in advice if line != DECAY_LR.general]
    if "stopped-early" in signs:
        advice = [f"let the run complete its {planned_epochs} epochs"]
    if verdict.label == "overfitting" and "gap-from-start" in signs:
        advice.insert(0, f"{same_kind}: val was far worse from the start")
    elif "best-at-start" in signs:
        advice.insert(0, f"{same_kind}: val only got worse")
    if verdict.label == "overfitting" and shape and shape.best_epoch < shape.val.epochs[-1]:
        last = shape.val.epochs[-1]
        advice.append(
            f"keep the weights of the best {curve.unit}, {shape.best_epoch:g} of {last:g}"
        )
    if verdict.label == "still-improving" and "schedule-ended" in signs:
        advice.append("stretch the schedule over the longer run: the learning rate has decayed")
    return Diagnosis(
        label=verdict.label,
        confidence=confidence(verdict, shape),
        severity=verdict.severity,
        evidence=verdict.evidence,
        advice=advice,
        also=[*verdict.also, "unstable"] if lost else list(verdict.also),
        best_epoch=shape.best_epoch if shape else None,
        epochs=len(curve.epochs),
        last_epoch=curve.epochs[-1] if curve.epochs else None,
        unit=curve.unit,
        flags=signs,
        change=(prescribed[0].key, prescribed[0].after) if prescribed else None,
        prescriptions=prescribed,
    )


def judge(curve: Curve, shape: Shape | None, reference: Shape | None) -> Verdict:
    """The verdict of the first rule that matches, for a curve that did not end in NaN."""
    if shape is None:
        return too_few(curve)
    found = next((verdict for rule in RULES if (verdict := rule(shape))), None)
    return found or too_weak(shape, reference) or poorly_fitted(shape) or levelled_off(shape)


def too_few(curve: Curve) -> Verdict:
    """One or two points, which show a direction and no shape; the labels that fit are in `also`."""
    names = ("train_loss", "val_loss", "train_acc", "val_acc")
    points = max(len(curve.series(name)) for name in names)
    text = f"{counted(points, 'usable point')}; at least {MIN_POINTS} are needed"
    train, val = curve.series("train_loss").values, curve.series("val_loss").values
    also: tuple[Label, ...] = ()
    if len(val) > 1:
        text += f"; val loss went from {val[0]:.4g} to {val[-1]:.4g}"
        worse = val[-1] > val[0] and len(train) > 1 and train[-1] < train[0]
        also = ("still-improving",) if val[-1] < val[0] else ("overfitting",) if worse else ()
    return Verdict("too-short", "too-short", text, math.inf, "info", also)


def confidence(verdict: Verdict, shape: Shape | None) -> float:
    """From 0.5 just over the threshold to 0.95 far from it.

    Less for few points, and for a train curve alone: it cannot tell overfitting from the rest.
    """
    value = 0.95 - 0.45 / max(1.0, verdict.margin)
    unvalidated = shape is not None and not shape.val_name.startswith("val")
    if unvalidated and verdict.label in ("converged", "still-improving"):
        value = min(value, UNVALIDATED)
    points = len(shape.val) if shape else 0
    if verdict.margin < math.inf and points < MANY_POINTS:
        value = min(value, 0.5 if points < FEW_POINTS else 0.75)
    return round(value, 2)


def accuracy_holds(shape: Shape) -> bool:
    """Whether val accuracy ends near its best although val loss does not: over-confidence."""
    accuracy = shape.curve.series("val_acc").values
    if shape.val_name != "val loss" or not accuracy:
        return False
    return tail_median(accuracy, END_FRACTION) >= max(accuracy) - SAME_ACC


def ratio(measured: float, threshold: float) -> float:
    """By what factor a threshold is exceeded; infinite for a threshold of 0."""
    return measured / threshold if threshold > 0 else math.inf
