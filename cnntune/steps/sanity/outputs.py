"""Checks of the network's output: one logit per class, and an initial loss of log C."""

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

STEP_IMAGES = 4  # to test whether a training step is possible
INITIALISATIONS = 3  # a single one may be an outlier
MIN_IMAGES = 64  # with a smaller batch, the evidence gives its size
LOSS_TOLERANCE = 0.3  # nats from log C: logits of standard deviation 0.8, as random heads have
OVERCONFIDENT_STD = 4.0  # of logits; torchvision models with random weights reach 3.3
MODEST_STD = 0.3  # of logits; adds 0.3^2 / 2 = 0.045 to log C
BIAS_SHARE = 0.5  # of the logits' spread that is due to the head's bias
SUM_TOLERANCE = 1e-3  # from 1, for a row that may be a softmax
DROPPED = 0.02  # share of logits that are exactly 0 and not by chance

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
CAP = 10.0  # logits capped at 10 still reach 99.9 % among ten classes; Gemma 2 caps at 30
CAPS = ("tanh", "sigmoid", "clamp", "softmax")
PASSED_THROUGH = ("View", "Squeeze", "Unsqueeze", "Mul", "Div", "Add", "Reshape", "Alias", "Clone")


SKIPPED = Finding("skipped", "info", "remaining checks skipped until this is fixed")


def outputs(subject: Subject) -> list[Finding]:
    """The network must return one logit per class: any finite number, without a nonlinearity.

    Cross-entropy applies the softmax itself. A softmax, sigmoid, tanh or ReLU before it bounds the
    logits, so that the loss cannot approach 0: with a softmax it stops at log(1 + (C - 1) / e),
    which is 1.46 for ten classes. (PyTorch documentation of `CrossEntropyLoss`; CS231n step 2.)
    """
    images = subject.inputs
    with seeded(subject.recipe.seed, device=subject.device):
        logits = subject.untrained(images)
    expected = (len(images), subject.classes)
    if not isinstance(logits, Tensor) or tuple(logits.shape) != expected:
        if not isinstance(logits, Tensor):
            text = f"a {type(logits).__name__} in train mode, expected logits of shape {expected}"
            return [Finding("outputs", "fail", text, "return only the logits, in both modes")]
        advice = f"give the last layer one output for each of the {subject.classes} classes"
        text = f"shape {tuple(logits.shape)} in train mode, expected {expected}"
        return [Finding("outputs", "fail", text, advice)]
    if not torch.isfinite(logits).all():
        share = float((~torch.isfinite(logits)).float().mean())
        text = f"{share:.0%} of the outputs are NaN or infinite before any training"
        advice = "check for a division by 0, or a log or square root of invalid values"
        return [Finding("outputs", "fail", text, advice)]
    if bound := _bound(logits):
        text = f"the network ends in a {bound}: its outputs are in {_span(logits)}"
        advice = f"remove the {bound} and return logits; the loss applies the softmax"
        return [Finding("outputs", "fail", text, advice)]
    if norm := _last_operation(logits, NORMS)[0]:
        text = f"the network ends in a {norm}, which rescales the logits"
        advice = f"remove the {norm} after the last layer"
        return [Finding("outputs", "warn", text, advice)]
    if not torch.equal(images, subject.kept_inputs):
        text = "the forward pass changes the images in place"
        advice = "write x = x * 0.5, not x.mul_(0.5) or x *= 0.5"
        return [Finding("outputs", "warn", text, advice)]
    zeros = float((logits == 0).float().mean())
    if DROPPED < zeros < 1 - DROPPED:
        text = f"{zeros:.0%} of the logits are exactly 0 in train mode"
        advice = "apply dropout before the last layer, not to the logits"
        return [Finding("outputs", "warn", text, advice)]
    text = f"{subject.classes} logits per image, in {_span(logits)}"
    return [Finding("outputs", "ok", text)]


