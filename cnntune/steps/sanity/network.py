"""Checks of the network: what is trained, what the layers pass on, what mixes images or modes."""

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
from cnntune.steps.sanity.unregistered import unlearned
from cnntune.training.device import seeded

DEAD = 0.5  # of a layer's units (SageMaker Debugger's DeadReLU)
NEARLY_ALL = 0.9
SATURATED = 0.3  # of the values; unit-normal inputs put 4 % of a tanh beyond 0.97
MOSTLY = 0.5
ALIKE = 1e-4  # of a layer's size: what tells images apart is then lost in float32's 7 digits
EXTREME = 1e3  # times over the whole depth: no optimizer makes up for it
TOO_MUCH_DROPOUT = 0.9  # of the units; Srivastava et al. 2014 find nothing beyond 0.5 to 0.8
PLAIN_LAYERS = 4  # without norms: fewer cannot shrink or grow by much
SHRINK = (
    0.5  # a layer; torch's default initialisation gives 0.58 in AlexNet, CS231n's 0.01 gives 0.45
)
SHRINK_SQUASHED = 0.75  # a layer of tanh or sigmoid, which shrink by themselves: Xavier gives 0.86
GROW = 2.0  # a layer; CS231n's 0.05 with ReLU gives 2.3
TOTAL = 8.0  # times, from the first layer to the last, before shrinking or growing is a problem
LEAP = 30.0  # times; torch.randn for the weights of a layer gives sqrt(fan-in), of 512: 22
LARGE = 10.0  # root mean square, below which a leap is but a bias beside small inputs
FED = (0.02, 100.0)  # root mean square of what the first layer gets; 0..255 bytes have 150
HUGE = 1e4  # an activation or gradient norm from which float32 soon overflows


