"""Checks of gradients: they reach every layer, keep their scale, and are those of the loss."""

import math
from collections.abc import Callable
from dataclasses import asdict

import torch
from torch import Tensor, nn

from cnntune.findings import Finding, Severity
from cnntune.steps.sanity.input_use import WOKEN
from cnntune.steps.sanity.record import Detached, NoDropout
from cnntune.steps.sanity.subject import Subject
from cnntune.steps.sanity.symptom import GRADIENTS, Symptom
from cnntune.training.device import seeded
from cnntune.training.loop import Learner

FLOW_LR = 1e-3  # small: only layers that start at 0 need to move
FLOW_SECONDS = 4.0  # for these steps; a large network takes them on fewer images
FLOW_STEPS = 3  # a head that starts at 0 passes gradients on after its first step
CHECK_IMAGES = 4  # a batch norm over two images gives 1 and -1, whatever the weights
CHECK_SECONDS = 3.0  # for all slopes; float64 takes up to twice as long
DIRECTIONS = 3  # random ones in the space of a weight; each shows any cut of a path
STEPS = (1e-6, 1e-4)  # of the norm of the weights; float64 resolves 1e-16 of the loss
CHECK_PASSES = 1 + 4 * DIRECTIONS  # per weight: both sides of two steps
MIN_SLOPE = 1e-6  # of the loss: 10,000 times what rounding leaves at the smaller step
FLAT = 1e-2  # of the gradient; below it the loss has no slope at all
NOISE = 0.1  # relative difference that the slopes of the two step sizes may have
MAX_OFF = 0.3  # relative error of the gradient; a complete gradient is off by 1e-6


def gradient_flow(subject: Subject) -> list[Finding]:
    """The gradient of the loss must reach every layer.

    It is checked over a few training steps, since layers that start at 0 (heads, the last norm of a
    residual branch) block the gradient in the first step by design (Goyal et al. 2017). Then each
    weight is moved a little, and the change of the loss compared with its gradient (CS231n,
    "gradient checks"). A detached skip connection, for example, is still used and still trains:

        x = x.detach() + self.block(x)    # before: layers in front get half of their gradient
        x = x + self.block(x)             # after
    """
    model = subject.model()
    settings = subject.recipe.train.model_copy(update={"weight_decay": 0.0})
    recipe = subject.recipe.model_copy(update={"train": settings})
    learner = Learner.of(recipe, model, subject.device)
    learner.set_lr(FLOW_LR)
    reached: dict[str, float] = {}
    affordable = subject.cost.steps(FLOW_SECONDS, FLOW_STEPS)  # images that fit
    count = max(CHECK_IMAGES, min(len(subject.labels), affordable))
    images, labels = subject.inputs[:count], subject.labels[:count]
    with seeded(subject.recipe.seed, device=subject.device):
        for _ in range(FLOW_STEPS):
            loss = subject.loss()(model(images.clone()), labels)
            model.zero_grad(set_to_none=True)
            loss.backward()
            norms = _gradients(model)
            for name, norm in norms.items():
                reached[name] = max(reached.get(name, 0.0), norm)
            if not all(map(math.isfinite, norms.values())):
                text = "gradients are NaN or infinite before any training"
                return [Finding("gradient-flow", "fail", text, "see `activations` first")]
            learner.optimizer.step()
    found = _judge_flow(subject, reached)
    if found[0].severity not in ("ok", "info"):
        return found
    return _against_autograd(subject) or found


def _gradients(model: nn.Module) -> dict[str, float]:
    """The RMS of each trainable weight's gradient; 0 if there is none."""
    return {
        name: 0.0 if p.grad is None else float(p.grad.abs().float().square().mean().sqrt())
        for name, p in model.named_parameters()
        if p.requires_grad
    }


def _judge_flow(subject: Subject, reached: dict[str, float]) -> list[Finding]:
    weights = {n: g for n, g in reached.items() if n.endswith("weight") or "." not in n} or reached
    without = [name for name, norm in weights.items() if norm == 0]
    if without:
        matters = _first_that_matters(subject, [n for n, norm in reached.items() if norm == 0])
        if not matters:
            sizes = dict(subject.untrained.named_parameters())
            count = sum(sizes[name].numel() for name in without)
            text = f"{count:,} weights have no influence on the logits, the first in"
            where = without[0].rpartition(".")[0]
            advice = "remove them, or use their results"
            return [Finding("gradient-flow", "info", f"{text} {where}", advice, where)]
        text = f"{len(without)} of {len(weights)} layers get no gradient, although the logits"
        text += f" depend on {matters}"
        advice = "check for detach, .data or no_grad after that layer, or units that are all dead"
        return [Finding("gradient-flow", "fail", text, advice, matters, measured=0.0)]
    text = f"RMS {min(weights.values()):.2g} to {max(reached.values()):.2g}"
    return [Finding("gradient-flow", "ok", text)]


