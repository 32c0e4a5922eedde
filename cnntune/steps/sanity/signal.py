"""Follow the signal: after which operation can the label no longer be read?"""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnntune.findings import Finding, Severity
from cnntune.steps.sanity.learning import CONCLUSIVE_STEPS, LEARN_BATCH, LEARN_STEPS, PATIENCE, Run
from cnntune.steps.sanity.record import NoDropout
from cnntune.steps.sanity.subject import Subject
from cnntune.steps.sanity.substitution import without_augmentation
from cnntune.steps.sanity.thumbnails import draw_images
from cnntune.steps.sanity.tiny import TinyOverfit, finite
from cnntune.steps.sanity.where import Place, following
from cnntune.training.device import seeded

LOST = 0.5  # of what can be read above chance: a layer that costs more than half of it
PROBE_FEATURES = 4096  # coordinates of a layer's output that the probe reads, drawn at random
PROBE_SECONDS = 4.0  # for a pass over the probed images
MIN_PROBED = 128  # images: with fewer, accuracies of the probe are off by 5 points or more
RIDGE = 1e-2  # of the mean squared length of the features
SIGNAL_SECONDS = 4.0  # of training, where a network looks as if it lost the label


def signal(subject: Subject, overfit: TinyOverfit) -> list[Finding]:
    """A layer must not discard what tells the classes apart.

    The label is read from the output of each operation by ridge regression and by the nearest
    neighbour, on images that neither was fitted to, as linear probes do (Alain and Bengio 2016).
    Sound layers keep what the images allow or lose a little; a wrong one loses most of it at once:

        x = F.relu(self.conv(x)).amax((2, 3))    # before: 90 % in front of it, 23 % behind
        x = F.max_pool2d(F.relu(self.conv(x)), 2).flatten(1)    # after: 92 %

    Only a network that does not learn is judged, after a short training run. The same holds for
    group statistics over one value, pooling to a single place, and layers of one or two units.
    """
    images = min(len(subject.labels), subject.cost.images(PROBE_SECONDS))
    steps = min(PATIENCE * LEARN_STEPS, subject.cost.steps(SIGNAL_SECONDS, LEARN_BATCH))
    if min(images, len(subject.data.val)) < MIN_PROBED or steps < CONCLUSIVE_STEPS:
        return [Finding("signal", "info", "skipped: too few images, or training takes too long")]
    inputs, labels = subject.inputs[:images], subject.labels[:images]
    pixels = readable(inputs, labels, subject.classes)
    logits = _forward(overfit.model, inputs, subject)
    text = f"the label can be read from {pixels:.0%} of the images by their pixels"
    kept = readable(logits, labels, subject.classes)
    if not _lost(pixels, kept, labels):
        return [Finding("signal", "ok", f"{text}, {kept:.0%} by the logits", "", "", kept, pixels)]
    model = _trained(subject, overfit, steps)
    inputs, labels = draw_images(subject.data.val, images, subject.recipe.seed)
    pixels = readable(inputs, labels, subject.classes)
    logits = _forward(model, inputs, subject)
    acc = float((logits.argmax(1) == labels).float().mean())
    text = f"after training, validation accuracy is {acc:.0%}; the label can be read from"
    text += f" {pixels:.0%} of the images by their pixels"
    if not _lost(pixels, acc, labels):
        return [Finding("signal", "ok", text, "", "", acc, pixels)]
    untrained = _cliff(subject, subject.untrained, inputs, labels)
    found = untrained or (_cliff(subject, model, inputs, labels) if finite(model) else None)
    if found is None:
        return [Finding("signal", "info", f"{text}; no single layer loses it", "", "", acc, pixels)]
    place, before, after = found
    text += f", from {before:.0%} before {place}, and from {after:.0%} after it"
    advice = "check its axes, sizes and number of groups: what tells the classes apart ends there"
    # What is lost in training only, as by units that died, may be the fault of loss or optimizer.
    severity: Severity = "fail" if untrained else "info"
    return [Finding("signal", severity, text, advice, place.module, after, before)]


def _lost(before: float, after: float, labels: Tensor) -> bool:
    """Whether more than half of an accuracy above that of guessing is gone."""
    chance = float((labels == labels.mode().values).float().mean())
    return after - chance < LOST * (before - chance)


@torch.no_grad()
def _forward(model: nn.Module, inputs: Tensor, subject: Subject) -> Tensor:
    model.train()  # batch norm as in training; running statistics are another rule's
    with seeded(subject.recipe.seed, device=subject.device), NoDropout():
        logits: Tensor = model(inputs.clone())
    return logits.float()


def _trained(subject: Subject, overfit: TinyOverfit, steps: int) -> nn.Module:
    """The network after some training without augmentation and dropout."""
    lr = overfit.attempts[-1].lr if overfit.attempts else subject.recipe.train.lr
    plain = replace(subject, recipe=without_augmentation(subject.recipe))
    with NoDropout():
        return Run(plain, steps, MIN_PROBED).train(lr).model


def _cliff(
    subject: Subject, model: nn.Module, inputs: Tensor, labels: Tensor
) -> tuple[Place, float, float] | None:
    """The operation that loses the label, and what can be read before and after it."""
    read: list[tuple[Place, float]] = []

    def see(place: Place, tensor: Tensor) -> None:
        read.append((place, readable(tensor, labels, subject.classes)))

    with following(model, len(inputs), see):
        _forward(model, inputs, subject)
    last = max(
        (k for k in range(len(read)) if not _lost(read[0][1], read[k][1], labels)), default=-1
    )
    before = read[last][1]
    if last + 1 < len(read) and _lost(before, read[last + 1][1], labels):
        return read[last + 1][0], before, read[last + 1][1]
    return None


def readable(features: Tensor, labels: Tensor, classes: int) -> float:
    """The held-out accuracy (0..1) of reading `labels` from `features`, `[N, ...]`.

    One half of the images is used to fit, the other to measure, and the better of ridge regression
    and the nearest neighbour counts.
    """
    rows = features.flatten(1).float().cpu()
    labels = labels.cpu()
    half = len(rows) // 2
    if not bool(torch.isfinite(rows).all()):
        return 0.0
    if rows.shape[1] > PROBE_FEATURES:
        generator = torch.Generator().manual_seed(0)
        rows = rows[:, torch.randperm(rows.shape[1], generator=generator)[:PROBE_FEATURES]]
    rows = rows - rows[:half].mean(0)
    squares = rows[:half].square().sum(1)
    nearest = labels[:half][(squares - 2 * rows[half:] @ rows[:half].T).argmin(1)]
    guesses = (nearest, linear_labels(rows[half:], rows[:half], labels[:half], classes))
    return max(float((guess == labels[half:]).float().mean()) for guess in guesses)


def linear_labels(asked: Tensor, known: Tensor, labels: Tensor, classes: int) -> Tensor:
    """What ridge regression, fitted to `known` `[N, D]` and its `labels`, says of `asked`."""
    middle = known.mean(0)
    known, asked = known - middle, asked - middle
    kernel = (known @ known.T).double()
    answers = F.one_hot(labels, classes).double()
    offsets = answers.mean(0)
    size = float(kernel.diagonal().mean())
    if size == 0:
        return offsets.argmax().expand(len(asked))
    ridge = RIDGE * size * torch.eye(len(known), dtype=torch.float64)
    weights = torch.linalg.solve(kernel + ridge, answers - offsets)
    guesses: Tensor = (asked @ known.T).double() @ weights + offsets
    return guesses.argmax(1)
