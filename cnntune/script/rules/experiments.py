"""What copies of the model learned from the batches that were seen (`script/experiments.py`)."""

import math
from collections.abc import Mapping
from typing import Any

from cnntune.findings import Finding, Severity
from cnntune.script.record import Record

NO_BETTER = 0.93  # of the loss with blank inputs: what is learned of the inputs is not worth a step
TRIVIAL = 0.3  # of the first loss; a batch that blank inputs memorize says nothing
MIN_DISTINCT = 0.5  # share of a batch's samples that differ
MIN_ROWS = 250  # training samples, before it is judged whether they teach anything
MIN_HELD = 80  # held-out samples
EXPLODED = 1.5  # times the first loss, with blank inputs
MEMORIZES = 0.8  # of the loss with blank inputs, on the training samples
NO_CARRY = 0.98  # of it, on held-out samples: 2 standard errors of a few hundred
CLASSIFYING = ("cross_entropy", "nll_loss")
REGRESSION = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
NO_PROGRESS = 0.25  # of what 60 steps at a lower rate gain, for all steps of the script
FAILS_ALSO = 0.95  # of the first loss, for copies at the same learning rate
LEARNS_BELOW = 0.85  # of it, at a lower learning rate
MIN_LOSSES = 30
BELONGS = 0.95  # of the loss with the targets of other samples, with the own ones
LEARNED = 0.9  # of the loss without inputs, on held-out training samples
GAINED = 0.15  # of the loss with the targets of other samples, there
CARRIED = 0.25  # share of it that is gained on validation samples


def _measured(record: Record, what: str) -> Mapping[str, Any] | None:
    found = record.experiments.get(what)
    if not isinstance(found, Mapping) or record.experiments.get("kinds", 0) < 2:
        return None
    known = (*CLASSIFYING, *REGRESSION, "binary_cross_entropy", "binary_cross_entropy_with_logits")
    return found if record.experiments.get("name") in known else None


def input_used(record: Record) -> list[Finding]:
    """A network that is trained on one batch must tell its samples apart (CS231n step 2).

    A copy of the network is trained on the first batch alone, and another one on the same labels
    with inputs that are all alike. Where both end with the same loss, nothing of the input arrives:
    it is lost in a layer, in a wrong dimension, in a broadcast loss, or all that is trained comes
    too late. Before: a loss of 2.3 with and without the input. After: 0.01 with it.
    """
    found = _measured(record, "memorized")
    if found is None or not found.get("whole") or found["distinct"] < MIN_DISTINCT * found["rows"]:
        return []
    real, blank, first = found["real"], found["blank"], found["first"]
    if found["rows"] < 2 or blank < TRIVIAL * first or real < NO_BETTER * blank:
        return []
    text = f"{found['steps']} steps on one batch of {found['rows']} end with a loss of {real:.3g},"
    text += f" and with inputs that are all alike, of {blank:.3g}: the input is not used"
    advice = "look for a wrong dimension, a detach, frozen layers, or dead units on the way from"
    advice += " the input to the loss"
    return [Finding("input-used", "warn", text, advice, _where(record), real, blank)]


def learns(record: Record) -> list[Finding]:
    """What is learned from some batches must help with others.

    A copy of the network is trained on most of the batches that were seen and measured on the
    others; a second one sees the same labels with inputs that are all alike. Where the first
    memorizes, and is never better on the held-out samples than the second, labels do not belong to
    their inputs: they were shuffled, sorted or indexed apart (Zhang et al. 2017). Random data that
    stand in for real ones are meant.
    """
    found = _measured(record, "learned")
    if found is None or found["rows"] < MIN_ROWS or found["held"] < MIN_HELD:
        return []
    finite = all(math.isfinite(found[key]) for key in ("real", "blank", "real_held", "blank_held"))
    begun = (_measured(record, "memorized") or {}).get("first", math.inf)
    if found["blank"] > EXPLODED * begun:
        return []  # the inputs' scale, of which `inputs` says more
    if not finite or found["real"] > MEMORIZES * found["blank"]:
        return []
    if found["real_held"] < NO_CARRY * found["blank_held"]:
        return []
    if found.get("held_own", math.inf) < BELONGS * found.get("held_others", 0.0):
        return []  # too few samples for what is to be learned, and still labels of their inputs
    text = f"copies memorize {found['rows']} training samples (loss {found['real']:.3g}, without"
    text += f" the input {found['blank']:.3g}), and are no better on {found['held']} others than"
    text += f" without the input: {found['real_held']:.3g} and {found['blank_held']:.3g} at best"
    advice = "see that inputs and labels belong together: shuffled, sorted or indexed apart"
    return [
        Finding(
            "learns",
            "warn",
            text,
            advice,
            _where(record),
            found["real_held"],
            found["blank_held"],
        )
    ]


