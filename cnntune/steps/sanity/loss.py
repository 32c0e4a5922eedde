"""Checks of the loss on hand-made logits: is it lowest for the right class, and near 0 there?"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from cnntune.findings import Finding, Severity
from cnntune.steps.sanity.subject import Subject, once
from cnntune.texts import counted
from cnntune.training.build import Loss

PROBE_IMAGES = 64
PROBE_CONFIDENCE = 5.0  # logit of the right class: a probability of 99 % among ten classes
SCALES = (0.1, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0)  # of the logits tried
SAME = 1e-6  # relative difference below which two losses are equal
PROBED_OUTPUTS = 8  # images
SAME_TOTAL = 1e-3  # of the logarithm of all probabilities, which is 0; bfloat16 has three digits
CLOSE = 0.05  # relative difference below which a loss matches a known value
IGNORED = 0.05  # share of the images; a mean over the batch ignores none
MOSTLY_IGNORED = 0.5
SQUASHED = 0.2  # of the loss on equal logits
EPOCHS, BATCHES = 4, 10  # orders of the training set, and the last batches of each, that are tried
UNEVEN = 1.5  # most over fewest images of a class, before weights can follow them
RISING = 0.25  # power of the counts that the weights follow; -1 balances the classes, 0 is none


def loss(subject: Subject) -> list[Finding]:
    """The loss must be lowest for the right class, average over the images, and approach 0.

    It is evaluated on hand-made logits, without the network. Its values on equal, right and wrong
    logits reveal a sum instead of a mean, a wrong sign, shuffled targets or a second softmax. The
    cross-entropy of C equal logits is log C (CS231n step 1). Class weights must not rise with the
    number of a class's images:

        weight = counts / counts.sum()              # before: rare classes hardly count
        weight = counts.sum() / (classes * counts)  # after: all classes count alike
    """
    probe = _Probe.of(subject)
    rules = (_broken, _remembers, _blind, _misled, _summed, _floored)
    found = next((finding for rule in rules if (finding := rule(probe))), None)
    found = found or _undefined(subject, probe)
    if found is None:
        text = f"{probe.equal:.4g} on equal logits, {probe.lowest:.2g} at its lowest"
        found = Finding("loss", "ok", text, measured=probe.equal, expected=probe.expected)
    return [found, *_weights(subject)]


def floor(subject: Subject) -> float:
    """The minimum of the loss over right logits of all scales, without label smoothing."""
    if subject.recipe.train.loss == "cross-entropy":
        return 0.0
    return max(0.0, _Probe.of(subject).lowest)


class _Probe:
    """The loss on hand-made logits; `targets` contain every class."""

    def __init__(self, function: Loss, classes: int, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(0)
        images = classes * max(1, math.ceil(PROBE_IMAGES / classes))
        self.function, self.classes = function, classes
        self.targets = (torch.arange(images) % classes).to(device)
        self.logits = torch.randn(images, classes, generator=generator).to(device)
        self.expected = math.log(classes)
        self.equal = self.value(torch.zeros_like(self.logits), self.targets)
        rights = [self.right(scale) for scale in SCALES]
        # A squared error against one-hot targets is lowest for logits of 0 and s, not -s and s.
        rights += [right.clamp(min=0) for right in rights]
        self.lowest = min(self.value(right, self.targets) for right in rights)

    @classmethod
    def of(cls, subject: Subject) -> "_Probe":
        """A probe of the recipe's loss, on logits of the kind that the network gives."""
        loss = subject.loss()
        if _gives_log_probabilities(subject):
            return cls(lambda x, y: loss(x.log_softmax(1), y), subject.classes, subject.device)
        return cls(loss, subject.classes, subject.device)

    def value(self, logits: Tensor, targets: Tensor) -> float:
        """The loss as a number; NaN if it is not a scalar."""
        result = self.function(logits, targets)
        scalar = isinstance(result, Tensor) and result.numel() == 1
        return float(result.detach()) if scalar else math.nan

    def right(self, scale: float, shift: int = 0) -> Tensor:
        """Logits of `scale` for the class `shift` after the right one, `-scale` for the others."""
        answers = F.one_hot((self.targets + shift) % self.classes, self.classes).float()
        return scale * (2 * answers - 1)


def _undefined(subject: Subject, probe: _Probe) -> Finding | None:
    """The loss of some batches of training labels is not finite, as where a class is absent."""
    labels, size = subject.data.train.labels.cpu(), subject.recipe.train.batch_size
    generator = torch.Generator().manual_seed(0)
    orders = [torch.randperm(len(labels), generator=generator) for _ in range(EPOCHS)]
    batches = [labels[part] for order in orders for part in order.split(size)[-BATCHES:]]
    logits = torch.randn(size, subject.classes, generator=generator).to(subject.device)
    values = [probe.value(logits[: len(batch)], batch.to(subject.device)) for batch in batches]
    undefined = [
        len(batch) for batch, value in zip(batches, values, strict=True) if not math.isfinite(value)
    ]
    if not undefined:
        return None
    text = f"is not finite on {len(undefined)} of {len(batches)} batches of training labels"
    if len(set(undefined)) == 1 and undefined[0] < size:
        text += f", each of {counted(undefined[0], 'image')}: the last of an epoch"
    advice = "check for a division by zero where a class has no image in the batch"
    return Finding("loss", "fail", text, advice, measured=float(len(undefined)), expected=0.0)