def first_step(subject: Subject) -> Finding | None:
    """Why no training step is possible; None if one is."""
    model = subject.untrained
    if not any(parameter.requires_grad for parameter in model.parameters()):
        return SKIPPED
    few = subject.inputs[:STEP_IMAGES]
    with seeded(subject.recipe.seed, device=subject.device):
        logits = model(few.clone())
    if not isinstance(logits, Tensor) or logits.shape != (len(few), subject.classes):
        return SKIPPED
    value = subject.loss()(logits, subject.labels[:STEP_IMAGES])
    if not isinstance(value, Tensor) or value.numel() != 1 or not torch.isfinite(value.detach()):
        return SKIPPED
    if not value.requires_grad:
        text = "no parameter gets a gradient: the loss is detached from all layers"
        advice = "check for detach, .data, no_grad, argmax, item or numpy in model and loss"
        return Finding("gradient-flow", "fail", text, advice, measured=0.0)
    return _backward(subject, model, value, few)


def _backward(subject: Subject, model: nn.Module, value: Tensor, images: Tensor) -> Finding | None:
    """Two backward passes: autograd raises if a tensor was modified in place or a graph is reused.

    None if both succeed.
    """
    try:
        value.backward()
        with seeded(subject.recipe.seed, device=subject.device):
            subject.loss()(model(images.clone()), subject.labels[:STEP_IMAGES]).backward()
        model.zero_grad(set_to_none=True)
    except RuntimeError as error:
        text = f"backward raises: {(str(error).splitlines() or [''])[0]}"
        advice = "check for in-place operations (+=, relu_), and tensors kept from step to step"
        return Finding("gradient-flow", "fail", text, advice)
    return None


def _span(logits: Tensor) -> str:
    logits = logits.detach()
    return f"{float(logits.min()):.3g} to {float(logits.max()):.3g}"


def _bound(logits: Tensor) -> str | None:
    """The nonlinearity that bounds the outputs, by the autograd graph or their values.

    None if there is none. A cap on large logits, of 10 or more, does not count.
    """
    bound, factor, node = _last_operation(logits, BOUNDED)
    low, high = getattr(node, "_saved_min", -1.0), getattr(node, "_saved_max", 1.0)
    limits = [abs(limit) for limit in (low, high) if isinstance(limit, int | float)]
    if bound and not (bound in CAPS and limits and factor * min(limits) >= CAP):
        return bound
    one = (logits.sum(1) - 1).abs() < SUM_TOLERANCE
    return "softmax" if bool((logits >= 0).all()) and bool(one.all()) else None


def _last_operation(logits: Tensor, named: dict[str, str]) -> tuple[str | None, float, Any]:
    """The name of the last operation of `named`, the factor applied after it, and its graph node.

    Its result may be reshaped or scaled afterwards; an operation on two results ends the search.
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
    """The operation whose result `node` passes on; None for a product with a parameter."""
    before = [after for after, _ in node.next_functions if after is not None]
    if not node.name().startswith("Mul"):
        before = [after for after in before if not hasattr(after, "variable")]
    return before[0] if len(before) == 1 else None


def initial_loss(subject: Subject) -> list[Finding]:
    """An untrained network gives each class a probability of 1/C: a loss of log C (CS231n step 1).

    It is measured in train mode, as training starts: at initial weights the running statistics of
    batch norm mean nothing, and the loss of sound networks reaches 1e9 in eval mode. Logits of
    standard deviation s raise the loss by about s^2 / 2. Such over-confident initial logits do not
    prevent training, but the first epochs are spent on shrinking them.
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
    if len(subject.labels) < MIN_IMAGES:
        evidence += f" ({INITIALISATIONS} times {len(subject.labels)} images)"
    severity: Severity = "ok"
    advice = ""
    if not math.isfinite(loss):
        severity, advice = "fail", "check for an overflow in the forward pass"
    elif abs(loss - expected) > LOSS_TOLERANCE:
        severity = "warn" if spread > OVERCONFIDENT_STD else "info"
        excess = spread / MODEST_STD
        evidence += "; over-confident initial logits: their standard deviation of"
        evidence += f" {spread:.2g} is {excess:.0f}x too large"
        advice = _head_bias(subject.untrained, spread) or (
            f"scale the last layer's initial weights by {1 / excess:.2g}"
        )
    return [Finding("initial-loss", severity, evidence, advice, measured=loss, expected=expected)]


def _head_bias(model: nn.Module, spread: float) -> str:
    """Advice if the head's bias is most of the logits' spread; empty if not."""
    heads = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    if not heads or heads[-1].bias is None:
        return ""
    bias = heads[-1].bias.detach().float()
    if len(bias) < 2 or float(bias.std()) < BIAS_SHARE * spread:
        return ""
    return f"initialise the last layer's bias to 0: it favours class {int(bias.argmax())}"
