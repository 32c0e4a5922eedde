"""Checks of the network: which parameters are trained, and the scale of activations."""

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from cnntune.findings import Finding
from cnntune.steps.sanity.record import (
    NORM_OPS,
    SQUASHERS,
    WEIGHT_OPS,
    NoDropout,
    Output,
    recording,
)
from cnntune.steps.sanity.subject import Subject
from cnntune.steps.sanity.symptom import WEIGHTS, Symptom
from cnntune.training.device import seeded

EXTREME = 8.0  # ratio of the last hidden layer to the first, or its inverse
PER_LAYER = 2.0  # the same from each layer to the next; PyTorch's default gives 1.7 in AlexNet
PER_SQUASHED_LAYER = 4 / 3  # with tanh or sigmoid, which shrink by themselves: Xavier gives 1.16
SATURATED = 0.3  # share of the values; of unit-normal inputs, tanh puts 4 % beyond 0.97


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
    sqrt(2 / fan-in) they keep their scale (He et al. 2015). Units that start with equal weights are
    reported too. Where the network does not learn, training starts once more from weights of
    Kaiming initialisation, then without sigmoids, and so on: "11 % with your initial weights, 90 %
    with Kaiming initialisation".
    """
    model = subject.untrained
    seed = seeded(subject.recipe.seed, device=subject.device)
    with torch.no_grad(), seed, NoDropout(), recording(model) as recorder:
        model(subject.inputs)
    found = [
        *_layer_faults(recorder.outputs),
        *_scale_faults(recorder.outputs),
        *_saturation(recorder.outputs),
        *_twins(model),
    ]
    if found:
        return found[:2]
    weights = [output for output in recorder.outputs if output.op in WEIGHT_OPS]
    sizes = [output.rms for output in weights] or [math.nan]
    text = f"RMS {min(sizes):.2g} to {max(sizes):.2g} over {len(weights)} layers"
    return [Finding("activations", "ok", text)]


def _layer_faults(outputs: list[Output]) -> Iterator[Finding]:
    """The first layer whose output is not finite."""
    for output in outputs:
        if not output.finite:
            text = f"NaN or infinity first appears after {output.op} in {output.where}"
            yield Finding("activations", "fail", text, "check that layer", where=output.where)
            return


def _saturation(outputs: list[Output]) -> Iterator[Finding]:
    """The first tanh or sigmoid of which many values are where the slope is near 0."""
    flat = next((output for output in outputs if output.saturated > SATURATED), None)
    if flat:
        text = f"{flat.saturated:.0%} of {flat.op} in {flat.where} is saturated: a slope near 0"
        advice = "initialise with smaller weights: standard deviation sqrt(1 / fan-in) (Xavier)"
        at = flat.where
        yield Symptom("activations", "warn", text, advice, at, flat.saturated, 0.0, part=WEIGHTS)


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


def _scale_faults(outputs: list[Output]) -> Iterator[Finding]:
    """Without normalisation layers, a factor per layer multiplies up over many layers."""
    hidden = [output for output in outputs if output.op in WEIGHT_OPS][:-1]
    normed = any(output.op in NORM_OPS for output in outputs)
    if normed or len(hidden) < 2 or not all(output.rms > 0 for output in hidden):
        return
    ends = (hidden[0], hidden[-1])
    change = ends[1].rms / ends[0].rms
    squashed = any(output.op in SQUASHERS for output in outputs)
    per_layer = math.log(PER_SQUASHED_LAYER if squashed else PER_LAYER)
    if abs(math.log(change)) < max(math.log(EXTREME), (len(hidden) - 1) * per_layer):
        return
    word = "collapse" if change < 1 else "explode"
    text = f"activations {word}, from RMS {ends[0].rms:.2g} in {ends[0].where} to"
    text += f" {ends[1].rms:.2g} in {ends[1].where}"
    advice = "initialise with standard deviation sqrt(2 / fan-in) (Kaiming), or add normalisation"
    advice += " layers"
    worst = max(pairwise(hidden), key=lambda two: abs(math.log(two[1].rms / two[0].rms)))[1]
    yield Symptom("activations", "warn", text, advice, worst.where, change, part=WEIGHTS)