@once
@torch.no_grad()
def _gives_log_probabilities(subject: Subject) -> bool:
    """Whether the outputs of the network end in a log-softmax, as `nll_loss` needs them."""
    outputs = subject.untrained(subject.inputs[:PROBED_OUTPUTS])
    if not isinstance(outputs, Tensor) or outputs.ndim != 2:  # `outputs` reports what is wrong
        return False
    return bool(outputs.logsumexp(1).abs().max() < SAME_TOTAL)


def _broken(probe: _Probe) -> Finding | None:
    """The loss is not a finite scalar with a gradient."""
    logits = probe.logits.clone().requires_grad_()
    result = probe.function(logits, probe.targets)
    if not isinstance(result, Tensor):
        text = f"returns a {type(result).__name__}, expected a tensor with a gradient"
        number = isinstance(result, int | float)
        advice = "return the tensor itself, without .item() or float()"
        return Finding("loss", "fail", text, advice if number else "return the mean as one tensor")
    if result.numel() != 1:
        text = f"returns shape {tuple(result.shape)}, expected a scalar"
        return Finding("loss", "fail", text, "average over the images")
    if not math.isfinite(probe.equal):
        return Finding("loss", "fail", "is not finite on equal logits", "check for log(0) or 0/0")
    if not result.requires_grad:
        advice = "use differentiable operations only: no argmax, item, detach or no_grad"
        return Finding("loss", "fail", "no gradient flows from it to the logits", advice)
    (gradient,) = torch.autograd.grad(result, logits, allow_unused=True)
    if gradient is None or float(gradient.abs().max()) == 0:
        text = f"is constant: {float(result.detach()):.4g} with a gradient of 0"
        return Finding("loss", "fail", text, "make it depend on the logits")
    if not _finite_gradient(probe):
        text = "its gradient is NaN or infinite on large right logits"
        return Finding("loss", "fail", text, "check for a log or square root of exactly 0")
    silent = gradient.abs().amax(1) == 0
    costs = F.cross_entropy(probe.logits, probe.targets, reduction="none")
    hardest = bool(silent.any()) and bool(costs[silent].max() <= costs[~silent].min())
    if hardest and float(silent.float().mean()) <= MOSTLY_IGNORED:
        return None  # hard-example mining (Shrivastava et al. 2016)
    return _ignores(silent, probe.classes)


def _ignores(silent: Tensor, classes: int) -> Finding | None:
    """`silent` (bool `[N]`) marks images without a gradient; image i is of class i mod C."""
    ignored = float(silent.float().mean())
    by_class = silent.view(-1, classes)
    whole = by_class.all(0)
    if (
        ignored <= MOSTLY_IGNORED
        and len(by_class) > 1
        and whole.any()
        and whole.equal(by_class.any(0))
    ):
        text = f"ignores class number {int(whole.nonzero()[0])}: its images get no gradient"
        advice = "check ignore_index, and class weights of 0"
        return Finding("loss", "fail", text, advice, measured=ignored, expected=0.0)
    if ignored > IGNORED:
        text = f"ignores {ignored:.0%} of the images: their logits get no gradient"
        severity: Severity = "fail" if ignored > MOSTLY_IGNORED else "warn"
        return Finding("loss", severity, text, "average over all images", measured=ignored)
    return None


def _finite_gradient(probe: _Probe) -> bool:
    logits = probe.right(SCALES[-1]).requires_grad_()
    result = probe.function(logits, probe.targets)
    (gradient,) = torch.autograd.grad(result, logits, allow_unused=True)
    return gradient is None or bool(torch.isfinite(gradient).all())


def _remembers(probe: _Probe) -> Finding | None:
    """The same logits have another loss the second time."""
    first = probe.value(probe.logits, probe.targets)
    second = probe.value(probe.logits, probe.targets)
    if abs(first - second) <= SAME * abs(first):
        return None
    text = f"is {first:.4g}, then {second:.4g} for the same logits and targets"
    advice = "check for a total that is kept from batch to batch, and for random numbers"
    return Finding("loss", "fail", text, advice, measured=second, expected=first)


def _blind(probe: _Probe) -> Finding | None:
    """The targets make no difference."""
    plain = probe.value(probe.logits, probe.targets)
    other = probe.value(probe.logits, (probe.targets + 1) % probe.classes)
    if abs(plain - other) > SAME * abs(plain):
        return None
    text = f"ignores its targets: {plain:.4g} with right targets and with wrong ones"
    return Finding("loss", "fail", text, "use the `targets` argument")


