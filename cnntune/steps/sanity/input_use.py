"""Checks of what the network reads: the image decides, all of it."""

import torch
from torch import Tensor, nn

from cnntune.findings import Finding, Severity
from cnntune.steps.sanity.modes import settle
from cnntune.steps.sanity.subject import Subject
from cnntune.steps.sanity.tiny import Memory

SAME = 1e-5  # of the largest logit: what float32 sums in another order differ by
SETTLE_PASSES = 3  # batch norms settle in one, what has a momentum nearly
WOKEN = 0.02  # standard deviation, that of a vision transformer's other weights
READ = 0.6  # of the pixels that must have an influence


def input_used(subject: Subject, memory: Memory) -> list[Finding]:
    """The image must decide: blank images cannot be told apart (Karpathy's recipe, step 2).

    A network that gives every image the same logits reads none. One that learnt different labels by
    heart reads them; its twin on blank images cannot get under the entropy of the labels. Pixels
    and channels without any influence are named.
    """
    inputs, labels = subject.inputs[: memory.images], subject.labels[: memory.images]
    model = memory.model if memory.reached else subject.model()
    if not memory.attempts:
        _wake(model)
    if not memory.reached:  # with the running statistics of a fresh network, signals die out
        settle(model, inputs, SETTLE_PASSES if memory.attempts else 1)
    model.eval()
    with torch.no_grad():
        logits = model(inputs.clone()).float()
        blank = model(torch.zeros_like(inputs)).float()
    if float((logits - blank).abs().max()) <= SAME * float(logits.abs().max()):
        text = "images and blank images give the same logits"
        advice = "look at where the input is dropped, overwritten or multiplied by 0"
        return [Finding("input-used", "fail", text, advice, measured=0.0)]
    if found := _unread(model, inputs) or _order_free(model, inputs):
        return found
    if not memory.attempts:
        return [Finding("input-used", "ok", "logits differ from those of blank images")]
    loss, entropy = memory.attempts[-1].loss, _entropy(labels, subject.classes)
    text = f"loss {loss:.2g} with images; blank ones cannot get under {entropy:.2g}, the entropy"
    text += " of the labels"
    severity: Severity = "ok" if loss < entropy else "info"
    return [Finding("input-used", severity, text, measured=loss, expected=entropy)]


@torch.no_grad()
def _wake(model: nn.Module) -> None:
    """Layers that start at 0, such as the head of torchvision's `vit_b_16`, show nothing yet."""
    for parameter in model.parameters():
        if parameter.ndim > 1 and not bool(parameter.any()):
            nn.init.normal_(parameter, std=WOKEN)


def _order_free(model: nn.Module, inputs: Tensor) -> list[Finding]:
    """The same pixels in any order: only their statistics are read, not the picture."""
    pixels = inputs.flatten(2)
    order = torch.randperm(pixels.shape[2], generator=torch.Generator().manual_seed(0))
    shuffled = pixels[:, :, order.to(pixels.device)].view_as(inputs)
    with torch.no_grad():
        plain, other = model(inputs.clone()).float(), model(shuffled).float()
    if float((plain - other).abs().max()) > SAME * float(plain.abs().max()):
        return []
    text = "images with their pixels shuffled give the same logits"
    advice = "look for a mean or a pooling over the whole image before the first layer"
    return [Finding("input-used", "warn", text, advice, measured=0.0)]


def _entropy(labels: Tensor, classes: int) -> float:
    shares = torch.bincount(labels, minlength=classes).float() / len(labels)
    return float(-(shares[shares > 0] * shares[shares > 0].log()).sum())


def _unread(model: nn.Module, inputs: Tensor) -> list[Finding]:
    """Channels and pixels whose change changes nothing, by the gradient of the logits."""
    images = inputs.clone().requires_grad_()
    logits = model(images.clone())  # a leaf must not be changed in place
    if not logits.requires_grad:
        return []
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(
        (logits * weights.to(logits.device)).sum(), images, allow_unused=True
    )
    if gradient is None:  # images need none: pixels may be looked up in a table
        return []
    influence = gradient.abs().amax(0)
    unread = [k for k in range(len(influence)) if float(influence[k].max()) == 0]
    if unread and len(unread) < len(influence):
        text = f"channel {unread[0]} of {len(influence)} has no influence on the logits"
        return [Finding("input-used", "warn", text, "look at how the first layer takes channels")]
    share = float((influence.amax(0) > 0).float().mean())
    if share < READ:
        text = f"only {share:.0%} of the pixels have an influence on the logits"
        advice = "look for a crop, a stride or a pooling that drops the rest"
        return [Finding("input-used", "warn", text, advice, measured=share, expected=1.0)]
    return []
