"""Checks of the outputs and of the loss: does training start from log C, and towards the labels?"""

import math
import statistics

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnntune.build import Loss
from cnntune.findings import Finding, Severity
from cnntune.sanity.subject import Subject
from cnntune.seeds import derive_seed
from cnntune.train import seeded

INITIALISATIONS = 3  # one draw of the weights may be an outlier
LOSS_TOLERANCE = 0.3  # nats off log C: logits of standard deviation 0.8, as random heads have
HOT_LOGITS = 4.0  # standard deviation; healthy torchvision models at random weights reach 3.3
COOL_LOGITS = 0.3  # standard deviation that adds 0.3^2 / 2 = 0.045 to log C
BIAS_SHARE = 0.5  # of the logits' spread, from the head's bias alone
SUM_TOLERANCE = 1e-3  # of 1, for a row that may be a softmax
DROPPED = 0.02  # share of logits that are exactly 0, from which chance is no explanation

PROBE_IMAGES = 64
PROBE_CONFIDENCE = 5.0  # logit of the right class; e^5 is 99 % against ten classes
SCALES = (
    0.5,
    1.0,
    1.5,
    2.0,
    3.0,
    5.0,
    10.0,
    30.0,
    100.0,
)  # logits at which the least loss is searched
SAME = 1e-6  # relative: two losses that differ less are equal
CLOSE = 0.05  # relative: a loss this near to a known one is that one
IGNORED = 0.05  # of the images; a mean over the batch ignores none
MOST = 0.5
ODD_SCALE = 10.0  # times a cross-entropy, or a tenth of it
MUCH_SMOOTHING = 0.5  # the right class then has no more than the others together
HOPELESS_SMOOTHING = 0.9  # a tenth: among ten classes no more than each other one

BOUNDED = {
    "SoftmaxBackward": "softmax",
    "SigmoidBackward": "sigmoid",
    "TanhBackward": "tanh",
    "ReluBackward": "ReLU",
    "HardtanhBackward": "clamp",
    "ClampBackward": "clamp",
    "ThresholdBackward": "ReLU",
    "SoftplusBackward": "softplus",
    "ExpBackward": "exp",
    "AbsBackward": "abs",
    "PowBackward": "power",
}
PASSED_THROUGH = ("View", "Squeeze", "Unsqueeze", "Mul", "Div", "Add", "Reshape", "Alias", "Clone")


def outputs(subject: Subject) -> list[Finding]:
    """The network must put out one logit a class: any finite number, with no squashing after it.

    Cross-entropy takes the softmax itself. A softmax, sigmoid, tanh or ReLU before it bounds the
    logits, and the loss cannot come near 0: with a softmax it stops at log(1 + (C - 1) / e), which
    is 1.46 for ten classes. (PyTorch documentation of `CrossEntropyLoss`; CS231n step 2.)
    """
    model = subject.model()
    with seeded(subject.recipe.seed, device=subject.device):
        logits = model(subject.inputs)
    expected = (len(subject.inputs), subject.classes)
    if not isinstance(logits, Tensor) or tuple(logits.shape) != expected:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        advice = f"the last layer must give one number for each of the {subject.classes} classes"
        return [Finding("outputs", "fail", f"shape {got}, expected {expected}", advice)]
    if not torch.isfinite(logits).all():
        share = float((~torch.isfinite(logits)).float().mean())
        text = f"{share:.0%} of the outputs are NaN or infinite before any training"
        return [Finding("outputs", "fail", text, "look for a division by zero, a log of 0, sqrt")]
    if bound := _bound(logits):
        text = f"the outputs end in a {bound}: they lie in {_span(logits)}"
        advice = f"return the logits: remove the {bound}; the loss applies its own softmax"
        return [Finding("outputs", "fail", text, advice)]
    zeros = float((logits == 0).float().mean())
    if DROPPED < zeros < 1 - DROPPED:
        text = f"{zeros:.0%} of the logits are exactly 0 in train mode"
        return [Finding("outputs", "warn", text, "drop features before the last layer, not logits")]
    text = f"{subject.classes} logits an image, in {_span(logits)}"
    return [Finding("outputs", "ok", text)]


