"""Checks of the network's output: one logit per class, and an initial loss of log C."""

import math
import statistics

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnntune.findings import Finding, Severity
from cnntune.seeds import derive_seed
from cnntune.steps.sanity.input_use import wake
from cnntune.steps.sanity.record import NoDropout
from cnntune.steps.sanity.subject import Subject
from cnntune.steps.sanity.where import following
from cnntune.training.device import seeded

STEP_IMAGES = 4  # to test whether a training step is possible
INITIALISATIONS = 3  # a single one may be an outlier
MIN_IMAGES = 64  # with a smaller batch, the evidence gives its size
LOSS_TOLERANCE = 0.3  # nats from log C: logits of standard deviation 0.8, as random heads have
OVERCONFIDENT_STD = 4.0  # of logits; torchvision models with random weights reach 3.3
MODEST_STD = 0.3  # of logits; adds 0.3^2 / 2 = 0.045 to log C
DROPPED = 0.02  # share of logits that are exactly 0 and not by chance

SCALED_LAYERS = 4  # from the last one: the logits must follow one of them
SCALED_IMAGES = 8
FACTORS = (10.0, 1000.0, -1000.0)  # on weights; times 1,000 a sigmoid of usual inputs is 0 or 1
FOLLOWS = 0.1  # share of the factor between the first two that reaches the logits; linear: 1
RAISING_STEPS = 10  # the last one is a thousandth of the weights
BOUND = 10.0  # logits within 10 still reach 99.9 % among ten classes; Gemma 2 caps at 30
ONE_SIDED = 1e-2  # lowest over highest logit, if weights are scaled up and negated; linear: 1
UNCHANGED = 1e-2  # relative change of logits that a norm leaves; its epsilon is 1e-5


SKIPPED = Finding("skipped", "info", "remaining checks skipped until this is fixed")


