"""Checks of overfitting a tiny batch and, if it fails, of the causes that the network shows."""

import torch
from torch import Tensor, nn

from cnntune.findings import Finding, Severity
from cnntune.steps.sanity.record import WEIGHT_OPS, recording
from cnntune.steps.sanity.references import best_reference, far_below
from cnntune.steps.sanity.signal import linear_labels
from cnntune.steps.sanity.subject import Subject
from cnntune.steps.sanity.tiny import TINY_IMAGES, TINY_SECONDS, TINY_STEPS, TinyOverfit
from cnntune.training.device import seeded

NEARLY_ACC = 0.95  # a network with a fault, or that misses one of ten classes, stays below this
NEARLY_LOSS = 0.25  # of the initial loss; with bounded logits the loss stays above this
SHRUNK = 0.05  # RMS of the logits over that of the last layer's output
DOUBLED = 1e-2  # relative tolerance for logits that scale with their layer
BOUND = 1.5  # largest logit that counts as bounded; 95 % among ten classes needs 5
STOPS = 0.02  # relative difference below which losses at two learning rates are equal
LINEAR = 1e-3  # of the logits' distance; float32 leaves 1e-6
LINEARITY_IMAGES = 8  # and as many of noise
MIN_SORTED_CLASSES = 4  # with fewer, logits of 32 images may be sorted by chance
MIN_SAME_LOSS = 3  # attempts with equal losses, the best one included
FAR_OFF = 30.0  # ratio of learning rates; for a decade, `lr-sweep` is enough
HOPELESS = 500.0  # ratio that no schedule compensates
HOPELESS_TOO = 99.0  # the same for a learning rate that is too high and does not lower the loss
UNLEARNED_LOSS = 0.9  # of the initial loss; a learning rate that gets below may only be slow


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
        return [*found, *_far_off(subject, overfit), *_linear_network(subject, overfit)]
    if any(attempt.cut for attempt in overfit.attempts):
        steps = sum(attempt.steps for attempt in overfit.attempts)
        text = f"skipped: out of time after {steps} steps in {TINY_SECONDS:.0f} s; loss"
        text += f" {best.loss:.3g}, accuracy {best.acc:.0%} at best"
        return [Finding("overfit-tiny", "info", text, measured=best.loss, expected=0.0)]
    lrs = ", ".join(f"{attempt.lr:.2g}" for attempt in sorted(overfit.attempts, key=lambda a: a.lr))
    text = f"{overfit.images} images: loss {best.loss:.3g}, accuracy {best.acc:.0%} at best, after"
    text += f" {TINY_STEPS} steps at each lr of {lrs}"
    causes = [*_changes_weights(subject), *_causes(subject, overfit)]
    if not causes and best.acc >= NEARLY_ACC and best.loss <= NEARLY_LOSS * best.first:
        return [Finding("overfit-tiny", "info", f"nearly: {text}", measured=best.loss)]
    advice = "fix this before tuning: first what other rules report, else check the order of the"
    advice += " labels, layers without a gradient, and the inputs of the loss"
    found = [Finding("overfit-tiny", "fail", text, advice, measured=best.loss, expected=0.0)]
    return [*found, *causes, *_linear_network(subject, overfit)]


def _causes(subject: Subject, overfit: TinyOverfit) -> list[Finding]:
    """Causes that show in the logits after all attempts have failed."""
    images = subject.inputs[: overfit.images]
    with torch.no_grad():
        logits = overfit.model(images.clone()).detach().float()
    distinct = len(torch.unique(logits.cpu(), dim=1).T)  # mps cannot
    if distinct < subject.classes:
        text = f"{subject.classes} classes get {distinct} different logits in every image"
        advice = "check for a mean, expand or repeat over the classes after the last layer"
        return [Finding("outputs", "fail", text, advice, measured=distinct)]
    steps = logits.diff(dim=1)
    if subject.classes >= MIN_SORTED_CLASSES and ((steps <= 0).all() or (steps >= 0).all()):
        text = "the logits of every image are sorted by value, so they no longer match the classes"
        return [Finding("outputs", "fail", text, "remove sort or topk after the last layer")]
    return _bounded(overfit, logits) or _shrunk(overfit.model, images)