def first_step(subject: Subject) -> Finding | None:
    """Why not a single training step is possible; None where one is."""
    waits = Finding("skipped", "info", "the other checks wait until the above is mended")
    model = subject.model()
    if not any(parameter.requires_grad for parameter in model.parameters()):
        return waits
    with seeded(subject.recipe.seed, device=subject.device):
        logits = model(subject.inputs)
    if not isinstance(logits, Tensor) or logits.shape != (len(subject.inputs), subject.classes):
        return waits
    value = subject.loss()(logits, subject.labels)
    if value.numel() != 1 or not torch.isfinite(value.detach()).all():
        return waits
    if not value.requires_grad:
        text = "no parameter gets a gradient: the loss is cut off from the layers"
        advice = "look for detach, .data, no_grad, argmax, item or numpy in model and loss"
        return Finding("gradient-flow", "fail", text, advice, measured=0.0)
    return None


def _span(logits: Tensor) -> str:
    logits = logits.detach()
    return f"{float(logits.min()):.3g} ... {float(logits.max()):.3g}"


def _bound(logits: Tensor) -> str | None:
    """What squashes the outputs: the last operation of the graph, or what the numbers betray."""
    node = logits.grad_fn
    for _ in range(6):  # a softmax may be reshaped or scaled afterwards
        if node is None:
            break
        name = node.name()
        for prefix, bound in BOUNDED.items():
            if name.startswith(prefix):
                return bound
        if not name.startswith(PASSED_THROUGH):
            break
        node = next((after for after, _ in node.next_functions if after is not None), None)
    one = (logits.sum(1) - 1).abs() < SUM_TOLERANCE
    return "softmax" if bool((logits >= 0).all()) and bool(one.all()) else None


def initial_loss(subject: Subject) -> list[Finding]:
    """A network that knows nothing gives each class 1/C, so its loss is log C (CS231n step 1).

    Judged in train mode, as training will see it: at random weights, running statistics of batch
    norms are no statistics, and healthy networks reach 1e9 in eval mode. Logits that are large by
    chance, of standard deviation s, raise the loss by about s^2 / 2. That is a hot head: harmless
    for the loss, but the first epochs are spent on cooling it.
    """
    losses, spreads = [], []
    for draw in range(INITIALISATIONS):
        model = subject.model(draw)
        seed = derive_seed(subject.recipe.seed, "initial-loss", draw)
        with torch.no_grad(), seeded(seed, device=subject.device):
            logits = model(subject.inputs).float()
        losses.append(float(F.cross_entropy(logits, subject.labels)))
        spreads.append(float((logits - logits.mean(1, keepdim=True)).std()))
    loss, spread = statistics.median(losses), statistics.median(spreads)
    expected = math.log(subject.classes)
    evidence = f"loss {loss:.4g}, log({subject.classes}) = {expected:.4g}"
    severity: Severity = "ok"
    advice = ""
    if not math.isfinite(loss):
        severity, advice = "fail", "look for an overflow in the forward pass"
    elif abs(loss - expected) > LOSS_TOLERANCE:
        severity = "warn" if spread > HOT_LOGITS else "info"
        hot = spread / COOL_LOGITS
        evidence += f"; logits have a standard deviation of {spread:.2g}, {hot:.0f}x too large"
        advice = _head_bias(subject.model(), spread) or (
            f"scale the last layer's initial weights by {1 / hot:.2g}"
        )
    return [Finding("initial-loss", severity, evidence, advice, measured=loss, expected=expected)]


def _head_bias(model: nn.Module, spread: float) -> str:
    """Whether the head's bias prefers a class, by more than half of the logits' spread."""
    heads = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    if not heads or heads[-1].bias is None:
        return ""
    bias = heads[-1].bias.detach().float()
    if len(bias) < 2 or float(bias.std()) < BIAS_SHARE * spread:
        return ""
    return f"the last layer's bias prefers class {int(bias.argmax())}: start it at 0"


