"""Checks of eval mode: each image by itself, the same twice, and as good as in train mode."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cnntune.findings import Finding
from cnntune.steps.sanity.subject import Subject
from cnntune.steps.sanity.tiny import Memory
from cnntune.training.device import seeded

MIX_IMAGES = 4
MIX_TOLERANCE = 1e-3  # of the logits' size; batched kernels round differently by 1e-6
SETTLE_PASSES = 20  # forward passes in which running statistics forget their start
SETTLE_SECONDS = 3.0  # for them; batch norms settle in one
KEPT = 0.5  # of the accuracy in train mode that has to be left in eval mode
MOST_MOMENTUM = 0.5  # of a batch norm; torch's default is 0.1, where TensorFlow writes 0.9
OTHERS = (0.5, -3.0)  # times: darker, since a sum must not stay what it was; and a new maximum


def batch_independence(subject: Subject) -> list[Finding]:
    """In eval mode an image's logits must not depend on the images beside it.

    A reshape that mixes the batch, or a softmax or mean over the wrong axis, trains and even
    learns, and fails when images come one at a time (Karpathy's recipe: "use backprop to chart
    dependencies"). Batch norms mix in train mode, by design, so eval mode is looked at.
    """
    if len(subject.labels) < 2:
        return [Finding("batch-independence", "info", "skipped: fewer than two images")]
    mixed = _mixed(subject)
    if mixed is None:
        return [Finding("batch-independence", "info", "skipped: eval mode is not deterministic")]
    change, moved = mixed
    if change > MIX_TOLERANCE:
        text = f"an image's logits change by {change:.0%} of their spread when the others change"
        advice = "look for view, reshape, permute, mean or softmax along the batch axis (dim 0)"
        return [Finding("batch-independence", "fail", text, advice, measured=change, expected=0.0)]
    if moved > MIX_TOLERANCE:
        text = f"an image's logits change by {moved:.0%} of their spread with its place in"
        text += " the batch"
        advice = "look for weights or numbers that are indexed along the batch axis (dim 0)"
        return [Finding("batch-independence", "fail", text, advice, measured=moved, expected=0.0)]
    text = "an image's logits stay the same beside other images"
    return [Finding("batch-independence", "ok", text, measured=change, expected=0.0)]


def _mixed(subject: Subject) -> tuple[float, float] | None:
    """How far logits change with the other images, and with the place in the batch.

    Shares of the logits' spread; None where the same batch gives other logits the second time.
    """
    model, images = subject.untrained, subject.inputs[:MIX_IMAGES]
    settle(model, subject.inputs, passes=1)  # at fresh statistics signals may die out
    changes = []
    with torch.no_grad(), seeded(subject.recipe.seed, device=subject.device):
        together, again = model(images.clone()).float(), model(images.clone()).float()
        for kept in (0, -1):  # what runs along the batch may look back only
            for factor in OTHERS:
                others = factor * images.roll(1, 0)
                others[kept] = images[kept]
                changes.append(float((together[kept] - model(others).float()[kept]).abs().max()))
        moved = float((together - model(images.flip(0)).float().flip(0)).abs().max())
    model.train()
    if not torch.equal(together, again):
        return None
    spread = float(together.detach().std()) + 1e-12
    return max(changes) / spread, moved / spread


def train_eval(subject: Subject, memory: Memory) -> list[Finding]:
    """Train and eval mode must be one network: in eval mode deterministic, and as good.

    Dropout that ignores the mode, batch norms whose running statistics never move, and a forward
    pass that switches modes each make validation measure another network than was trained.
    """
    model = memory.model
    inputs, labels = subject.inputs[: memory.images], subject.labels[: memory.images]
    model.train()
    before = [module.training for module in model.modules()]
    with torch.no_grad():
        model(inputs.clone())
    if [module.training for module in model.modules()] != before:
        text = "the forward pass switches modules between train and eval mode"
        advice = "leave the mode to the caller: no .eval() or .train() inside forward"
        return [Finding("train-eval", "fail", text, advice)]
    model.eval()
    with torch.no_grad():
        first, second = model(inputs.clone()).float(), model(inputs.clone()).float()
    if not torch.equal(first, second):
        change = float((first - second).abs().max() / first.std().clamp(min=1e-12))
        text = f"two passes in eval mode differ by {change:.0%} of the logits' spread"
        advice = "give F.dropout training=self.training, and keep no state between calls"
        return [Finding("train-eval", "fail", text, advice, measured=change, expected=0.0)]
    if still := [m for m in batch_norms(model) if m.momentum == 0 and m.track_running_stats]:
        text = f"{len(still)} batch norms have momentum 0: their running statistics never move"
        return [Finding("train-eval", "fail", text, "use the default momentum, 0.1")]
    if last := [m for m in batch_norms(model) if (m.momentum or 0.0) > MOST_MOMENTUM]:
        text = f"{len(last)} batch norms have momentum {last[0].momentum:g}: their running"
        text += " statistics are those of the last batch"
        return [Finding("train-eval", "warn", text, "use 0.1; TensorFlow's 0.9 is torch's 0.1")]
    if not memory.reached:
        return [Finding("train-eval", "ok", "eval mode is deterministic")]
    affordable = subject.cost.images(SETTLE_SECONDS) // len(inputs)
    settle(model, inputs, max(1, min(SETTLE_PASSES, affordable)))
    with torch.no_grad():
        acc = float((model(inputs.clone()).argmax(1) == labels).float().mean())
    text = f"accuracy on the images learnt by heart: 100% in train mode, {acc:.0%} in eval mode"
    if acc >= KEPT:
        return [Finding("train-eval", "ok", text, measured=acc, expected=1.0)]
    advice = "look at layers that act on the mode: dropout, batch norms, `if self.training`"
    return [Finding("train-eval", "fail", text, advice, measured=acc, expected=1.0)]


def settle(model: nn.Module, inputs: Tensor, passes: int) -> None:
    """Let running statistics become those of these images, whatever their momentum."""
    norms = [norm for norm in batch_norms(model) if norm.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the passes
    model.train()
    with torch.no_grad():
        for _ in range(passes if norms else 0):
            model(inputs.clone())
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """The batch norms of a model."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]
