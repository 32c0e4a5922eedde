"""Checks of gradients: they reach every layer, keep their scale, and are those of the loss."""

import math
import statistics
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from cnntune.findings import Finding
from cnntune.steps.sanity.record import Detached, NoDropout, recording
from cnntune.steps.sanity.subject import Subject
from cnntune.training.device import seeded
from cnntune.training.loop import Learner

HUGE = 1e4  # gradient RMS from which float32 soon overflows
FLOW_LR = 1e-3  # small: only layers that start at 0 need to move
FLOW_SECONDS = 4.0  # for these steps; a large network takes them on fewer images
FLOW_STEPS = 3  # a head that starts at 0 passes gradients on after its first step
VANISHED = 1e-6  # of the median layer's gradient RMS
CHECK_IMAGES = 4  # a batch norm over two images gives 1 and -1, whatever the weights
CHECK_SECONDS = 6.0  # for the gradient check, two passes per layer
CHECK_CHANGES = (1e-3, 1e-4)  # of the loss, for a numerical slope; float32 resolves 1e-7
CUT_DIRECTIONS = 6
CUT_SECONDS = 2.0  # for all passes, at the cost of float32
CUT_STEPS = (1e-6, 1e-4)  # of the norm of the weights; float64 resolves 1e-16 of the loss
CUT_PASSES = 2 + 4 * CUT_DIRECTIONS + 4
CUT_NOISE = 0.1  # relative difference that the slopes of the two step sizes may have
CUT_MIN_SLOPE = 1e-2  # of the gradient; below it the loss has no slope at all
CUT = 0.3  # relative error of the gradient; a complete gradient is off by 1e-6
AGAINST = -0.5  # numerical slope over gradient: 1 if right, -1 if the gradient is negated


def gradient_flow(subject: Subject) -> list[Finding]:
    """The gradient of the loss must reach every layer, and neither vanish nor explode on the way.

    It is checked over a few training steps, since layers that start at 0 (heads, the last norm of a
    residual branch) block the gradient in the first step by design (Goyal et al. 2017). Numerical
    slopes of the loss then show whether gradients point the right way, and whether a detached
    tensor cuts off one of several paths (CS231n, "gradient checks").
    """
    model = subject.model()
    settings = subject.recipe.train.model_copy(update={"weight_decay": 0.0})
    recipe = subject.recipe.model_copy(update={"train": settings})
    learner = Learner.of(recipe, model, subject.device)
    learner.set_lr(FLOW_LR)
    reached: dict[str, float] = {}
    largest = 0.0
    affordable = subject.cost.steps(FLOW_SECONDS, FLOW_STEPS)  # images that fit
    count = max(CHECK_IMAGES, min(len(subject.labels), affordable))
    images, labels = subject.inputs[:count], subject.labels[:count]
    used = _modules_in_use(subject)
    with seeded(subject.recipe.seed, device=subject.device):
        for _ in range(FLOW_STEPS):
            loss = subject.loss()(model(images.clone()), labels)
            model.zero_grad(set_to_none=True)
            loss.backward()
            norms = _gradients(model)
            largest = max([largest, *(n for n in norms.values() if not math.isnan(n))])
            for name, norm in norms.items():
                reached[name] = max(reached.get(name, 0.0), norm)
            if not all(map(math.isfinite, norms.values())):
                text = "gradients are NaN or infinite before any training"
                return [Finding("gradient-flow", "fail", text, "see `activations` first")]
            learner.optimizer.step()
    found = _judge_flow(model, reached, used)
    if found[0].severity != "ok":
        return found
    return _wrong_direction(subject) or _partly_cut(subject) or found


def _modules_in_use(subject: Subject) -> set[str]:
    """The names of the modules that the forward pass uses."""
    seed = seeded(subject.recipe.seed, device=subject.device)
    with torch.no_grad(), seed, recording(subject.untrained) as recorder:
        subject.untrained(subject.inputs[:CHECK_IMAGES])
    return {output.where for output in recorder.outputs}


def _gradients(model: nn.Module) -> dict[str, float]:
    """The RMS of each trainable weight's gradient; 0 if there is none."""
    return {
        name: 0.0 if p.grad is None else float(p.grad.abs().float().square().mean().sqrt())
        for name, p in model.named_parameters()
        if p.requires_grad
    }


def _judge_flow(model: nn.Module, reached: dict[str, float], used: set[str]) -> list[Finding]:
    weights = {n: g for n, g in reached.items() if n.endswith("weight") or "." not in n} or reached
    without = [name for name, norm in weights.items() if norm == 0]
    top = max(reached.values())
    if without:
        layer = without[0].rpartition(".")[0]
        in_use = [name for name in without if name.rpartition(".")[0] in used]
        count = sum(p.numel() for n, p in model.named_parameters() if n in without)
        text = f"{len(without)} of {len(weights)} layers get no gradient, the first is {without[0]}"
        if not in_use:
            text = f"{count:,} weights are never used, the first in {layer}"
            return [Finding("gradient-flow", "warn", text, "remove or connect them", where=layer)]
        advice = "check for detach, .data or no_grad after that layer, or units that are all dead"
        return [Finding("gradient-flow", "fail", text, advice, where=in_use[0], measured=0.0)]
    smallest = min(weights, key=lambda name: weights[name])
    text = f"RMS {weights[smallest]:.2g} to {top:.2g}"
    if top > HUGE:
        name = max(reached, key=lambda key: reached[key])
        advice = "clip gradients, scale down the initial weights, or add normalisation layers"
        return [Finding("gradient-flow", "warn", f"explodes: {text}", advice, name, top)]
    if weights[smallest] < VANISHED * statistics.median(weights.values()):
        advice = (
            "use ReLU with Kaiming initialisation, normalisation layers or residual connections"
        )
        text = f"vanishes: {text}, smallest in {smallest}"
        return [Finding("gradient-flow", "warn", text, advice, smallest, weights[smallest])]
    return [Finding("gradient-flow", "ok", text)]