def loss(subject: Subject) -> list[Finding]:
    """The loss must be lowest for the right class, average over images, and reach 0.

    Probed on logits made by hand, without the network: what a loss does to equal logits, to right
    ones and to wrong ones tells a sum from a mean, a wrong sign, shuffled targets and a softmax too
    many apart. A cross-entropy of C equal logits is log C (CS231n step 1).
    """
    probe = _Probe.of(subject)
    rules = (_broken, _blind, _misled, _summed, _floored, _scaled)
    found = next((finding for rule in rules if (finding := rule(probe))), None)
    if found is None:
        text = f"{probe.equal:.4g} on equal logits, {probe.lowest:.2g} at best"
        found = Finding("loss", "ok", text, measured=probe.equal, expected=probe.expected)
    return [found, *_smoothing(subject)]


def floor(subject: Subject) -> float:
    """The lowest that the loss gets on right logits of any size, without label smoothing."""
    if subject.recipe.train.loss == "cross-entropy":
        return 0.0
    return max(0.0, _Probe.of(subject).lowest)


class _Probe:
    """The loss on logits made by hand; `targets` hold every class."""

    def __init__(self, function: Loss, classes: int, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(0)
        images = classes * max(1, math.ceil(PROBE_IMAGES / classes))
        self.function, self.classes = function, classes
        self.targets = (torch.arange(images) % classes).to(device)
        self.logits = torch.randn(images, classes, generator=generator).to(device)
        self.expected = math.log(classes)
        self.equal = self.value(torch.zeros_like(self.logits), self.targets)
        rights = [self.value(self.right(scale), self.targets) for scale in SCALES]
        self.lowest = min(rights)

    @classmethod
    def of(cls, subject: Subject) -> "_Probe":
        """Probe the recipe's loss."""
        return cls(subject.loss(), subject.classes, subject.device)

    def value(self, logits: Tensor, targets: Tensor) -> float:
        """The loss as a number; NaN where it is no scalar."""
        result = self.function(logits, targets)
        return float(result.detach()) if result.numel() == 1 else math.nan

    def right(self, scale: float, shift: int = 0) -> Tensor:
        """Logits that are sure of the class `shift` after the right one, and against the others."""
        answers = F.one_hot((self.targets + shift) % self.classes, self.classes).float()
        return scale * (2 * answers - 1)


def _broken(probe: _Probe) -> Finding | None:
    """No finite scalar, or none that gradients flow through."""
    logits = probe.logits.clone().requires_grad_()
    result = probe.function(logits, probe.targets)
    if result.numel() != 1:
        text = f"gives {tuple(result.shape)}, must give one number"
        return Finding("loss", "fail", text, "average over the images")
    if not math.isfinite(probe.equal):
        return Finding("loss", "fail", "is not finite on equal logits", "look for log(0) or 0/0")
    if not result.requires_grad:
        advice = "compute it with differentiable operations: no argmax, item, detach or no_grad"
        return Finding("loss", "fail", "no gradient flows back from it to the logits", advice)
    (gradient,) = torch.autograd.grad(result, logits, allow_unused=True)
    if gradient is None or float(gradient.abs().max()) == 0:
        text = f"is constant: {float(result.detach()):.4g} with a gradient of 0"
        return Finding("loss", "fail", text, "it must depend on the logits")
    ignored = float((gradient.abs().amax(1) == 0).float().mean())
    if ignored > IGNORED:
        text = f"ignores {ignored:.0%} of the images: their logits get no gradient"
        severity: Severity = "fail" if ignored > MOST else "warn"
        return Finding("loss", severity, text, "average over all images", measured=ignored)
    return None


def _blind(probe: _Probe) -> Finding | None:
    """The targets make no difference."""
    plain = probe.value(probe.logits, probe.targets)
    other = probe.value(probe.logits, (probe.targets + 1) % probe.classes)
    if abs(plain - other) > SAME * abs(plain):
        return None
    text = f"ignores its targets: {plain:.4g} with the right ones and with wrong ones"
    return Finding("loss", "fail", text, "use the `targets` argument")


def _misled(probe: _Probe) -> Finding | None:
    """Another class than the right one costs least."""
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
    text = f"for {wrong} of {probe.classes} classes a wrong answer costs no more than the right"
    text += f" one: {right:.4g} for right logits, {cost:.4g} for those {lower} classes further"
    if not wrong:
        text = f"right logits cost {right:.4g}, those of other images' classes {cost:.4g}"
    advice = "look at its sign, and whether logits and targets are in one order"
    if right > probe.equal > cost:
        advice = "its sign is wrong: training would raise the cross-entropy"
    return Finding("loss", "fail", text, advice, measured=right, expected=cost)


def _summed(probe: _Probe) -> Finding | None:
    """Twice the images, twice the loss; or a softmax over the images."""
    once = probe.value(probe.logits, probe.targets)
    twice = probe.value(probe.logits.repeat(2, 1), probe.targets.repeat(2))
    if abs(twice - 2 * once) < CLOSE * abs(once):
        text = f"is summed over the images: {once:.4g} for {len(probe.targets)}, {twice:.4g} for"
        text += f" {len(probe.targets) * 2}"
        advice = "average it, or the gradient grows with the batch: `reduction='mean'`"
        return Finding("loss", "fail", text, advice, measured=probe.equal, expected=probe.expected)
    if abs(twice - once) > CLOSE * abs(once):
        text = f"depends on the number of images: {once:.4g} for {len(probe.targets)}, {twice:.4g}"
        text += f" for {len(probe.targets) * 2}, the same ones twice"
        advice = "take the softmax over the classes, dim=1, and the mean over the images"
        return Finding("loss", "fail", text, advice, measured=twice, expected=once)
    return None


def _floored(probe: _Probe) -> Finding | None:
    """It cannot reach 0, or falls below it."""
    double = math.log(1 + (probe.classes - 1) / math.e)
    if probe.lowest < -CLOSE:
        text = f"falls below 0, to {probe.lowest:.4g} for large right logits"
        advice = "nll_loss takes log-probabilities: use cross_entropy, or log_softmax before it"
        return Finding("loss", "fail", text, advice, measured=probe.lowest, expected=0.0)
    if abs(probe.lowest - double) < CLOSE * double:
        text = f"stops at {probe.lowest:.4g} for right logits of any size; log(1 + (C-1)/e) is"
        text += f" {double:.4g}, which is what a softmax too many leaves"
        advice = "remove the softmax before the cross-entropy"
        return Finding("loss", "fail", text, advice, measured=probe.lowest, expected=0.0)
    return None


def _scaled(probe: _Probe) -> Finding | None:
    """Far larger or smaller than a cross-entropy, which makes the usual rates wrong ones."""
    factor = probe.equal / probe.expected
    if 1 / ODD_SCALE < abs(factor) < ODD_SCALE:
        return None
    text = f"is {factor:.3g} times a cross-entropy: {probe.equal:.4g} on equal logits"
    advice = "the learning rate has to make up for it: scale the loss, or run `cnntune lr-sweep`"
    return Finding("loss", "warn", text, advice, measured=probe.equal, expected=probe.expected)


def _smoothing(subject: Subject) -> list[Finding]:
    smoothing = subject.recipe.train.label_smoothing
    if smoothing < MUCH_SMOOTHING:
        return []
    text = f"train.label_smoothing = {smoothing:g} leaves the right class {1 - smoothing:.0%}"
    severity: Severity = "fail" if smoothing > HOPELESS_SMOOTHING else "warn"
    return [Finding("loss", severity, text, "0.1 is usual (Szegedy et al. 2016)")]
