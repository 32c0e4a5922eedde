"""Checks of the network's output: one logit per class, and an initial loss of log C."""

import math
import statistics

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnntune.findings import Finding, Severity
from cnntune.seeds import derive_seed
from cnntune.steps.sanity.input_use import wake
from cnntune.steps.sanity.labels import from_one
from cnntune.steps.sanity.record import WEIGHT_OPS, recording
from cnntune.steps.sanity.subject import Subject
from cnntune.steps.sanity.substitution import LastLayer, trace, within
from cnntune.steps.sanity.symptom import OUTPUT, WEIGHTS, Symptom
from cnntune.training.device import seeded

STEP_IMAGES = 4  # to test whether a training step is possible
INITIALISATIONS = 3  # a single one may be an outlier
MIN_IMAGES = 64  # with a smaller batch, the evidence gives its size
LOSS_TOLERANCE = 0.3  # nats from log C: logits of standard deviation 0.8, as random heads have
OVERCONFIDENT_STD = 4.0  # of logits; torchvision models with random weights reach 3.3
MODEST_STD = 0.3  # of logits; adds 0.3^2 / 2 = 0.045 to log C
DROPPED = 0.02  # share of logits that are exactly 0 and not by chance

FACTORS = (1.0, 10.0, 1000.0, -1000.0)  # times 1,000 a sigmoid of usual inputs is 0 or 1
BOUND = 5.0  # logits within 5 still reach 99.96 % among ten classes
ONE_SIDED = 1e-2  # lowest over highest logit, if the output is scaled up and negated; linear: 1
UNCHANGED = 1e-2  # relative change of logits that a norm leaves; its epsilon is 1e-5


SKIPPED = Finding("skipped", "info", "remaining checks skipped until this is fixed")


def outputs(subject: Subject) -> list[Finding]:
    """The network must return one logit per class: any finite number, without a nonlinearity.

    Cross-entropy applies the softmax itself. A softmax, sigmoid, tanh or ReLU before it bounds the
    logits, so that the loss cannot approach 0: with a softmax it stops at log(1 + (C - 1) / e),
    which is 1.46 for ten classes. (PyTorch documentation of `CrossEntropyLoss`; CS231n step 2.)
    The last layer's output is multiplied by 1,000, to see whether the logits follow:

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
        if logits.shape[1:] == (subject.classes - 1,) and from_one(subject.data):
            advice = f"labels run from 1 to {subject.classes - 1}: subtract 1 from each"
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
        return [Symptom("outputs", "warn", text, advice, part=OUTPUT)]
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
    """Something after the last layer bounds the logits, cuts off their sign, or rescales them.

    The output of the last layer is multiplied by large factors. Logits that nothing squashes follow
    it, to both sides.
    """
    model = subject.model()
    wake(model)
    with recording(model) as recorder:
        trace(subject, model)
    where = next((o.where for o in reversed(recorder.outputs) if o.op in WEIGHT_OPS), "")
    last = LastLayer(subject.classes)
    within(model, last)
    logits = []
    for last.factor in FACTORS:
        found = trace(subject, model).detach().float()
        if last.result is None or last.result.shape != found.shape:
            return None
        logits.append(found)
    plain, more, up, down = logits
    high, low = float(torch.maximum(up, down).max()), float(torch.minimum(up, down).min())
    follows = FACTORS[2] / 2 * float(plain.abs().max())
    if max(high, -low) < min(BOUND, follows):
        fault = f"the logits stay within ±{max(high, -low):.2g}"
    elif low > -ONE_SIDED * high:
        fault = "the logits are never below 0, whatever the sign of its output"
    elif float((more - plain).abs().max()) < UNCHANGED * float(plain.abs().max()):
        fault = "the logits do not change: something rescales them"
    else:
        return None
    text = f"{where} times {FACTORS[2]:,.0f}: {fault}"
    advice = "return the last layer's output: no softmax, sigmoid, tanh, ReLU or norm after it"
    return Symptom("outputs", "warn", text, advice, where, part=OUTPUT)


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
    if severity == "warn":
        return [
            Symptom("initial-loss", severity, evidence, advice, "", loss, expected, part=WEIGHTS)
        ]
    return [Finding("initial-loss", severity, evidence, advice, "", loss, expected)]