def _bounded(overfit: TinyOverfit, logits: Tensor) -> list[Finding]:
    """All images are right, but the loss stops above 0, at the same value for any learning rate."""
    best = overfit.attempts[-1]
    largest = float(logits.abs().max())
    stops = [abs(attempt.loss - best.loss) < STOPS * best.loss for attempt in overfit.attempts]
    if best.acc < 1.0 or (largest > BOUND and sum(stops) < MIN_SAME_LOSS):
        return []
    text = f"accuracy is 100% with a loss of {best.loss:.3g}: logits stay within ±{largest:.2g}"
    advice = "do not bound or normalise the outputs; scale a cosine similarity by 10 or more"
    return [Finding("outputs", "fail", text, advice, measured=largest)]


def _shrunk(model: nn.Module, images: Tensor) -> list[Finding]:
    """A small factor after the last layer, which the layers cannot compensate."""
    with torch.no_grad(), recording(model) as recorder:
        logits = model(images.clone()).detach().float()
    layers = [output for output in recorder.outputs if output.op in WEIGHT_OPS and output.rms > 0]
    share = float(logits.square().mean().sqrt()) / layers[-1].rms if layers else 1.0
    if not 0 < share < SHRUNK or not _follow(model, layers[-1].where, images, logits):
        return []
    text = f"logits are {share:.1g} times the output of the last layer"
    advice = "remove that factor; usual temperatures are about 1"
    return [Finding("outputs", "fail", text, advice, layers[-1].where, share, 1.0)]


@torch.no_grad()
def _follow(model: nn.Module, layer: str, images: Tensor, logits: Tensor) -> bool:
    """Whether logits double with the weights of `layer`: no nonlinearity follows it."""
    weights = [p for name, p in model.named_parameters() if name.rpartition(".")[0] == layer]
    for weight in weights:
        weight.mul_(2)
    doubled = model(images.clone()).float()
    for weight in weights:
        weight.div_(2)
    return torch.allclose(doubled, 2 * logits, rtol=DOUBLED)


def _changes_weights(subject: Subject) -> list[Finding]:
    """The forward pass overwrites weights, which undoes the optimizer's steps."""
    model = subject.model()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    with torch.no_grad():
        model(subject.inputs[: TINY_IMAGES[-1]])
    changed = [n for n, p in model.named_parameters() if not torch.equal(p, before[n])]
    if not changed:
        return []
    text = f"the forward pass itself changes {len(changed)} parameters, such as {changed[0]}"
    advice = "initialise in __init__, and change parameters in the optimizer only"
    return [Finding("trainable-parameters", "fail", text, advice, measured=len(changed))]


def _far_off(subject: Subject, overfit: TinyOverfit) -> list[Finding]:
    """train.lr fails to overfit the batch; a learning rate far away from it succeeds."""
    best = overfit.attempts[-1]
    own = next(a for a in overfit.attempts if a.lr == subject.recipe.train.lr)
    if own.reached or 1 / FAR_OFF < own.lr / best.lr < FAR_OFF:
        return []
    text = f"train.lr = {own.lr:.2g} cannot overfit {overfit.images} images (loss {own.loss:.3g}),"
    text += f" {best.lr:.2g} can"
    advice = "run `cnntune lr-sweep`"
    limit = HOPELESS_TOO if own.loss > UNLEARNED_LOSS * own.first else HOPELESS
    hopeless = not 1 / HOPELESS < own.lr / best.lr < limit
    severity: Severity = "fail" if hopeless else "warn"
    return [Finding("optimizer", severity, text, advice, measured=own.lr, expected=best.lr)]


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
    if apart == 0 or float((middle - (ends[0] + ends[1]) / 2).abs().max()) > LINEAR * apart:
        return []
    text = f"no nonlinearity between the {layers} layers: the network is a single linear map"
    advice = "put a ReLU between layers, and use its result: x = F.relu(x)"
    linear, best = _linear_accuracy(subject), best_reference(subject)
    if not far_below(linear, best):
        return [Finding("activations", "warn", text, advice)]
    text += f"; linear regression reaches {linear:.0%}, {best.name} {best.acc:.0%}"
    return [Finding("activations", "fail", text, advice, "", linear, best.acc)]


def _linear_accuracy(subject: Subject) -> float:
    """How well validation images are classified by a linear map of their thumbnails."""
    train, val = subject.train_pictures, subject.val_pictures
    known, asked = (torch.cat([part.small.flatten(1), part.means], 1) for part in (train, val))
    guesses = linear_labels(asked, known, train.labels, subject.classes)
    return float((guesses == val.labels).float().mean())
