"""Activations and gradients per layer at initialisation (CS231n, weight initialisation)."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from cnntune.findings import Finding, Severity
from cnntune.steps.inspect.layers import ITSELF, Layer, first_tensor
from cnntune.training.build import Loss
from cnntune.training.contracts import check_depends, check_trained_logits

OFF = 8.0  # ratio to the first layer; `sanity` has the same limit for shrinking and growing
FAR_OFF = 1e3  # ratio that no optimizer compensates
VANISHED = 1e-6  # gradient of the first layer, relative to that of the last
PLAIN_LAYERS = 4  # fewer cannot shrink or grow by much


def with_statistics(
    layers: Sequence[Layer],
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    loss: Loss,
    name: str,
) -> list[Layer]:
    """The rows with the standard deviations of each layer's output and of its gradient.

    They are measured in one forward and backward pass in train mode, which does not change weights,
    but the running statistics of batch norm. `name` is the name of the model in the recipe.

    Raises:
        UserCodeError: if the logits or the loss cannot be trained on.
    """
    activations: dict[str, float] = {}
    gradients: dict[str, float] = {}
    hooks = []
    wanted = {layer.name for layer in layers}
    for path, module in model.named_modules():
        row = path or ITSELF
        if row not in wanted:
            continue

        def watch(_: nn.Module, __: Any, output: Any, row: str = row) -> None:
            tensor = first_tensor(output)
            if row in activations or not isinstance(tensor, Tensor):
                return  # called a second time
            activations[row] = _std(tensor)
            if tensor.requires_grad:
                # The hook gets the gradient of this output, even if it is later modified in place.
                tensor.register_hook(lambda grad: gradients.__setitem__(row, _std(grad)))

        hooks.append(module.register_forward_hook(watch))
    try:
        logits = model.train()(images)
        check_trained_logits(logits, len(images), name)
        value = loss(logits, labels)
        check_depends(value, name)
        value.backward()
    finally:
        for hook in hooks:
            hook.remove()
        model.zero_grad(set_to_none=True)
    return [
        replace(
            layer,
            activation_std=activations.get(layer.name),
            gradient_std=gradients.get(layer.name),
        )
        for layer in layers
    ]


def _std(tensor: Tensor) -> float:
    return float(tensor.detach().float().std(correction=0))


def faults(layers: Sequence[Layer]) -> list[Finding]:
    """The first layer with a wrong scale at initialisation, or `ok` findings.

    Outputs of layers with weights are checked, except those of the last one, which may start with
    any scale. With normalisation layers only NaN and infinity are wrong, since these restore the
    scale.
    """
    hidden = [layer for layer in layers if layer.multiply_adds and layer.activation_std is not None]
    broken = next((layer for layer in hidden if not math.isfinite(layer.activation_std or 0)), None)
    if broken:
        text = "NaN or infinity first appears in this layer"
        return [Finding("activations", "fail", text, "check that layer", where=broken.name)]
    return [*_scale(layers, hidden[:-1]), *_gradients(hidden)]


def _scale(layers: Sequence[Layer], hidden: Sequence[Layer]) -> list[Finding]:
    sizes = [layer.activation_std or 0.0 for layer in hidden]
    if not sizes:
        return []
    text = f"standard deviation {min(sizes):.2g} to {max(sizes):.2g} over {len(sizes)} layers"
    normed = any("Norm" in layer.type for layer in layers)
    first = sizes[0]
    off = [
        (layer, size)
        for layer, size in zip(hidden, sizes, strict=True)
        if not first / OFF <= size <= first * OFF
    ]
    if normed or not off or len(hidden) < PLAIN_LAYERS:
        return [Finding("activations", "ok", text)]
    layer, size = off[0]
    word = "collapse" if size < first else "explode"
    ends = max(sizes[-1] / first, first / sizes[-1]) if first and sizes[-1] else math.inf
    severity: Severity = "fail" if ends > FAR_OFF else "warn"
    text = f"activations {word}: standard deviation {size:.2g} in this layer, {first:.2g} in"
    text += f" {hidden[0].name}, {sizes[-1]:.2g} in {hidden[-1].name}"
    advice = "initialise with standard deviation sqrt(2 / fan-in) (Kaiming), or add normalisation"
    advice += " layers"
    return [Finding("activations", severity, text, advice, layer.name, size, first)]


def _gradients(hidden: Sequence[Layer]) -> list[Finding]:
    known = [layer for layer in hidden if layer.gradient_std is not None]
    if len(known) < 2:
        return []
    first, last = known[0].gradient_std or 0.0, known[-1].gradient_std or 0.0
    text = f"standard deviation {first:.2g} at {known[0].name}, {last:.2g} at {known[-1].name}"
    if last and not known[-1].activation_std:
        text = "the last layer starts at 0, so no gradient flows through it in the first step"
        return [Finding("gradient-flow", "info", text, where=known[-1].name)]
    if first >= VANISHED * last:
        return [Finding("gradient-flow", "ok", text)]
    advice = "use ReLU with Kaiming initialisation, normalisation layers or residual connections"
    where = known[0].name
    return [Finding("gradient-flow", "warn", f"vanishes: {text}", advice, where, first, last)]
