"""Checks of eval mode: independent of the batch, deterministic, and as accurate as train mode."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cnntune.findings import Finding
from cnntune.steps.sanity.subject import Subject
from cnntune.steps.sanity.tiny import TinyOverfit
from cnntune.training.device import seeded

MIX_IMAGES = 4
MIX_TOLERANCE = 1e-3  # of the logits' spread; batched kernels round differently by 1e-6
SETTLING_PASSES = 44  # leave 1 % of what a running average with a momentum of 0.1 began with
RECALIBRATION_SECONDS = 3.0  # for all of these passes
RECALIBRATION_PASSES = 3  # batch norm needs one; other running averages nearly converge
KEPT = 0.5  # minimum accuracy in eval mode; it is 1 in train mode
OTHERS = (0.5, -3.0)  # factors on the other images: change their sum, and their maximum


def batch_independence(subject: Subject) -> list[Finding]:
    """In eval mode an image's logits must not depend on the other images in the batch.

    A network with a reshape that mixes the batch, or a softmax or mean over the batch axis, trains
    and even learns, but fails on single images (Karpathy's recipe: "use backprop to chart
    dependencies"). Eval mode is tested, since batch norm mixes images in train mode by design.
    """
    if len(subject.labels) < 2:
        return [Finding("batch-independence", "info", "skipped: fewer than two images")]
    mixed = _mixed(subject)
    if mixed is None:
        return [Finding("batch-independence", "info", "skipped: eval mode is not deterministic")]
    change, moved = mixed
    if change > MIX_TOLERANCE:
        text = f"an image's logits change by {change:.0%} of their spread with the other images in"
        text += " the batch"
        advice = "check for view, reshape, permute, mean or softmax along the batch axis (dim 0)"
        return [Finding("batch-independence", "fail", text, advice, measured=change, expected=0.0)]
    if moved > MIX_TOLERANCE:
        text = f"an image's logits change by {moved:.0%} of their spread with its position in"
        text += " the batch"
        advice = "check for weights or constants that are indexed along the batch axis (dim 0)"
        return [Finding("batch-independence", "fail", text, advice, measured=moved, expected=0.0)]
    text = "an image's logits do not depend on the other images"
    return [Finding("batch-independence", "ok", text, measured=change, expected=0.0)]


def _mixed(subject: Subject) -> tuple[float, float] | None:
    """How much logits change with the other images, and with the position in the batch.

    Both as shares of the logits' spread; None if two passes over one batch differ.
    """
    model, images = subject.untrained, subject.inputs[:MIX_IMAGES]
    recalibrate_batch_norm(model, subject.inputs, passes=1)  # else activations may die out
    changes = []
    with torch.no_grad(), seeded(subject.recipe.seed, device=subject.device):
        together, again = model(images.clone()).float(), model(images.clone()).float()
        for kept in (0, -1):  # a recurrence along the batch depends on earlier images only
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


def train_eval(subject: Subject, overfit: TinyOverfit) -> list[Finding]:
    """Eval mode must be deterministic, and about as accurate as train mode on memorised images.

    With dropout that ignores the mode, batch norm whose running statistics are never updated, or a
    forward pass that switches modes, validation measures another network than the trained one. The
    same where one batch norm is used at two places, which a short training shows:

        x = self.norm(self.conv2(F.relu(self.norm(self.conv1(x)))))    # before
        x = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))  # after
    """
    model = overfit.model
    inputs, labels = subject.inputs[: overfit.images], subject.labels[: overfit.images]
    model.train()
    before = [module.training for module in model.modules()]
    with torch.no_grad():
        model(inputs.clone())
    if [module.training for module in model.modules()] != before:
        text = "the forward pass switches modules between train and eval mode"
        advice = "remove .eval() and .train() from forward: the caller sets the mode"
        return [Finding("train-eval", "fail", text, advice)]
    model.eval()
    with torch.no_grad():
        first, second = model(inputs.clone()).float(), model(inputs.clone()).float()
    if not bool(torch.isfinite(first).all()):
        text = "skipped: the memorised images have logits that are not finite"
        return [Finding("train-eval", "info", text)]
    if not torch.equal(first, second):
        change = float((first - second).abs().max() / first.std().clamp(min=1e-12))
        text = f"two passes in eval mode differ by {change:.0%} of the logits' spread"
        advice = "pass training=self.training to F.dropout, and keep no state between calls"
        return [Finding("train-eval", "fail", text, advice, measured=change, expected=0.0)]
    if not overfit.reached:
        return [Finding("train-eval", "ok", "eval mode is deterministic")]
    affordable = subject.cost.images(RECALIBRATION_SECONDS) // len(inputs)
    if affordable < SETTLING_PASSES:
        recalibrate_batch_norm(model, inputs, max(1, affordable))
    model.train()
    with torch.no_grad():
        for _ in range(min(affordable, SETTLING_PASSES)):  # without a reset: as in training
            model(inputs.clone())
    model.eval()
    acc = _accuracy(model, inputs, labels)
    text = f"accuracy on the memorised images: 100% in train mode, {acc:.0%} in eval mode"
    if acc >= KEPT:
        return [Finding("train-eval", "ok", text, measured=acc, expected=1.0)]
    advice = "check layers that depend on the mode: dropout, batch norm, `if self.training`"
    return [Finding("train-eval", "fail", text, advice, measured=acc, expected=1.0)]


def _accuracy(model: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return float((model(inputs.clone()).argmax(1) == labels).float().mean())


def recalibrate_batch_norm(model: nn.Module, inputs: Tensor, passes: int) -> None:
    """Reset running statistics to those of `inputs`, averaged over the passes; ends in eval mode.

    Without batch norm, only the mode changes.
    """
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