def _misled(probe: _Probe) -> Finding | None:
    """The loss is lowest for a wrong class."""
    each = torch.arange(probe.classes, device=probe.targets.device)
    sure = PROBE_CONFIDENCE * (2 * torch.eye(probe.classes, device=probe.targets.device) - 1)
    wrong = 0
    for target in each.tolist():
        here = each[target : target + 1].repeat(2)
        costs = [probe.value(sure[k : k + 1].repeat(2, 1), here) for k in each.tolist()]
        others = min(costs[:target] + costs[target + 1 :])
        wrong += costs[target] > others - SAME * abs(others)
    right = probe.value(probe.right(PROBE_CONFIDENCE), probe.targets)
    shifts = range(1, probe.classes)
    lower = min(shifts, key=lambda k: probe.value(probe.right(PROBE_CONFIDENCE, k), probe.targets))
    cost = probe.value(probe.right(PROBE_CONFIDENCE, lower), probe.targets)
    if not wrong and right < cost:
        return None
    text = f"for {wrong} of {probe.classes} classes it is as low for a wrong class as for the right"
    text += f" one: {right:.4g} for the right class, {cost:.4g} for the class {lower} further on"
    if not wrong:
        text = f"is {right:.4g} for the right class, {cost:.4g} for the class of another image"
    advice = "check its sign, and that logits and targets are in the same order"
    if right > probe.equal > cost:
        advice = "flip its sign: training would raise the cross-entropy"
    return Finding("loss", "fail", text, advice, measured=right, expected=cost)


def _summed(probe: _Probe) -> Finding | None:
    """The loss depends on the number of images: it is a sum, or takes a softmax over them."""
    once = probe.value(probe.logits, probe.targets)
    twice = probe.value(probe.logits.repeat(2, 1), probe.targets.repeat(2))
    if abs(twice - 2 * once) < CLOSE * abs(once):
        text = f"is summed over the images: {once:.4g} for {len(probe.targets)}, {twice:.4g} for"
        text += f" {len(probe.targets) * 2}, so the gradient grows with the batch size"
        advice = "average over the images: `reduction='mean'`"
        return Finding("loss", "fail", text, advice, measured=probe.equal, expected=probe.expected)
    if abs(twice - once) > CLOSE * abs(once):
        text = f"depends on the number of images: {once:.4g} for {len(probe.targets)}, {twice:.4g}"
        text += f" for {len(probe.targets) * 2} (each image twice)"
        advice = "take the softmax over the classes (dim=1) and the mean over the images"
        return Finding("loss", "fail", text, advice, measured=twice, expected=once)
    return None


def _floored(probe: _Probe) -> Finding | None:
    """The loss cannot approach 0, or falls below it."""
    double = math.log(1 + (probe.classes - 1) / math.e)
    if probe.lowest < -CLOSE:
        text = f"falls below 0, to {probe.lowest:.4g} for large right logits"
        advice = "nll_loss expects log-probabilities: use cross_entropy, or log_softmax before it"
        return Finding("loss", "fail", text, advice, measured=probe.lowest, expected=0.0)
    if abs(probe.lowest - double) < CLOSE * double:
        text = f"does not fall below {probe.lowest:.4g} for right logits of any scale; a second"
        text += f" softmax stops at log(1 + (C-1)/e) = {double:.4g}"
        advice = "remove the softmax before the cross-entropy"
        return Finding("loss", "fail", text, advice, measured=probe.lowest, expected=0.0)
    large, larger = (probe.value(probe.right(scale), probe.targets) for scale in SCALES[-2:])
    if abs(large - larger) <= SAME * abs(large) and probe.lowest > SQUASHED * probe.equal:
        text = f"is {probe.equal:.4g} on equal logits and does not fall below {probe.lowest:.4g}"
        text += " for right logits of any scale: something squashes them"
        advice = "remove the softmax or sigmoid that is applied a second time"
        return Finding("loss", "fail", text, advice, measured=probe.lowest, expected=0.0)
    return None


def _weights(subject: Subject) -> list[Finding]:
    """The weights of the classes, by their gradients at equal logits, against their images."""
    probe = _Probe.of(subject)
    logits = torch.zeros_like(probe.logits).requires_grad_()
    value = probe.function(logits, probe.targets)
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
        return []
    (gradient,) = torch.autograd.grad(value, logits, allow_unused=True)
    if gradient is None:
        return []
    by_class = gradient.abs().sum(1).view(-1, probe.classes).mean(0).cpu()
    counts = torch.bincount(subject.data.train.labels.cpu(), minlength=probe.classes)
    present = (counts[: probe.classes] > 0) & (by_class > 0)
    x, y = counts[: probe.classes][present].double().log(), by_class[present].double().log()
    if len(x) < 2 or float(x.max() - x.min()) < math.log(UNEVEN):
        return []
    x, y = x - x.mean(), y - y.mean()
    power = float((x * y).sum() / x.square().sum())
    if power < RISING or float((y - power * x).norm()) > float(y.norm()) / 2:
        return []
    text = f"class weights rise with the number of images, as its power {power:.2g}: rare classes"
    text += " count even less"
    advice = "weight by 1 / images of the class, not by the number of images"
    return [Finding("loss", "warn", text, advice, measured=power, expected=-1.0)]