def _wrong_direction(subject: Subject) -> list[Finding]:
    """The gradient check of CS231n: a step along a layer's gradient must raise the loss.

    The first, a middle and the last layer are checked, in a large network only the first.
    """
    model, labels = subject.untrained, subject.labels[:CHECK_IMAGES]
    images = subject.inputs[:CHECK_IMAGES]

    def cost() -> Tensor:
        with seeded(subject.recipe.seed, device=subject.device), NoDropout():
            return subject.loss()(model(images.clone()), labels)

    before = cost()
    before.backward()
    layers = [(n, p) for n, p in model.named_parameters() if _is_layer(p)]
    spread = list(dict.fromkeys([*layers[:1], *layers[len(layers) // 2 :][:1], *layers[-1:]]))
    affordable = subject.cost.images(CHECK_SECONDS) // (2 * CHECK_IMAGES)
    for name, weight in spread[: max(1, affordable)]:
        changes = [change * abs(float(before.detach())) for change in CHECK_CHANGES]
        slopes = (_slope(cost, weight, change) for change in changes)
        if all(slope < AGAINST for slope in slopes):
            text = "a step along the gradient lowers the loss: the gradient points the wrong way"
            advice = "check the backward of autograd.Functions, and hooks"
            return [Finding("gradient-flow", "warn", text, advice, name)]
    model.zero_grad(set_to_none=True)
    return []


def _is_layer(parameter: nn.Parameter) -> bool:
    """Whether `parameter` is a floating-point weight with a gradient, of two axes or more."""
    return parameter.ndim > 1 and parameter.grad is not None and parameter.dtype.is_floating_point


def _adds_what_is_detached(subject: Subject) -> bool:
    with Detached() as detached, seeded(subject.recipe.seed, device=subject.device):
        subject.untrained(subject.inputs[:CHECK_IMAGES])
    return bool(detached.added)


def _partly_cut(subject: Subject) -> list[Finding]:
    """Compare numerical slopes of the loss with the gradient of the first layer, in float64.

    Only if a detached tensor is added to others: gradients then flow, but may be incomplete. The
    slopes of two step sizes must agree, since rounding, as in a straight-through estimator, has no
    slope. Detached factors are no fault: the routing of capsules has them on purpose.
    """
    if not _adds_what_is_detached(subject):
        return []
    if subject.cost.images(CUT_SECONDS) < CUT_PASSES * CHECK_IMAGES:
        return []
    model, labels = subject.model(), subject.labels[:CHECK_IMAGES]

    def cost() -> Tensor:
        with seeded(subject.recipe.seed, device=subject.device), NoDropout():
            return subject.loss()(model(images.clone()), labels)

    try:
        model.double()
        images = subject.inputs[:CHECK_IMAGES].double()
        cost().backward()
        again = float(cost().detach())
    except (RuntimeError, TypeError, ValueError, AssertionError):  # the model requires float32
        return []
    first = next((n for n, p in model.named_parameters() if _is_layer(p)), "")
    weight = model.get_parameter(first) if first else None
    if weight is None or again != float(cost().detach()) or not bool(weight.detach().any()):
        return []
    expected, small, large = _directional(cost, weight)
    size = float(small.norm())
    if not size > CUT_MIN_SLOPE * float(expected.norm()):
        return []
    if float((small - large).norm()) > CUT_NOISE * size:
        return []
    off = float((expected - small).norm()) / size
    if off < CUT:
        return []
    text = f"the gradient differs by {off:.0%} from the slope of the loss: a path is cut off"
    advice = "check for detach, .data or no_grad on one of several paths, such as a skip connection"
    return [Finding("gradient-flow", "warn", text, advice, first, off, 0.0)]


@torch.no_grad()
def _directional(cost: Callable[[], Tensor], weight: nn.Parameter) -> tuple[Tensor, Tensor, Tensor]:
    """Slopes in random directions `[6]`: by the gradient, and numerical ones for two step sizes."""
    gradient, start = cast(Tensor, weight.grad), weight.clone()
    generator = torch.Generator().manual_seed(0)
    rows = []
    for _ in range(CUT_DIRECTIONS):
        direction = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        direction = direction.to(weight.device) * start.norm() / direction.norm()
        row = [float((gradient * direction).sum())]
        for step in CUT_STEPS:
            weight.copy_(start + step * direction)
            above = float(cost())
            weight.copy_(start - step * direction)
            row.append((above - float(cost())) / (2 * step))
        rows.append(row)
    weight.copy_(start)
    expected, small, large = torch.tensor(rows, dtype=torch.float64).T
    return expected, small, large


@torch.no_grad()
def _slope(cost: Callable[[], Tensor], weight: nn.Parameter, change: float) -> float:
    """The change of the loss for a small step along the gradient, over the expected change."""
    gradient = cast(Tensor, weight.grad)
    squared = float(gradient.square().sum())
    if squared == 0 or change == 0 or not math.isfinite(squared):
        return 1.0
    start = weight.clone()
    weight.add_(gradient, alpha=change / squared)
    above = float(cost())
    weight.copy_(start).sub_(gradient, alpha=change / squared)
    below = float(cost())
    weight.copy_(start)
    return (above - below) / (2 * change)