def outputs(subject: Subject) -> list[Finding]:
    """The network must return one logit per class: any finite number, without a nonlinearity.

    Cross-entropy applies the softmax itself. A softmax, sigmoid, tanh or ReLU before it bounds the
    logits, so that the loss cannot approach 0: with a softmax it stops at log(1 + (C - 1) / e),
    which is 1.46 for ten classes. (PyTorch documentation of `CrossEntropyLoss`; CS231n step 2.)
    The last layers' weights are multiplied by 1,000, to see whether the logits follow:

        return self.head(x).softmax(1)    # before: logits within 1, loss 1.46 at best
        return self.head(x)               # after: any logits, loss near 0
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
    if found := _squashed(subject):
        return [found]
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
    # A loss may need more images than a few.
    for images in (subject.inputs[:STEP_IMAGES], subject.inputs):
        with seeded(subject.recipe.seed, device=subject.device):
            logits = model(images.clone())
        if not isinstance(logits, Tensor) or logits.shape != (len(images), subject.classes):
            return SKIPPED
        if not torch.isfinite(logits).all():
            return SKIPPED
        value = subject.loss()(logits, subject.labels[: len(images)])
        if not isinstance(value, Tensor) or value.numel() != 1:
            return SKIPPED
        if torch.isfinite(value.detach()):
            break
    else:
        text = f"is {float(value.detach()):.3g} on {len(images)} training images before training"
        advice = "check model and loss for log(0), 0/0, and overflow"
        return Finding("loss", "fail", text, advice)
    if not value.requires_grad:
        text = "no parameter gets a gradient: the loss is detached from all layers"
        advice = "check for detach, .data, no_grad, argmax, item or numpy in model and loss"
        return Finding("gradient-flow", "fail", text, advice, measured=0.0)
    return _backward(subject, model, value, images)


def _backward(subject: Subject, model: nn.Module, value: Tensor, images: Tensor) -> Finding | None:
    """Two backward passes: autograd raises if a tensor was modified in place or a graph is reused.

    None if both succeed.
    """
    try:
        value.backward()
        with seeded(subject.recipe.seed, device=subject.device):
            subject.loss()(model(images.clone()), subject.labels[: len(images)]).backward()
        model.zero_grad(set_to_none=True)
    except RuntimeError as error:
        text = f"backward raises: {(str(error).splitlines() or [''])[0]}"
        advice = "check for in-place operations (+=, relu_), and tensors kept from step to step"
        return Finding("gradient-flow", "fail", text, advice)
    return None


def _span(logits: Tensor) -> str:
    logits = logits.detach()
    return f"{float(logits.min()):.3g} to {float(logits.max()):.3g}"


def _squashed(subject: Subject) -> Finding | None:
    """Something bounds the logits, cuts off their sign, or rescales them.

    The weights of the last layers are multiplied by large factors, one layer at a time. Logits that
    nothing squashes follow one of them, to both sides. What is learned, such as the scale of a
    cosine classifier, is no bound.
    """
    model, images = subject.model(), subject.inputs[:SCALED_IMAGES]
    wake(model)
    shapes: list[torch.Size] = []
    with following(model, len(images), lambda _, result: shapes.append(result.shape)):
        plain = _logits(subject, model, images)
    # A ReLU in front of a mean over places, as in SqueezeNet, hardly ever leaves a logit of 0.
    pooled = any(shape[1] == subject.classes and shape[2:].numel() > 1 for shape in shapes)
    last = _last_weights(subject, model, images)
    if not last:
        return None
    where, norm = last[0]
    faults = []
    rescaled: bool | None = None
    for name, weights in last:
        less, up, down = (_scaled(subject, model, weights, images, factor) for factor in FACTORS)
        largest, high = float(up.abs().max()), float(torch.maximum(up, down).max())
        low = -float(torch.minimum(up, down).min())
        if rescaled is None and max(weight.ndim for weight in weights) > 1:
            moved = float((less - plain).abs().max())
            rescaled = name != where and moved < UNCHANGED * float(plain.abs().max())
        fault = ""
        if largest < FOLLOWS * FACTORS[1] / FACTORS[0] * float(less.abs().max()):
            largest = max(largest, _raised(subject, model, weights, images))
            fault = f"stay within ±{largest:.2g}" if largest < BOUND else ""
        elif low < ONE_SIDED * high and not pooled:
            fault = "are never below 0, whatever the sign of its weights"
        faults.append(fault)
    if all(faults):
        text = f"{where} times {FACTORS[1]:,.0f}: the logits {faults[0]}"
        advice = "return the last layer's output: no softmax, sigmoid, tanh, ReLU or norm after it"
        return Finding("outputs", "fail", text, advice, where)
    if rescaled and max(weight.numel() for weight in norm) >= subject.classes:
        text = f"the logits do not follow the last layer's weights: {where} rescales them"
        return Finding("outputs", "warn", text, "remove the norm after the last layer", where)
    return None


def _last_weights(
    subject: Subject, model: nn.Module, images: Tensor
) -> list[tuple[str, list[nn.Parameter]]]:
    """The modules whose weights are nearest to the logits, with these weights."""
    names: dict[int, str] = {}
    for name, parameter in model.named_parameters():
        names[id(parameter)] = name.rpartition(".")[0]
        if parameter.is_floating_point():
            parameter.requires_grad_(True)  # frozen weights are in the graph, too
    with seeded(subject.recipe.seed, device=subject.device), NoDropout():
        nodes = [model(images.clone()).grad_fn]
    found: dict[str, list[nn.Parameter]] = {}
    seen = set(nodes)
    for node in nodes:  # in the order of their distance; it grows on the way
        weight = getattr(node, "variable", None)
        if isinstance(weight, nn.Parameter) and id(weight) in names:
            found.setdefault(names[id(weight)], []).append(weight)
        if node is not None:
            nodes += [n for n, _ in node.next_functions if n not in seen]
            seen.update(nodes)
    return list(found.items())[:SCALED_LAYERS]


@torch.no_grad()
def _logits(subject: Subject, model: nn.Module, images: Tensor) -> Tensor:
    with seeded(subject.recipe.seed, device=subject.device), NoDropout():
        logits: Tensor = model(images.clone())
    return logits.float()


def _raised(
    subject: Subject, model: nn.Module, weights: list[nn.Parameter], images: Tensor
) -> float:
    """How high the first logit is after steps uphill: as long as the weights, then halved."""
    kept = [weight.detach().clone() for weight in weights]
    trained = [weight for weight in weights if weight.requires_grad]
    value = 0.0
    for step in range(RAISING_STEPS):
        with seeded(subject.recipe.seed, device=subject.device), NoDropout():
            logit = model(images.clone())[0, 0]
        value = max(value, float(logit.detach()))
        if not trained or not logit.requires_grad:
            break
        try:
            slopes = torch.autograd.grad(logit, trained, allow_unused=True)
        except RuntimeError:  # `first_step` reports it
            break
        with torch.no_grad():
            for weight, slope in zip(trained, slopes, strict=True):
                if slope is not None and bool(slope.any()):
                    weight.add_(slope, alpha=0.5**step * float(weight.norm() / slope.norm()))
    with torch.no_grad():
        for weight, values in zip(weights, kept, strict=True):
            weight.copy_(values)
    return value


@torch.no_grad()
def _scaled(
    subject: Subject, model: nn.Module, weights: list[nn.Parameter], images: Tensor, factor: float
) -> Tensor:
    """The logits with all of `weights` multiplied by `factor`."""
    kept = [weight.clone() for weight in weights]
    for weight in weights:
        weight.mul_(factor)
    logits = _logits(subject, model, images)
    for weight, values in zip(weights, kept, strict=True):
        weight.copy_(values)
    return logits


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
        excess = spread / MODEST_STD
        severity = "warn" if spread > OVERCONFIDENT_STD else "info"
        evidence += f"; over-confident initial logits: their standard deviation of {spread:.2g} is"
        evidence += f" {excess:.0f}x too large"
        advice = f"scale the last layer's initial weights by {1 / excess:.2g}"
        if bias := _biased(subject):
            severity = "warn"
            advice = f"initialise the last layer's bias to 0: it favours class {bias}"
    return [Finding("initial-loss", severity, evidence, advice, measured=loss, expected=expected)]


@torch.no_grad()
def _biased(subject: Subject) -> str:
    """The class that the head's bias favours, if the loss is far lower without it; else empty.

    A bias of the logarithms of the class shares lowers the loss.
    """
    model = subject.untrained
    biases = [p for p in model.parameters() if p.shape == (subject.classes,)]
    if not biases:
        return ""
    kept = biases[-1].clone()
    losses = []
    for factor in (1.0, 0.0):
        biases[-1].mul_(factor)
        logits = _logits(subject, model, subject.inputs)
        losses.append(float(F.cross_entropy(logits, subject.labels)))
    biases[-1].copy_(kept)
    return f"number {int(kept.argmax())}" if losses[0] - losses[1] > LOSS_TOLERANCE else ""
