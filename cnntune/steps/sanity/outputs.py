"""Checks of what the network gives: one logit a class, and a loss that starts from log C."""

import math
import statistics
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnntune.findings import Finding, Severity
from cnntune.seeds import derive_seed
from cnntune.steps.sanity.subject import Subject
from cnntune.training.device import seeded

FEW = 4  # images, to see whether a step is possible at all
INITIALISATIONS = 3  # one draw of the weights may be an outlier
ENOUGH_IMAGES = 64  # of a batch; with fewer, the evidence says so
LOSS_TOLERANCE = 0.3  # nats off log C: logits of standard deviation 0.8, as random heads have
HOT_LOGITS = 4.0  # standard deviation; healthy torchvision models at random weights reach 3.3
COOL_LOGITS = 0.3  # standard deviation that adds 0.3^2 / 2 = 0.045 to log C
BIAS_SHARE = 0.5  # of the logits' spread, from the head's bias alone
SUM_TOLERANCE = 1e-3  # of 1, for a row that may be a softmax
DROPPED = 0.02  # share of logits that are exactly 0, from which chance is no explanation

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
    "GeluBackward": "GELU",
    "SiluBackward": "SiLU",
    "MishBackward": "Mish",
    "EluBackward": "ELU",
    "HardswishBackward": "hardswish",
    "HardsigmoidBackward": "hardsigmoid",
    "LogSigmoidBackward": "logsigmoid",
    "LeakyReluBackward": "leaky ReLU",
    "PreluKernelBackward": "PReLU",
}
NORMS = {
    "NativeBatchNorm": "batch norm",
    "CudnnBatchNorm": "batch norm",
    "NativeLayerNorm": "layer norm",
    "NativeGroupNorm": "group norm",
}
CAP = 10.0  # logits held within it still reach 99.9 % among ten classes; Gemma 2 caps at 30
CAPS = ("tanh", "sigmoid", "clamp", "softmax")
PASSED_THROUGH = ("View", "Squeeze", "Unsqueeze", "Mul", "Div", "Add", "Reshape", "Alias", "Clone")


WAITS = Finding("skipped", "info", "the other checks wait until the above is fixed")


def outputs(subject: Subject) -> list[Finding]:
    """The network must put out one logit a class: any finite number, with no squashing after it.

    Cross-entropy takes the softmax itself. A softmax, sigmoid, tanh or ReLU before it bounds the
    logits, and the loss cannot come near 0: with a softmax it stops at log(1 + (C - 1) / e), which
    is 1.46 for ten classes. (PyTorch documentation of `CrossEntropyLoss`; CS231n step 2.)
    """
    images = subject.inputs
    with seeded(subject.recipe.seed, device=subject.device):
        logits = subject.untrained(images)
    expected = (len(images), subject.classes)
    if not isinstance(logits, Tensor) or tuple(logits.shape) != expected:
        if not isinstance(logits, Tensor):
            text = f"a {type(logits).__name__} in train mode, expected logits of shape {expected}"
            return [Finding("outputs", "fail", text, "return the logits alone, in both modes")]
        advice = f"the last layer must give one number for each of the {subject.classes} classes"
        text = f"shape {tuple(logits.shape)} in train mode, expected {expected}"
        return [Finding("outputs", "fail", text, advice)]
    if not torch.isfinite(logits).all():
        share = float((~torch.isfinite(logits)).float().mean())
        text = f"{share:.0%} of the outputs are NaN or infinite before any training"
        return [Finding("outputs", "fail", text, "look for a division by zero, a log of 0, sqrt")]
    if bound := _bound(logits):
        text = f"the outputs end in a {bound}: they lie in {_span(logits)}"
        advice = f"return the logits: remove the {bound}; the loss applies its own softmax"
        return [Finding("outputs", "fail", text, advice)]
    if norm := _last_operation(logits, NORMS)[0]:
        text = f"the outputs end in a {norm}: logits are measured against each other"
        advice = f"remove the {norm} after the last layer, which gives the logits"
        return [Finding("outputs", "warn", text, advice)]
    if not torch.equal(images, subject.kept_inputs):
        text = "the forward pass changes the images that it is given"
        advice = "write x = x * 0.5, not x.mul_(0.5) or x *= 0.5"
        return [Finding("outputs", "warn", text, advice)]
    zeros = float((logits == 0).float().mean())
    if DROPPED < zeros < 1 - DROPPED:
        text = f"{zeros:.0%} of the logits are exactly 0 in train mode"
        return [Finding("outputs", "warn", text, "drop features before the last layer, not logits")]
    text = f"{subject.classes} logits an image, in {_span(logits)}"
    return [Finding("outputs", "ok", text)]


