"""Checks of the network: which parameters are trained, and the scale of activations."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from cnntune.findings import Finding, Severity
from cnntune.steps.sanity.record import (
    NORM_OPS,
    SQUASHERS,
    WEIGHT_OPS,
    NoDropout,
    Output,
    recording,
)
from cnntune.steps.sanity.subject import Subject
from cnntune.steps.sanity.unregistered import untrained_tensors
from cnntune.training.device import seeded

SATURATED = 0.3  # share of the values; of unit-normal inputs, tanh puts 4 % beyond 0.97
MOSTLY_SATURATED = 0.5
ALIKE = 1e-4  # standard deviation over images, of the RMS; float32 has 7 digits
EXTREME = 1e3  # ratio of the last layer to the first that no optimizer compensates
MAX_DROPOUT = 0.9  # probability; 0.2 to 0.5 is best in Srivastava et al. 2014
PLAIN_LAYERS = 4  # without normalisation layers: fewer cannot shrink or grow by much
# Ratios of a layer's RMS to that of the one before
SHRINK = 0.5  # PyTorch's default initialisation gives 0.58 in AlexNet, CS231n's 0.01 gives 0.45
SHRINK_SQUASHED = 0.75  # with tanh or sigmoid, which shrink by themselves: Xavier gives 0.86
GROW = 2.0  # CS231n's 0.05 with ReLU gives 2.3
TOTAL = 8.0  # ratio of the first layer to the last, before shrinking or growing is a problem
LEAP = 30.0  # ratio of output to input; torch.randn weights give sqrt(fan-in), 22 for 512
LARGE_RMS = 10.0  # below it, a large ratio is a bias beside small inputs


def trainable_parameters(subject: Subject) -> list[Finding]:
    """Every layer that is meant to learn must be registered and require gradients.

    A layer in a plain Python list works in the forward pass, but its weights are not parameters of
    the model, so the optimizer does not update them (PyTorch documentation of `nn.ModuleList`). The
    same holds for buffers and plain tensors: random weights in them keep their initial values.
    """
    model = subject.untrained
    parameters = list(model.named_parameters())
    trained = sum(p.numel() for _, p in parameters if p.requires_grad)
    frozen = [name for name, p in parameters if not p.requires_grad]
    if not trained:
        text = f"none of {sum(p.numel() for _, p in parameters):,} parameters is trainable"
        advice = "set requires_grad, and keep layers in attributes or nn.ModuleList"
        return [Finding("trainable-parameters", "fail", text, advice, measured=0)]
    if strangers := _unregistered(subject, model):
        text = f"{strangers:,} weights are used but are not parameters of the model"
        advice = "keep layers in nn.ModuleList or nn.Sequential, and weights in nn.Parameter"
        return [Finding("trainable-parameters", "fail", text, advice, measured=strangers)]
    if found := untrained_tensors(subject):
        return found
    if frozen:
        count = sum(p.numel() for _, p in parameters if not p.requires_grad)
        text = f"{count:,} of {count + trained:,} parameters are frozen, the first is {frozen[0]}"
        advice = "fine for a pretrained backbone; unfreeze them if their weights are random"
        return [Finding("trainable-parameters", "info", text, advice, measured=count)]
    text = f"{trained:,} trainable parameters"
    return [Finding("trainable-parameters", "ok", text, measured=trained)]


def _unregistered(subject: Subject, model: nn.Module) -> int:
    """The number of weights in the autograd graph that are not parameters of the model."""
    known = {id(parameter) for parameter in model.parameters()}
    with seeded(subject.recipe.seed, device=subject.device):
        logits = model(subject.inputs[:2])
    if not isinstance(logits, Tensor):
        return 0  # `outputs` reports it
    leaves: dict[int, Tensor] = {}
    stack, seen = [logits.grad_fn], set()
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            leaves[id(leaf)] = leaf
        stack += [after for after, _ in node.next_functions]
    return sum(leaf.numel() for key, leaf in leaves.items() if key not in known)


def activations(subject: Subject) -> list[Finding]:
    """Activations must neither vanish nor explode on their way through the layers.

    CS231n's experiment has six layers of 4096 units. With weights of standard deviation 0.01 the
    activations collapse to zero, with 0.05 they saturate (tanh) or explode (ReLU), with
    sqrt(2 / fan-in) they keep their scale (He et al. 2015). Saturated units, units that
    start with equal weights and excessive dropout are reported too. The finding names the first
    layer concerned.
    """
    model = subject.untrained
    seed = seeded(subject.recipe.seed, device=subject.device)
    with torch.no_grad(), seed, NoDropout() as dropout, recording(model) as recorder:
        model(subject.inputs)
    found = [
        *_layer_faults(recorder.outputs),
        *_scale_faults(recorder.outputs),
        *_leap(recorder.outputs),
        *_twins(model),
        *_dropped(dropout.shares),
    ]
    if found:
        return found[:2]
    weights = [output for output in recorder.outputs if output.op in WEIGHT_OPS]
    sizes = [output.rms for output in weights] or [math.nan]
    text = f"RMS {min(sizes):.2g} to {max(sizes):.2g} over {len(weights)} layers"
    return [Finding("activations", "ok", text)]


def _layer_faults(outputs: list[Output]) -> Iterator[Finding]:
    """Single layers whose output is not finite, saturated, or equal for all images."""
    for output in outputs:
        if not output.finite:
            text = f"NaN or infinity first appears after {output.op} in {output.where}"
            yield Finding("activations", "fail", text, "check that layer", where=output.where)
            return
    flat = next((output for output in outputs if output.saturated > SATURATED), None)
    if flat:
        text = (
            f"{flat.saturated:.0%} of {flat.op} in {flat.where} is saturated, with a slope near 0"
        )
        advice = "initialise with smaller weights: standard deviation sqrt(1 / fan-in) (Xavier)"
        severity: Severity = "fail" if flat.saturated > MOSTLY_SATURATED else "warn"
        yield Finding("activations", severity, text, advice, flat.where, flat.saturated, 0.0)
    alike = next((o for o in outputs[:-1] if 0 < o.signal < ALIKE and o.op in WEIGHT_OPS), None)
    if alike:
        text = f"activations collapse: after {alike.op} in {alike.where} images differ by only"
        text += f" {alike.signal:.1g} of the RMS"
        advice = "initialise with standard deviation sqrt(2 / fan-in), use ReLU, or add"
        advice += " normalisation layers"
        yield Finding("activations", "fail", text, advice, alike.where, alike.signal, 1.0)


def _leap(outputs: list[Output]) -> Iterator[Finding]:
    """A single layer whose output is far larger than its input, the first layer excepted."""
    layers = [output for output in outputs if output.op in WEIGHT_OPS][1:]
    if any(output.op in NORM_OPS for output in outputs):
        return
    leap = next(
        (o for o in layers if o.input_rms > 0 and o.rms > max(LARGE_RMS, LEAP * o.input_rms)), None
    )
    if leap:
        factor = leap.rms / leap.input_rms
        text = f"activations explode by a factor of {factor:.0f} in {leap.where}: its input has RMS"
        text += f" {leap.input_rms:.2g}, its output {leap.rms:.2g}"
        advice = "check how this layer's weights and biases are initialised"
        yield Finding("activations", "fail", text, advice, leap.where, factor, 1.0)


def _twins(model: nn.Module) -> Iterator[Finding]:
    """Units with equal initial weights get equal gradients and stay equal (CS231n, "symmetry")."""
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if not isinstance(module, nn.Linear | nn.modules.conv._ConvNd) or weight is None:
            continue
        same = len(weight) > 1 and bool((weight == weight[:1]).all())
        if same and bool((weight != 0).any()):
            text = f"all {len(weight)} units of {name or 'the model'} start with the same weights:"
            text += " they get equal gradients and stay equal"
            advice = "initialise at random"
            yield Finding("activations", "fail", text, advice, name)
            return


def _dropped(shares: list[float]) -> Iterator[Finding]:
    most = max(shares, default=0.0)
    if most > MAX_DROPOUT:
        text = f"a dropout layer drops {most:.0%} of its units"
        yield Finding("activations", "warn", text, "lower it: 0.2 to 0.5 is usual", "", most, 0.5)


def _scale_faults(outputs: list[Output]) -> Iterator[Finding]:
    """Without normalisation layers, a factor per layer multiplies up over many layers."""
    hidden = [output for output in outputs if output.op in WEIGHT_OPS][:-1]
    normed = any(output.op in NORM_OPS for output in outputs)
    if normed or len(hidden) < PLAIN_LAYERS or not all(output.rms > 0 for output in hidden):
        return
    factor = (hidden[-1].rms / hidden[0].rms) ** (1 / (len(hidden) - 1))
    total = hidden[-1].rms / hidden[0].rms
    squashed = any(output.op in SQUASHERS for output in outputs)
    least = SHRINK_SQUASHED if squashed else SHRINK
    text = f"by a factor of {factor:.2g} per layer, from RMS {hidden[0].rms:.2g} in"
    text += f" {hidden[0].where} to {hidden[-1].rms:.2g} in {hidden[-1].where}"
    advice = "initialise with standard deviation sqrt(2 / fan-in) (Kaiming), or add normalisation"
    advice += " layers"
    if factor < least and total < 1 / TOTAL:
        where = next(o.where for o in hidden if o.rms < hidden[0].rms * least)
        severity: Severity = "fail" if total < 1 / EXTREME else "warn"
        collapse = f"activations collapse {text}"
        yield Finding("activations", severity, collapse, advice, where, factor, 1.0)
    elif factor > GROW and total > TOTAL:
        where = next(o.where for o in hidden if o.rms > hidden[0].rms * GROW)
        severity = "fail" if total > EXTREME else "warn"
        explode = f"activations explode {text}"
        yield Finding("activations", severity, explode, advice, where, factor, 1.0)