def trainable_parameters(subject: Subject) -> list[Finding]:
    """Every layer that is meant to learn must be registered and ask for gradients.

    A layer in a plain Python list works in the forward pass, but its weights are no parameters of
    the model and no optimizer knows them (PyTorch documentation of `nn.ModuleList`). Nor does it
    know buffers and plain tensors: weights drawn at random stay as they were drawn.
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
        text = f"{strangers:,} weights are used but are no parameters of the model"
        advice = "keep layers in nn.ModuleList or nn.Sequential, and weights in nn.Parameter"
        return [Finding("trainable-parameters", "fail", text, advice, measured=strangers)]
    if found := unlearned(subject):
        return found
    if frozen:
        count = sum(p.numel() for _, p in parameters if not p.requires_grad)
        text = f"{count:,} of {count + trained:,} parameters are frozen, from {frozen[0]} on"
        advice = "right for a pretrained backbone; at random weights, unfreeze them"
        return [Finding("trainable-parameters", "warn", text, advice, measured=count)]
    return [Finding("trainable-parameters", "ok", f"{trained:,}", measured=trained)]


def _unregistered(subject: Subject, model: nn.Module) -> int:
    """Weights that the graph ends in and that the model does not know."""
    known = {id(parameter) for parameter in model.parameters()}
    with seeded(subject.recipe.seed, device=subject.device):
        logits = model(subject.inputs[:2])
    if not isinstance(logits, Tensor):
        return 0  # `outputs` says so
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
    """Activations should neither die out nor blow up on their way through the layers.

    CS231n's experiment: six layers, 4096 wide. With weights of 0.01 the activations tend to zero,
    with 0.05 they saturate (tanh) or explode (ReLU), with sqrt(2 / fan-in) their scale stays (He et
    al. 2015). The first layer that goes wrong is named.
    """
    model = subject.untrained
    seed = seeded(subject.recipe.seed, device=subject.device)
    with torch.no_grad(), seed, NoDropout() as dropout, recording(model) as recorder:
        model(subject.inputs)
    found = [
        *_layer_faults(recorder.outputs),
        *_scale_faults(recorder.outputs),
        *_leap(recorder.outputs),
        *_fed(subject, recorder.outputs),
        *_twins(model),
        *_dropped(dropout.shares),
    ]
    if found:
        return found[:2]
    weights = [output for output in recorder.outputs if output.op in WEIGHT_OPS]
    sizes = [output.rms for output in weights] or [math.nan]
    text = f"size {min(sizes):.2g} ... {max(sizes):.2g} over {len(weights)} layers"
    return [Finding("activations", "ok", text)]


def _layer_faults(outputs: list[Output]) -> Iterator[Finding]:
    """Layers that are wrong by themselves: not finite, huge, dead or saturated."""
    for output in outputs:
        if not output.finite:
            text = f"NaN or infinity first appears after {output.op} in {output.where}"
            yield Finding("activations", "fail", text, "look at that layer", where=output.where)
            return
    huge = next((output for output in outputs if output.rms > HUGE), None)
    if huge:
        text = f"explode: size {huge.rms:.2g} after {huge.op} in {huge.where}"
        advice = "initialise with standard deviation sqrt(2 / fan-in), or normalise"
        yield Finding("activations", "fail", text, advice, huge.where, huge.rms, 1.0)
        return
    dead = next((output for output in outputs if output.dead > DEAD), None)
    if dead:
        text = f"{dead.dead:.0%} of the units of {dead.where} are dead: 0 for every image"
        advice = "look at the bias and the scale of the layer before; they never get a gradient"
        severity: Severity = "fail" if dead.dead > NEARLY_ALL else "warn"
        yield Finding("activations", severity, text, advice, dead.where, dead.dead, 0.0)
    flat = next((output for output in outputs if output.saturated > SATURATED), None)
    if flat:
        text = (
            f"{flat.saturated:.0%} of {flat.op} in {flat.where} is saturated: its slope is near 0"
        )
        advice = "initialise with smaller weights: standard deviation sqrt(1 / fan-in) (Xavier)"
        severity = "fail" if flat.saturated > MOSTLY else "warn"
        yield Finding("activations", severity, text, advice, flat.where, flat.saturated, 0.0)
    alike = next((o for o in outputs[:-1] if 0 < o.signal < ALIKE and o.op in WEIGHT_OPS), None)
    if alike:
        text = f"collapse: after {alike.op} in {alike.where} all images look alike, to"
        text += f" {alike.signal:.1g} of its size"
        advice = "initialise with standard deviation sqrt(2 / fan-in), use ReLU, or normalise"
        yield Finding("activations", "fail", text, advice, alike.where, alike.signal, 1.0)


def _leap(outputs: list[Output]) -> Iterator[Finding]:
    """A single layer that makes its input far larger; the first one knows what its images are."""
    layers = [output for output in outputs if output.op in WEIGHT_OPS][1:]
    if any(output.op in NORM_OPS for output in outputs):
        return
    leap = next((o for o in layers if o.fed > 0 and o.rms > max(LARGE, LEAP * o.fed)), None)
    if leap:
        factor = leap.rms / leap.fed
        text = f"explode by {factor:.0f} in {leap.where}: its input has size {leap.fed:.2g}, its"
        text += f" output {leap.rms:.2g}"
        advice = "look at how this layer's weights and biases start"
        yield Finding("activations", "fail", text, advice, leap.where, factor, 1.0)


def _fed(subject: Subject, outputs: list[Output]) -> Iterator[Finding]:
    """Forward itself scales the images before the first layer, away from what they were."""
    first = next((output for output in outputs if output.op in WEIGHT_OPS), None)
    if first is None or any(output.op in NORM_OPS for output in outputs):
        return
    size = float(subject.kept_inputs.square().mean().sqrt())
    low, high = FED
    if not low < size < high or low < first.fed < high:
        return
    text = f"images have size {size:.2g}, and {first.fed:.2g} when they reach {first.where}"
    advice = "look for a scaling in forward, such as a second / 255, beside data.normalize"
    yield Finding("inputs", "warn", text, advice, first.where, first.fed, 1.0)


def _twins(model: nn.Module) -> Iterator[Finding]:
    """Units that start equal get equal gradients and stay equal for ever (CS231n, "symmetry")."""
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if not isinstance(module, nn.Linear | nn.modules.conv._ConvNd) or weight is None:
            continue
        same = len(weight) > 1 and bool((weight == weight[:1]).all())
        if same and bool((weight != 0).any()):
            text = f"all {len(weight)} units of {name or 'the model'} start with the same weights"
            advice = "initialise at random: equal units get equal gradients and stay equal"
            yield Finding("activations", "fail", text, advice, name)
            return


def _dropped(shares: list[float]) -> Iterator[Finding]:
    most = max(shares, default=0.0)
    if most > TOO_MUCH_DROPOUT:
        text = f"a dropout leaves {1 - most:.0%} of the units"
        yield Finding("activations", "warn", text, "0.2 to 0.5 is usual", "", most, 0.5)


def _scale_faults(outputs: list[Output]) -> Iterator[Finding]:
    """Without norms, a factor a layer adds up to too much over many."""
    hidden = [output for output in outputs if output.op in WEIGHT_OPS][:-1]
    normed = any(output.op in NORM_OPS for output in outputs)
    if normed or len(hidden) < PLAIN_LAYERS or not all(output.rms > 0 for output in hidden):
        return
    factor = (hidden[-1].rms / hidden[0].rms) ** (1 / (len(hidden) - 1))
    total = hidden[-1].rms / hidden[0].rms
    squashed = any(output.op in SQUASHERS for output in outputs)
    least = SHRINK_SQUASHED if squashed else SHRINK
    text = f"by {factor:.2g} a layer, from {hidden[0].rms:.2g} in {hidden[0].where} to"
    text += f" {hidden[-1].rms:.2g} in {hidden[-1].where}"
    advice = "initialise with standard deviation sqrt(2 / fan-in) (Kaiming), or normalise"
    if factor < least and total < 1 / TOTAL:
        where = next(o.where for o in hidden if o.rms < hidden[0].rms * least)
        severity: Severity = "fail" if total < 1 / EXTREME else "warn"
        yield Finding("activations", severity, f"collapse {text}", advice, where, factor, 1.0)
    elif factor > GROW and total > TOTAL:
        where = next(o.where for o in hidden if o.rms > hidden[0].rms * GROW)
        severity = "fail" if total > EXTREME else "warn"
        yield Finding("activations", severity, f"explode {text}", advice, where, factor, 1.0)
