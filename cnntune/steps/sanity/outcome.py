"""The severity of symptoms, by what the experiments show.

A symptom fails where the network cannot memorise, does not learn, or is another one in eval mode,
or where replacing the part that it is about repairs the set-up. Where replacing it is better by
more than the noise of seeds, it is a warning.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial

from cnntune.findings import Finding
from cnntune.runs.chance import ENOUGH_IMAGES
from cnntune.steps.sanity.learning import (
    CONCLUSIVE_STEPS,
    EVALUATION_SECONDS,
    LEARN_BATCH,
    LEARN_IMAGES,
    LEARN_SECONDS,
    Run,
)
from cnntune.steps.sanity.references import Reference, far_below
from cnntune.steps.sanity.subject import Subject, once
from cnntune.steps.sanity.substitution import OF_NETWORK, Swap, budget
from cnntune.steps.sanity.symptom import Symptom

EXPERIMENTS = ("overfit-tiny", "learns", "train-eval")
DRAWS = 2  # runs with other initial weights, of the set-up and of its twin


def judged(subject: Subject, found: Sequence[Finding]) -> list[Finding]:
    """All findings, with symptoms as failures, warnings or remarks."""
    failed = {f.rule for f in found if f.severity == "fail" and not isinstance(f, Symptom)}
    damage = bool(failed & set(EXPERIMENTS))
    named = any(is_cause(f) for f in found)
    tried = any(f.rule == "overfit-tiny" for f in found)
    well = {f.rule for f in found if f.severity == "ok"} >= {"overfit-tiny", "learns"}
    rows = []
    for one in found:
        if isinstance(one, Symptom):
            if damage:
                one = replace(one, severity="warn" if named else "fail")
            elif not tried:  # no training step is possible
                one = replace(one, severity="warn")
            else:
                one = _beside_twins(subject, one, well=well)
        elif one.severity == "warn" and "learns" in failed:
            one = replace(one, severity="fail")
        rows.append(_plain(one))
    return rows


def is_cause(found: Finding) -> bool:
    """Whether a finding is a failure that says what is wrong, not only that something is."""
    effects = (*EXPERIMENTS, "signal")
    return found.severity == "fail" and not isinstance(found, Symptom) and found.rule not in effects


def _plain(found: Finding) -> Finding:
    if not isinstance(found, Symptom):
        return found
    values = asdict(found)
    del values["part"], values["least"]
    return Finding(**values)


@once
def _own_accuracies(subject: Subject, steps: int, images: int) -> tuple[float, ...]:
    """Validation accuracies of the set-up as it is, beside which each twin is compared."""
    run, lr = Run(subject, steps, images), subject.recipe.train.lr
    return tuple(run.train(lr, draw=draw).acc for draw in range(DRAWS))


def _compared(
    subject: Subject, swap: Swap, steps: int, images: int, _: float
) -> tuple[Sequence[float], Sequence[float]] | None:
    """Accuracies of the set-up and of its twins; None if there is nothing to replace."""
    twins = [twin for draw in range(DRAWS) if (twin := swap.of(subject, draw))]
    if not twins:
        return None
    lr = subject.recipe.train.lr
    accs = [Run(changed, steps, images).train(lr, model).acc for changed, model in twins]
    return _own_accuracies(subject, steps, images), accs


def _beside_twins(subject: Subject, symptom: Symptom, *, well: bool) -> Symptom:
    """Compare short trainings at the recipe's learning rate with those of repaired twins."""
    # A slow start shows in few steps.
    steps = min(CONCLUSIVE_STEPS, subject.cost.steps(LEARN_SECONDS, LEARN_BATCH))
    images = min(LEARN_IMAGES, subject.cost.images(EVALUATION_SECONDS), len(subject.data.val))
    if steps < CONCLUSIVE_STEPS or images < ENOUGH_IMAGES:
        return replace(symptom, severity="warn")
    tried = False
    for swap in (one for one in OF_NETWORK if one.part == symptom.part):
        compared = budget(subject).spend(partial(_compared, subject, swap, steps, images))
        if compared is None:
            continue
        tried = True
        own, accs = compared
        best, worst = max(own), min(accs)
        if worst - best > math.sqrt(worst * (1 - worst) / images):
            text = f"{symptom.evidence}; validation accuracy after {steps} steps: {best:.1%}, and"
            text += f" {worst:.1%} with {swap.other} in place of {swap.part}"
            repairs = not well and far_below(best, Reference(swap.other, worst, images))
            return replace(symptom, severity="fail" if repairs else "warn", evidence=text)
    return replace(symptom, severity=symptom.least if well or tried else "warn")
