"""Label a run's learning curves and prescribe (CS231n step 6: look at loss and accuracy curves).

Each rule is a function whose docstring is the lesson; the first that speaks decides. Thresholds are
fractions of what the curve itself shows, so the unit of the loss does not matter. Where no other
source is named they were set on 100 labelled public logs: round values in the middle of the range
over which the score stays the same. Within a factor of 1.5 none moved it by more than 3 points, but
NOTICEABLE, which was set to mend two of these logs: from 0.014 to 0.023 the score holds within a
point, at 0.03 it is 5 points lower.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from cnntune.diagnosis.advice import Settings, first_change, prescribe
from cnntune.diagnosis.curve import (
    END,
    MANY_POINTS,
    MIN_POINTS,
    SMOOTH_POINTS,
    Curve,
    Shape,
    fraction,
    known_loss,
    logged,
    measure,
    noise,
    once_each,
    rolling_median,
    row_lost,
    steps,
    tail_median,
)
from cnntune.diagnosis.signs import (
    ACC_GAP,
    CHANCE,
    FEW_POINTS,
    LOSS_GAP,
    chance_level,
    flags_of,
    supposed_chance,
)
from cnntune.findings import Severity
from cnntune.runs.chance import Chance

Label = Literal[
    "overfitting", "underfitting", "still-improving", "converged", "unstable", "too-short"
]

GAVE_BACK = 0.5  # of the fall of the train loss, lost again by the end
BLOW_UP = 0.1  # of the first train loss: a smaller rise is noise
OSCILLATION = 0.25  # of the train range, by the median step after the first quarter
OSCILLATION_STEPS = 6  # at least

WORSE = 10.0  # times the loss of guessing: no calibrated network is far worse than a guess
SURE = 10.0  # at most, for how far a run at chance is from having learned

SLOW = 0.1  # of the first train loss; labelled runs that learned something fell by 15% and more
SLOW_VAL = 0.2  # of the first val loss; coarser, for small validation sets are noisy
STUCK = 0.03  # of the first train loss: below, even a steady fall is "loss barely changing"
STEADY = 0.25  # of the range gained in the last third; a straight line gains 0.33
ACCURATE = 0.8  # val accuracy of a fine-tuned network that had little left to learn

NOTICEABLE = 0.02  # of the first train loss: a smaller change of val is a wiggle near zero
RISE_NOISE = 2  # median steps since the best epoch
TRAIN_FELL = 0.05  # of the train loss at the best epoch: otherwise train got stuck as well
SAME_ACC = 0.005  # half a point below its best: val accuracy holds

IMPROVING = 0.05  # of the val range gained over the last third
TREND_NOISE = 1.5  # median steps of the last third
WEAKER = 0.1  # of the first train loss, above the reference at the end on train and on val
SATURATED = 0.02  # of the val range gained over the last half


@dataclass(frozen=True)
class Diagnosis:
    """What a run's curves say: one label, how sure, the numbers behind it, and what to change.

    `confidence` is in 0..1; `also` holds labels that a careful reader would accept too;
    `best_epoch` is that of the lowest val loss (highest val accuracy where no val loss was logged);
    `flags` are secondary signs, see `signs.flags_of`; `change` is the recipe key to change first
    and its new value, where the settings are known.
    """

    label: Label
    confidence: float
    severity: Severity
    evidence: str
    advice: list[str] = field(default_factory=list)
    also: list[Label] = field(default_factory=list)
    best_epoch: float | None = None
    epochs: int = 0
    flags: list[str] = field(default_factory=list)
    change: tuple[str, Any] | None = None


@dataclass(frozen=True)
class Verdict:
    """What a rule found; `margin` is by what factor the threshold was passed, 1 being a hair."""

    label: Label
    problem: str
    evidence: str
    margin: float
    severity: Severity
    also: tuple[Label, ...] = ()


def diverged(curve: Curve, planned_epochs: int | None = None) -> Verdict | None:
    """A loss that ends as NaN or infinity: the steps were too large, or the data is broken.

    A NaN that recovers is no divergence, a single lost row at the end is none, and a column without
    a single number was never logged. But when no loss at all is a number and accuracy went nowhere,
    the very first steps blew up.
    """
    name = known_loss(curve)
    numbers = curve.series(name)
    losses = logged(getattr(curve, name))
    broken = len(numbers) and not math.isfinite(losses[-1])
    if broken and (planned_epochs is not None or not row_lost(curve)):
        text = f"{name.replace('_', ' ')} is not finite after epoch {numbers.epochs[-1]:g}"
        return Verdict("unstable", "diverged", text, math.inf, "fail")
    accuracy = curve.series("val_acc").values
    learned = accuracy and max(accuracy) - accuracy[0] > BLOW_UP
    if len(numbers) or learned or not (losses or logged(curve.train_loss)):
        return None
    return Verdict("unstable", "diverged", "no loss is a finite number", math.inf, "fail")


def blew_up(shape: Shape) -> Verdict | None:
    """A train loss that climbs back is not learning any more: the rate is too high for the loss.

    A val loss that climbs while the train loss falls is overfitting; where no train loss was
    logged, val has to end well above where it began.
    """
    known = len(shape.train) >= MIN_POINTS
    name, held = (shape.train_name, shape.train) if known else (shape.val_name, shape.val)
    values = rolling_median(held.values, SMOOTH_POINTS)
    first, low, last = values[0], min(values), tail_median(held.values, END)
    back, noticeable = last - low, BLOW_UP * abs(first)
    if back <= max(GAVE_BACK * (first - low), noticeable):
        return None
    if not known and last - first <= noticeable:
        return None
    text = f"{name} began at {first:.3g}, was down to {low:.3g} and ends at {last:.3g}"
    return Verdict("unstable", "diverged", text, ratio(back, noticeable), "fail")


def oscillates(shape: Shape) -> Verdict | None:
    """A train loss that jumps up and down by a good part of its range overshoots its valley."""
    settled = shape.train.values[len(shape.train) // 4 :]
    if len(steps(settled)) < OSCILLATION_STEPS:
        return None
    size, span = noise(settled), max(shape.train.values) - min(shape.train.values)
    if size <= OSCILLATION * span:
        return None  # past here, six such steps cannot all go one way
    if size <= BLOW_UP * abs(settled[0]):
        return None
    text = f"{shape.train_name} jumps up and down by {size:.3g} an epoch, of a range of {span:.3g}"
    return Verdict("unstable", "oscillating", text, ratio(size, OSCILLATION * span), "warn")


def guessing(shape: Shape) -> Verdict | None:
    """A network no better than guessing has learned nothing, however its loss went.

    A loss of log C is that of a network that has no idea (CS231n step 1): to come down to it, be it
    steadily, is no learning yet. One that is, or was, an order of magnitude worse is sure of wrong
    answers: steps were so large that the weights exploded.
    """
    supposed = supposed_chance(shape)
    chance = shape.chance or supposed
    if chance is None or chance.loss <= 0:
        return None
    name, held = shape.train_name, shape.train
    if name != "train loss" or len(held) < MIN_POINTS:
        name, held = shape.val_name, shape.val
    loss = name.endswith("loss")
    end, worst = tail_median(held.values, END), max(held.values)
    far = f"far above the {chance.loss:.4g} of guessing"
    if loss and end > WORSE * chance.loss:
        margin = ratio(end, WORSE * chance.loss)
        return Verdict("unstable", "diverged", f"{name} ends at {end:.4g}, {far}", margin, "fail")
    chance = chance if chance.tells else supposed
    accs = (shape.curve.series("val_acc") or shape.curve.series("train_acc")).values
    if chance is None or not accs or chance.beaten_by(max(accs)):
        return None
    if not loss:
        return _no_better(chance, accs, "no loss was logged")
    if end < (1 - CHANCE) * chance.loss:
        return None
    if worst > WORSE * chance.loss:
        text = f"{name} was {worst:.4g}, {far}, and accuracy is {max(accs):.3g} at best"
        return Verdict("unstable", "diverged", text, ratio(worst, WORSE * chance.loss), "fail")
    return _no_better(chance, accs, f"{name} ends at {end:.4g}")


def no_skill(shape: Shape) -> Verdict | None:
    """A run at rest whose validation accuracy is that of guessing has not converged: it failed."""
    accs, chance = shape.curve.series("val_acc").values, shape.chance
    if chance is None or not chance.tells or not accs or chance.beaten_by(max(accs)):
        return None
    return _no_better(chance, accs, f"{shape.val_name} ends at {shape.end:.4g}")


def _no_better(chance: Chance, accs: Sequence[float], text: str) -> Verdict:
    text += f" and accuracy is {max(accs):.3g} at best; guessing gives {chance.loss:.4g}"
    text += f" and {chance.acc:.3g}"
    margin = min(SURE, ratio(chance.noise, max(0.0, max(accs) - chance.acc)))
    return Verdict("underfitting", "guessing", text, margin, "warn")


def hardly_learned(shape: Shape) -> Verdict | None:
    """A loss that stays where it began: the learning rate is far off, or something is broken.

    Network, labels and inputs can all be at fault: back to steps 1-3. A slow but steady fall is
    left to `still_improving`.
    """
    if len(shape.train) < MIN_POINTS or shape.train_fall >= SLOW or shape.val_fall >= SLOW_VAL:
        return None
    steady = shape.trend > STEADY * shape.range > 0
    if (shape.curve.end("val_acc") or 0.0) >= ACCURATE or (shape.train_fall >= STUCK and steady):
        return None
    first, last, fall = shape.train.values[0], shape.train_end, shape.train_fall
    text = f"{shape.train_name} went from {first:.4g} to {last:.4g}, a change of {-fall:+.1%}"
    if classes := chance_level(shape):
        text += f"; ln {classes} = {math.log(classes):.4g} is guessing among {classes} classes"
    margin = ratio(SLOW, max(fall, STUCK))
    return Verdict("underfitting", "stuck", text, margin, "warn", ("converged",))


def val_turned(shape: Shape) -> Verdict | None:
    """Val gets worse while train gets better: the network learns its training images by heart.

    Regularise, or get more data; the weights of the best epoch are the ones to keep.
    """
    since = shape.val.epochs[shape.best]
    noticeable = NOTICEABLE * shape.unit
    trusted = max(noticeable, RISE_NOISE * noise(shape.val.values[shape.best :]))
    if not shape.has_both or shape.rise <= trusted:
        return None
    before = shape.train.until(since) or shape.train.values
    then, now = tail_median(before, 1 / len(before)), shape.train_end
    if fraction(then - now, then) <= TRAIN_FELL:
        return None
    if shape.loss_gap is not None and shape.loss_gap <= 0:
        return None  # val is still the better one: the training images are augmented or mixed
    text = f"{shape.val_name} rose from {shape.smooth[shape.best]:.3g} (epoch {since:g}) to "
    text += f"{shape.end:.3g} while {shape.train_name} fell from {then:.3g} to {now:.3g}"
    margin = ratio(shape.rise, noticeable)
    if not accuracy_holds(shape):
        return Verdict("overfitting", "overfitting", text, margin, "warn")
    text += "; val accuracy holds"
    margin = min(margin, 2.0)
    return Verdict("overfitting", "over-confident", text, margin, "info", ("converged",))


def still_improving(shape: Shape) -> Verdict | None:
    """A val curve that still falls at the end: longer training is the cheapest improvement.

    A fall that is a part of the range but next to nothing beside the first train loss is the creep
    of a network that was fine-tuned or is nearly perfect.
    """
    wanted = noticeable_trend(shape)
    if shape.range <= 0 or shape.trend <= max(wanted, TREND_NOISE * noise(shape.last_third)):
        return None
    share = min(1.0, shape.trend / shape.range)
    text = f"{shape.val_name} fell to {shape.end:.3g}, {share:.0%} of its range in the last third"
    margin = ratio(shape.trend, wanted)
    also: tuple[Label, ...] = ("converged",) if margin < 2 else ()
    return Verdict("still-improving", "still-improving", text, margin, "info", also)


def memorised(shape: Shape) -> Verdict | None:
    """Val stands still far behind train: "big gap = overfitting", says the lecture.

    Regularise more, or get more data. Accuracies decide where val accuracy is known, for train
    accuracy is at most 1.
    """
    accuracy = shape.curve.end("val_acc")
    acc_gap, loss_gap = shape.acc_gap or 0.0, shape.loss_gap or 0.0
    bounded = shape.acc_gap is not None or (accuracy is not None and 1 - accuracy <= ACC_GAP)
    if not shape.has_both or (acc_gap <= ACC_GAP and (bounded or loss_gap <= LOSS_GAP)):
        return None
    text = f"{shape.val_name} stands at {shape.end:.3g}, {shape.train_name} at "
    text += f"{shape.train_end:.3g}"
    if acc_gap > ACC_GAP:
        text += f"; val accuracy is {100 * acc_gap:.0f} points below train accuracy"
    margin = max(ratio(acc_gap, ACC_GAP), 0.0 if bounded else ratio(loss_gap, LOSS_GAP))
    return Verdict("overfitting", "overfitting", text, margin, "warn", ("converged",))


def too_weak(shape: Shape, reference: Shape | None) -> Verdict | None:
    """No gap, but worse than another run on train and val: "increase capacity", says the lecture.

    Without that other run a plateau cannot be told from convergence.
    """
    if reference is None or not (shape.has_both and reference.has_both):
        return None
    names = (shape.train_name, shape.val_name)
    if names != (reference.train_name, reference.val_name):
        return None
    on_train = fraction(shape.train_end - reference.train_end, shape.train.values[0])
    on_val = fraction(shape.end - min(reference.smooth), shape.unit)
    if min(on_train, on_val) <= WEAKER:
        return None
    text = f"{names[0]} stands at {shape.train_end:.3g} and {names[1]} at {shape.end:.3g}; "
    text += f"the best run reached {reference.train_end:.3g} and {min(reference.smooth):.3g}"
    margin = ratio(min(on_train, on_val), WEAKER)
    return Verdict("underfitting", "too-weak", text, margin, "warn", ("converged",))


def at_rest(shape: Shape) -> Verdict:
    """Nothing moves and nothing is wrong: this setting has given what it can give.

    A run that stood still for its second half was too long.
    """
    text = f"{shape.val_name} rests at {shape.end:.3g}; its best was {min(shape.val.values):.3g}"
    alone = shape.val_name.startswith("val") and not shape.has_both
    rise = ratio(shape.rise, NOTICEABLE * shape.unit) if alone else 0.0
    gap = max(ratio(shape.acc_gap or 0, ACC_GAP), ratio(shape.loss_gap or 0, LOSS_GAP))
    trend = ratio(shape.trend, noticeable_trend(shape))
    also: list[Label] = ["still-improving"] if trend > 0.5 else []
    problem = "converged-early" if shape.second_half <= SATURATED * shape.range else "converged"
    if max(gap, rise) > 0.5:
        also.append("overfitting")
        problem = "converged-with-gap"
    if rise > 1:
        text += "; no train curve tells whether it overfits"
    margin = ratio(1.0, max(trend, gap, rise, 0.1))
    severity: Severity = "warn" if rise > 1 else "ok"
    return Verdict("converged", problem, text, margin, severity, tuple(also))


RULES: tuple[Callable[[Shape], Verdict | None], ...] = (
    blew_up,
    oscillates,
    guessing,
    hardly_learned,
    val_turned,
    still_improving,
    memorised,
    no_skill,
)


def diagnose(
    curve: Curve,
    *,
    planned_epochs: int | None = None,
    reference: Curve | None = None,
    settings: Settings | None = None,
    chance: Chance | None = None,
) -> Diagnosis:
    """Label one run; nothing is raised, whatever the curve holds.

    `planned_epochs` is what the run was meant to have, if it was stopped before; `reference` is the
    study's best run, which tells underfitting from convergence; `settings` are flat recipe keys and
    their values, with which the advice names keys; `chance` is what guessing gives on the
    validation set, where that is known.
    """
    curve = once_each(curve)
    shape = measure(curve, chance)
    other = measure(once_each(reference)) if reference else None
    verdict = diverged(curve, planned_epochs) or judge(curve, shape, other)
    flags = flags_of(verdict.label, verdict.problem, shape, planned_epochs)
    lost = "last-row-lost" in flags and verdict.label != "unstable"
    advice = prescribe(verdict.problem, settings)
    if "stopped-early" in flags:
        advice = [f"let the run finish its {planned_epochs} epochs"]
    if verdict.label == "overfitting" and "gap-from-start" in flags:
        advice.insert(0, "check that train and val images are of one kind: val began far behind")
    elif "best-at-start" in flags:
        advice.insert(0, "check that train and val images are of one kind: val only got worse")
    if verdict.label == "overfitting" and shape and shape.best_epoch < shape.val.epochs[-1]:
        last = shape.val.epochs[-1]
        advice.append(f"keep the weights of the best epoch, {shape.best_epoch:g} of {last:g}")
    if verdict.label == "still-improving" and "schedule-ended" in flags:
        advice.append("stretch the schedule over the longer run: the learning rate has run out")
    return Diagnosis(
        label=verdict.label,
        confidence=confidence(verdict, shape),
        severity=verdict.severity,
        evidence=verdict.evidence,
        advice=advice,
        also=[*verdict.also, "unstable"] if lost else list(verdict.also),
        best_epoch=shape.best_epoch if shape else None,
        epochs=len(curve.epochs),
        flags=flags,
        change=None if "stopped-early" in flags else first_change(verdict.problem, settings),
    )


def judge(curve: Curve, shape: Shape | None, reference: Shape | None) -> Verdict:
    """The first rule that speaks of a curve that did not end in NaN."""
    if shape is None:
        names = ("train_loss", "val_loss", "train_acc", "val_acc")
        points = max(len(curve.series(name)) for name in names)
        text = f"{points} usable points; a curve has a shape from {MIN_POINTS} on"
        return Verdict("too-short", "too-short", text, math.inf, "info")
    found = next((verdict for rule in RULES if (verdict := rule(shape))), None)
    return found or too_weak(shape, reference) or at_rest(shape)


def confidence(verdict: Verdict, shape: Shape | None) -> float:
    """From 0.5 for a hair over the threshold to 0.95 far from it, and less for few points."""
    value = 0.95 - 0.45 / max(1.0, verdict.margin)
    points = len(shape.val) if shape else 0
    if verdict.margin < math.inf and points < MANY_POINTS:
        value = min(value, 0.5 if points < FEW_POINTS else 0.75)
    return round(value, 2)


def accuracy_holds(shape: Shape) -> bool:
    """Whether val accuracy ends at its best although val loss does not: over-confidence."""
    accuracy = shape.curve.series("val_acc").values
    if shape.val_name != "val loss" or not accuracy:
        return False
    return tail_median(accuracy, END) >= max(accuracy) - SAME_ACC


def noticeable_trend(shape: Shape) -> float:
    """What val has to gain over the last third of a run to be worth more epochs."""
    return max(IMPROVING * shape.range, NOTICEABLE * shape.unit)


def ratio(measured: float, threshold: float) -> float:
    """By what factor a threshold is passed; infinite for a threshold of 0."""
    return measured / threshold if threshold > 0 else math.inf
