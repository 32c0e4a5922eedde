"""Checks that the logits depend on the image, and on all of it."""

import torch
from torch import Tensor, nn

from cnntune.findings import Finding, Severity
from cnntune.steps.sanity.modes import RECALIBRATION_PASSES, recalibrate_batch_norm
from cnntune.steps.sanity.subject import Subject
from cnntune.steps.sanity.symptom import Symptom
from cnntune.steps.sanity.tiny import TinyOverfit

SAME = 1e-5  # of the largest logit: float32 sums in another order differ by as much
WOKEN = 0.02  # standard deviation of a vision transformer's weights, for weights that are 0
READ = 0.6  # minimum share of the pixels with an influence


def input_used(subject: Subject, overfit: TinyOverfit) -> list[Finding]:
    """The logits must depend on the image (Karpathy's recipe, "input-independent baseline").

    A network that gives images and blank images the same logits does not use its input. On blank
    images the loss cannot fall below the entropy of the labels; a network that memorised a batch
    went below it, so it uses the images. Pixels and channels without any influence are
    reported too.
    """
    inputs, labels = subject.inputs[: overfit.images], subject.labels[: overfit.images]
    model = overfit.model if overfit.reached else subject.model()
    if not overfit.attempts:
        wake(model)
    if not overfit.reached:  # with initial running statistics, activations may die out
        recalibrate_batch_norm(model, inputs, RECALIBRATION_PASSES if overfit.attempts else 1)
    model.eval()
    with torch.no_grad():
        logits = model(inputs.clone()).float()
        blank = model(torch.zeros_like(inputs)).float()
    if float((logits - blank).abs().max()) <= SAME * float(logits.abs().max()):
        text = "images and blank images give the same logits"
        advice = "check where the input is dropped, overwritten or multiplied by 0"
        return [Finding("input-used", "fail", text, advice, measured=0.0)]
    if found := _unread(model, inputs):
        return found
    if not overfit.attempts:
        return [Finding("input-used", "ok", "logits differ from those of blank images")]
    loss, entropy = overfit.attempts[-1].loss, _entropy(labels, subject.classes)
    text = f"loss {loss:.2g}; without the image it cannot go below {entropy:.2g} (label entropy)"
    severity: Severity = "ok" if loss < entropy else "info"
    return [Finding("input-used", severity, text, measured=loss, expected=entropy)]


@torch.no_grad()
def wake(model: nn.Module) -> None:
    """Initialise weights that are 0, such as the head of torchvision's `vit_b_16`.

    With them, logits would not depend on anything.
    """
    for parameter in model.parameters():
        if parameter.ndim > 1 and not bool(parameter.any()):
            nn.init.normal_(parameter, std=WOKEN)


def _entropy(labels: Tensor, classes: int) -> float:
    shares = torch.bincount(labels, minlength=classes).float() / len(labels)
    return float(-(shares[shares > 0] * shares[shares > 0].log()).sum())


def _unread(model: nn.Module, inputs: Tensor) -> list[Finding]:
    """Channels and pixels without an influence, by the gradient of the logits."""
    images = inputs.clone().requires_grad_()
    logits = model(images.clone())  # a leaf must not be modified in place
    if not logits.requires_grad:
        return []
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
    # Not `autograd.grad`, which reentrant checkpoints refuse.
    (logits * weights.to(logits.device)).sum().backward()
    model.zero_grad()
    gradient = images.grad
    if gradient is None:  # the logits need not be differentiable: pixels may index a table
        return []
    influence = gradient.abs().amax(0)
    unread = [k for k in range(len(influence)) if float(influence[k].max()) == 0]
    if unread and len(unread) < len(influence):
        text = f"channel {unread[0]} of {len(influence)} has no influence on the logits"
        advice = "check how the first layer uses channels"
        return [Symptom("input-used", "warn", text, advice, least="warn")]
    share = float((influence.amax(0) > 0).float().mean())
    if share < READ:
        text = f"only {share:.0%} of the pixels have an influence on the logits"
        advice = "check for a crop, stride or pooling that drops the rest"
        # No twin of the network reads the rest, so no experiment can say less.
        return [Symptom("input-used", "warn", text, advice, "", share, 1.0, least="warn")]
    return []
