"""Checks of overfitting a tiny batch and, if it fails, of the causes that the network shows."""

import math
from functools import partial

import torch

from cnntune.findings import Finding
from cnntune.steps.sanity.subject import Subject, computing_seconds
from cnntune.steps.sanity.substitution import OF_NETWORK, OF_RECIPE, Swap, budget, likeliest
from cnntune.steps.sanity.symptom import Symptom
from cnntune.steps.sanity.tiny import (
    TINY_SECONDS,
    TINY_STEPS,
    Attempt,
    TinyOverfit,
    memorise,
    usual_lr,
)
from cnntune.training.device import seeded

LINEAR = 1e-3  # of the logits' distance; float32 leaves 1e-6
LINEARITY_IMAGES = 8  # and as many of noise


def overfit_tiny(subject: Subject, overfit: TinyOverfit) -> list[Finding]:
    """A network that cannot memorise 32 images will not learn from 50,000 (CS231n step 2).

    Augmentation, dropout, weight decay, gradient clipping and label smoothing are turned off, since
    they work against memorising. If train.lr does not succeed, other learning rates are tried.
    Large networks are given fewer images, and the check is skipped for the slowest ones.
    """
    if not overfit.attempts:
        step = subject.cost.image * overfit.images + subject.cost.update
        text = f"skipped: a training step on {overfit.images} images takes {step:.1f} s"
        return [Finding("overfit-tiny", "info", text)]
    best = overfit.attempts[-1]
    if overfit.reached:
        text = f"{overfit.images} images: loss {best.loss:.2g}, accuracy 100% after {best.steps}"
        text += f" steps at lr {best.lr:.2g}"
        found = [Finding("overfit-tiny", "ok", text, measured=best.loss, expected=0.0)]
        return [*found, *_linear_network(subject, overfit)]
    if overfit.cut:
        steps = sum(attempt.steps for attempt in overfit.attempts)
        text = f"skipped: out of time after {steps} steps in {TINY_SECONDS:.0f} s; loss"
        text += f" {best.loss:.3g}, accuracy {best.acc:.0%} at best"
        return [Finding("overfit-tiny", "info", text, measured=best.loss, expected=0.0)]
    lrs = ", ".join(f"{attempt.lr:.2g}" for attempt in sorted(overfit.attempts, key=lambda a: a.lr))
    text = f"{overfit.images} images: loss {best.loss:.3g}, accuracy {best.acc:.0%} at best, after"
    text += f" {TINY_STEPS} steps at each lr of {lrs}"
    causes = _causes(subject, overfit)
    if not causes and overfit.nearly:
        return [Finding("overfit-tiny", "info", f"nearly: {text}", measured=best.loss)]
    advice = "fix this before tuning: first what other rules report, else check the order of the"
    advice += " labels, layers without a gradient, and the inputs of the loss"
    found = [Finding("overfit-tiny", "fail", text, advice, measured=best.loss, expected=0.0)]
    return [*found, *causes, *_linear_network(subject, overfit)]


def _causes(subject: Subject, overfit: TinyOverfit) -> list[Finding]:
    """The first part whose replacement lets the network memorise the images."""
    best = overfit.attempts[-1]
    # What else is in the recipe is turned off, or tried.
    for swap in (OF_RECIPE[0], *likeliest(subject, OF_NETWORK)):
        attempt = budget(subject).spend(partial(_memorised, subject, overfit, swap))
        if attempt:
            text = f"{overfit.images} images are memorised with {swap.other}, and not with"
            text += f" {swap.part}: loss {attempt.loss:.2g} in place of {best.loss:.2g}"
            advice = f"check {swap.part}"
            return [Finding(swap.rule, "fail", text, advice, "", best.loss, attempt.loss)]
    return []


def _memorised(
    subject: Subject, overfit: TinyOverfit, swap: Swap, seconds: float
) -> Attempt | None:
    """The attempt that memorises the images after a replacement, if one does.

    The learning rate at which the faulty set-up was least bad may be far off, so the usual one of
    the optimizer is tried first.
    """
    until = computing_seconds(subject.device) + seconds
    for lr in dict.fromkeys((usual_lr(subject), overfit.attempts[-1].lr)):
        changed = swap.of(subject)
        if changed is None:
            return None
        attempt = memorise(*changed, lr, overfit.images, until=until)
        if attempt.reached:
            return attempt
    return None


def _linear_network(subject: Subject, overfit: TinyOverfit) -> list[Finding]:
    """Several layers form one linear map: the logits of a mean image are the mean of the logits.

    It is tested after training, since residual branches may start at 0.
    """
    layers = sum(parameter.ndim > 1 for parameter in overfit.model.parameters())
    if layers < 2 or len(subject.labels) < 2:
        return []
    model = overfit.model.eval()
    with torch.no_grad(), seeded(subject.recipe.seed, device=subject.device):
        # Noise too: the same units may be active for all images, if these are similar.
        images = subject.inputs[:LINEARITY_IMAGES]
        images = torch.cat([images, torch.randn_like(images)])
        first, second = images[:-1], images[1:]
        ends = [model(part.clone()).float() for part in (first, second)]
        middle = model((first + second) / 2).float()
    apart = float((ends[0] - ends[1]).abs().max())
    if (
        not 0 < apart < math.inf
        or float((middle - (ends[0] + ends[1]) / 2).abs().max()) > LINEAR * apart
    ):
        return []
    text = f"no nonlinearity between the {layers} layers: the network is a single linear map"
    advice = "put a ReLU between layers, and use its result: x = F.relu(x)"
    return [Symptom("activations", "warn", text, advice, least="warn")]