def first_step(subject: Subject) -> Finding | None:
    """Why not a single training step is possible; None where one is."""
    model = subject.untrained
    if not any(parameter.requires_grad for parameter in model.parameters()):
        return WAITS
    few = subject.inputs[:FEW]
    with seeded(subject.recipe.seed, device=subject.device):
        logits = model(few.clone())
    if not isinstance(logits, Tensor) or logits.shape != (len(few), subject.classes):
        return WAITS
    value = subject.loss()(logits, subject.labels[:FEW])
    if not isinstance(value, Tensor) or value.numel() != 1 or not torch.isfinite(value.detach()):
        return WAITS
    if not value.requires_grad:
        text = "no parameter gets a gradient: the loss is cut off from the layers"
        advice = "look for detach, .data, no_grad, argmax, item or numpy in model and loss"
        return Finding("gradient-flow", "fail", text, advice, measured=0.0)
    return _backward(subject, model, value, few)


def _backward(subject: Subject, model: nn.Module, value: Tensor, images: Tensor) -> Finding | None:
    """Two steps backward; autograd objects to graphs that were changed or are used again."""
    try:
        value.backward()
        with seeded(subject.recipe.seed, device=subject.device):
            subject.loss()(model(images.clone()), subject.labels[:FEW]).backward()
        model.zero_grad(set_to_none=True)
    except RuntimeError as error:
        text = f"backward raises: {(str(error).splitlines() or [''])[0]}"
        advice = "look for operations in place (+=, relu_) and for tensors kept from step to step"
        return Finding("gradient-flow", "fail", text, advice)
    return None


def _span(logits: Tensor) -> str:
    logits = logits.detach()
    return f"{float(logits.min()):.3g} ... {float(logits.max()):.3g}"


def _bound(logits: Tensor) -> str | None:
    """What squashes the outputs: the last operation of the graph, or what the numbers betray.

    A cap far out keeps logits finite and squashes nothing.
    """
    bound, factor, node = _last_operation(logits, BOUNDED)
    low, high = getattr(node, "_saved_min", -1.0), getattr(node, "_saved_max", 1.0)
    limits = [abs(limit) for limit in (low, high) if isinstance(limit, int | float)]
    if bound and not (bound in CAPS and limits and factor * min(limits) >= CAP):
        return bound
    one = (logits.sum(1) - 1).abs() < SUM_TOLERANCE
    return "softmax" if bool((logits >= 0).all()) and bool(one.all()) else None


def _last_operation(logits: Tensor, named: dict[str, str]) -> tuple[str | None, float, Any]:
    """The name of what the logits come from, the factor it is taken times, and its node.

    A softmax may be reshaped or scaled afterwards; what combines two results ends the search.
    """
    node, factor = logits.grad_fn, 1.0
    for _ in range(6):
        if node is None:
            break
        name = node.name()
        for prefix, operation in named.items():
            if name.startswith(prefix):
                return operation, factor, node
        if not name.startswith(PASSED_THROUGH):
            break
        other = getattr(node, "_saved_other", None)
        if isinstance(other, Tensor) and other.numel() == 1 and bool(other != 0):
            value = abs(float(other.detach()))
            factor *= value if name.startswith("Mul") else 1 / value
        node = _before(node)
    return None, factor, None


def _before(node: Any) -> Any:
    """The operation whose result `node` passes on; None for a product with what is learned."""
    before = [after for after, _ in node.next_functions if after is not None]
    if not node.name().startswith("Mul"):
        before = [after for after in before if not hasattr(after, "variable")]
    return before[0] if len(before) == 1 else None


def initial_loss(subject: Subject) -> list[Finding]:
    """A network that knows nothing gives each class 1/C, so its loss is log C (CS231n step 1).

    Judged in train mode, as training will see it: at random weights, running statistics of batch
    norms are no statistics, and healthy networks reach 1e9 in eval mode. Logits that are large by
    chance, of standard deviation s, raise the loss by about s^2 / 2. That is a hot head: harmless
    for the loss, but the first epochs are spent on cooling it.
    """
    losses, spreads = [], []
    for draw in range(INITIALISATIONS):
        model = subject.model(draw) if draw else subject.untrained
        seed = derive_seed(subject.recipe.seed, "initial-loss", draw)
        with torch.no_grad(), seeded(seed, device=subject.device):
            logits = model(subject.inputs).detach().float()
        losses.append(float(F.cross_entropy(logits, subject.labels)))
        spreads.append(float((logits - logits.mean(1, keepdim=True)).std()))
    loss, spread = statistics.median(losses), statistics.median(spreads)
    expected = math.log(subject.classes)
    evidence = f"loss {loss:.4g}, log({subject.classes}) = {expected:.4g}"
    if len(subject.labels) < ENOUGH_IMAGES:
        evidence += f" ({INITIALISATIONS} times {len(subject.labels)} images)"
    severity: Severity = "ok"
    advice = ""
    if not math.isfinite(loss):
        severity, advice = "fail", "look for an overflow in the forward pass"
    elif abs(loss - expected) > LOSS_TOLERANCE:
        severity = "warn" if spread > HOT_LOGITS else "info"
        hot = spread / COOL_LOGITS
        evidence += f"; logits have a standard deviation of {spread:.2g}, {hot:.0f}x too large"
        advice = _head_bias(subject.untrained, spread) or (
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