def validation_alike(record: Record) -> list[Finding]:
    """What is learned from training samples must help with validation samples.

    A copy of the network is trained on most of the training batches that were seen. On held-out
    training samples its loss is lower with their own targets than with those of other samples.
    Where it is not on validation samples, the two sets are not alike: labels are numbered
    otherwise, an encoder or a scaler was fitted twice, channels are in another order. Data of
    another place or time are meant.
    """
    found = _measured(record, "learned")
    if found is None or found.get("validated", 0) < MIN_HELD or found["held"] < MIN_HELD:
        return []
    known = ("held_own", "held_others", "validation_own", "validation_others")
    if not all(math.isfinite(found[key]) and found[key] > 0 for key in known):
        return []
    gained = 1 - found["held_own"] / found["held_others"]
    carried = 1 - found["validation_own"] / found["validation_others"]
    blind = found["blank_held"]
    learned = found["held_own"] < LEARNED * blind and gained > GAINED
    if not learned or found["validation_own"] < blind or carried > CARRIED * gained:
        return []
    text = f"copies learn from training samples: on {found['held']} others the loss is"
    text += f" {found['held_own']:.3g}, with the targets of other samples"
    text += f" {found['held_others']:.3g}; on {found['validated']} validation samples it is"
    text += f" {found['validation_own']:.3g} and {found['validation_others']:.3g}"
    advice = (
        "prepare validation inputs and labels as those of training: the same encoders, scalers,"
    )
    advice += " numbers of classes and order of channels"
    line = _where(record)
    return [Finding("validation-alike", "warn", text, advice, line, carried, gained)]


def rate_too_high(record: Record) -> list[Finding]:
    """The learning rate must lower the loss (CS231n step 3).

    Where the loss of the script did not fall, copies of its network are trained with its own
    optimizer on its own batches, at its learning rate and at lower ones. A lower one that learns
    where its own does not is the evidence.
    """
    rates = record.experiments.get("rates") or []
    losses = [
        event["loss"]
        for event in record.all("backward")
        if event.get("loss") is not None and not event.get("scaled")
    ]
    if len(losses) < MIN_LOSSES or len(rates) < 2 or not _usable(record):
        return []
    third = len(losses) // 3
    last = sum(losses[-third:]) / third
    own, *lower = rates
    best = min(lower, key=lambda one: one[2])
    if own[2] < FAILS_ALSO * own[1] or not best[2] < LEARNS_BELOW * own[1]:
        return []
    # In shares: where gradients are accumulated the script's loss is a fraction of a batch's.
    possible = 1 - best[2] / own[1]
    if math.isfinite(last) and losses[0] - last > NO_PROGRESS * possible * losses[0]:
        return []
    text = f"the loss went from {losses[0]:.3g} to {last:.3g} in {len(losses)} steps; copies at"
    text += f" lr {own[0]:.2g} end at {own[2]:.3g}, at {best[0]:.2g} at {best[2]:.3g}"
    advice = f"lower the learning rate to about {best[0]:.1g}"
    severity: Severity = "fail"
    steps = record.all("step")
    where = steps[-1]["at"] if steps else _where(record)
    return [Finding("learning-rate", severity, text, advice, where, own[0], best[0])]


def _usable(record: Record) -> bool:
    return record.experiments.get("name") in (*CLASSIFYING, *REGRESSION) and (
        record.experiments.get("kinds", 0) > 1
    )


def _where(record: Record) -> str:
    return str(record.experiments.get("at", ""))