@torch.no_grad()
def _first_that_matters(subject: Subject, names: list[str]) -> str:
    """The first of some weights that the logits depend on; empty if there is none.

    All of them are changed at once, since a layer that starts at 0 hides those in front of it. Then
    the logits change with each that is restored alone, unless nothing uses it.
    """
    model, images = subject.model(), subject.inputs[:CHECK_IMAGES]
    changed = {name: weight for name, weight in model.named_parameters() if name in names}
    generator = torch.Generator().manual_seed(0)

    def logits() -> Tensor:
        with seeded(subject.recipe.seed, device=subject.device), NoDropout():
            found: Tensor = model(images.clone())
        return found

    before = logits()
    start = {name: weight.clone() for name, weight in changed.items()}
    for weight in changed.values():
        noise = torch.randn(weight.shape, generator=generator).to(weight)
        weight.add_(noise * max(WOKEN, float(weight.abs().float().square().mean().sqrt())))
    moved = logits()
    if torch.equal(before, moved):
        return ""
    for name, weight in changed.items():
        kept = weight.clone()
        weight.copy_(start[name])
        if not torch.equal(logits(), moved):
            return name
        weight.copy_(kept)
    return names[0]


def _against_autograd(subject: Subject) -> list[Finding]:
    """Compare the slopes of the loss with its gradient for each weight, in float64.

    That shows paths that are detached, backward passes that are wrong, and tensors changed behind
    autograd's back, whatever they are made of. The slopes of two step sizes must agree, since
    rounding, as in a straight-through estimator, has no slope. In a network of many weights, as
    many are compared as there is time for.
    """
    passes = subject.cost.images(CHECK_SECONDS) // CHECK_IMAGES
    if passes < CHECK_PASSES:
        return []
    model, labels = subject.model(), subject.labels[:CHECK_IMAGES]

    def cost() -> Tensor:
        with seeded(subject.recipe.seed, device=subject.device), NoDropout():
            return subject.loss()(model(images.clone()), labels)

    try:
        model.double()
        images = subject.inputs[:CHECK_IMAGES].double()
        with Detached() as detached:
            value = cost()
        value.backward()
    except (RuntimeError, TypeError, ValueError, AssertionError):  # the model requires float32
        return []
    if float(value.detach()) != float(cost().detach()):
        return []
    weights = [
        (n, p) for n, p in model.named_parameters() if p.requires_grad and p.is_floating_point()
    ]
    worst = Finding("gradient-flow", "ok", "")
    for name, weight in weights[:: math.ceil(len(weights) / (passes // CHECK_PASSES))]:
        expected, ahead, behind, large = _slopes(cost, weight)
        small = (ahead + behind) / 2
        noise = max(float((ahead - behind).norm()), float((small - large).norm()))
        size = float(small.norm())
        if not size > max(MIN_SLOPE * abs(float(value.detach())), FLAT * float(expected.norm())):
            continue  # rounding, or a threshold that has a gradient on purpose
        off = float((expected - small).norm()) / size
        if noise > NOISE * size or off < max(MAX_OFF, worst.measured or 0):
            continue
        text = f"the gradient differs by {off:.0%} from the slope of the loss: a path is cut off"
        advice = "check for detach, .data or no_grad on one of several paths, such as a skip"
        advice += " connection, and the backward of autograd.Functions"
        # Detached factors may be meant: the routing of capsules has them on purpose.
        severity: Severity = "info" if detached.cut and not detached.added else "warn"
        if not detached.cut and float((expected * small).sum()) < 0:
            text = "a step along the gradient lowers the loss: the gradient points the wrong way"
            advice, severity = "check the backward of autograd.Functions, and hooks", "warn"
        elif not bool(expected.any()):
            text, severity = "gets no gradient, although the loss depends on it", "fail"
        worst = Finding("gradient-flow", severity, text, advice, name, off, 0.0)
        if severity == "warn":
            worst = Symptom(**asdict(worst), part=GRADIENTS, least="warn")
    return [worst] if worst.evidence else []


@torch.no_grad()
def _slopes(cost: Callable[[], Tensor], weight: nn.Parameter) -> Tensor:
    """Slopes in random directions, `[4, 3]`: by the gradient, ahead, behind, and over more.

    The slopes ahead and behind differ at a kink, as where a ReLU is fed with exactly 0.
    """
    start, before = weight.clone(), float(cost())
    gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
    generator = torch.Generator().manual_seed(0)
    length = float(start.norm()) or WOKEN * math.sqrt(weight.numel())
    rows = []
    for _ in range(DIRECTIONS):
        direction = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        direction = direction.to(weight.device) * length / direction.norm()
        costs = []
        for step in STEPS:
            for side in (step, -step):
                weight.copy_(start + side * direction)
                costs.append(float(cost()))
        small, large = STEPS
        ahead, behind = (costs[0] - before) / small, (before - costs[1]) / small
        row = [float((gradient * direction).sum()), ahead, behind]
        rows.append([*row, (costs[2] - costs[3]) / (2 * large)])
    weight.copy_(start)
    return torch.tensor(rows, dtype=torch.float64).T
