"""What `init` proposes for images: a network that this machine can search, and whether to flip.

Which network: the first of `CANDIDATES` of which 50 trials of 3 epochs (`cnntune search`) take at
most an hour here, by the measured time of a training step. The small ones are ordered by their
accuracy after 3 epochs in `benchmarks/search/first_networks.py`, where residual networks were less
accurate than `small-cnn` of the same cost; a ResNet-18 comes first for its pretrained weights.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cnntune.config.recipe import Recipe, parse
from cnntune.data.survey import MAX_NAMED, SIZES, Survey
from cnntune.findings import Finding
from cnntune.steps.inspect import cost, noise_data
from cnntune.steps.inspect.layers import layer_table
from cnntune.texts import counted, duration
from cnntune.training.build import build_network
from cnntune.training.device import seeded
from cnntune.training.loop import Learner
from cnntune.training.precision import resolve, using

CANDIDATES: tuple[dict[str, Any], ...] = (
    {"name": "resnet18"},
    {"name": "small-cnn", "width": 64, "depth": 6},
    {"name": "small-cnn", "width": 32, "depth": 6},
    {"name": "small-cnn", "width": 16, "depth": 6},
)
SETTINGS = {"optimizer": "sgd", "weight_decay": 1e-4, "schedule": "cosine", "warmup_epochs": 0.5}
TRIALS, EPOCHS = 50, 3  # of `cnntune search` with the recipe that `init` writes
AN_HOUR = 3600.0  # seconds
VALIDATION = 1 / 3  # work for a validation image by that for a training image: no backward pass
MANY = 10.0  # images of the largest class by those of the smallest
MOST = 0.5  # of the images
SURE = 3.0  # standard errors
SETS = 3  # training, validation, test


@dataclass(frozen=True)
class Cost:
    """What `cnntune search` with a network takes: `seconds` for 50 trials of 3 epochs."""

    model: dict[str, Any]
    size: int
    seconds: float

    @property
    def name(self) -> str:
        """The network with its size, as in a sentence."""
        options = [f"{key} {value}" for key, value in self.model.items() if key != "name"]
        return " ".join([self.model["name"], *([f"({', '.join(options)})"] if options else [])])


@dataclass(frozen=True)
class FirstRecipe:
    """What `init` writes, with the reasons; `tried` ends with the network that was taken."""

    tried: Sequence[Cost]
    batch_size: int
    flip: bool
    about_flip: Finding
    findings: Sequence[Finding]

    @property
    def network(self) -> Cost:
        """The network of the recipe."""
        return self.tried[-1]


def propose(found: Survey, device: torch.device) -> FirstRecipe:
    """A first recipe for the images of a survey on this device; takes seconds."""
    batch_size = min(128, max(8, found.training // 20))
    tried = _affordable(found, batch_size, device)
    flip, about_flip = mirrored(found.thumbnails, found.labels, colour=not found.grey)
    findings = [_about_time(tried, device), about_flip, *_about_images(found)]
    return FirstRecipe(tried, batch_size, flip, about_flip, findings)


def _affordable(found: Survey, batch_size: int, device: torch.device) -> list[Cost]:
    """Candidates up to the first that an hour is enough for; at smaller sizes where none is."""
    tried = []
    for size in (found.size, *(size for size in reversed(SIZES) if size < found.size)):
        for model in CANDIDATES if size == found.size else CANDIDATES[-1:]:
            step = _step_seconds(model, found, size, batch_size, device)
            images = found.training + VALIDATION * found.val
            tried.append(Cost(model, size, TRIALS * EPOCHS * step * images / batch_size))
            if tried[-1].seconds <= AN_HOUR:
                return tried
    return tried


def _step_seconds(
    model: dict[str, Any], found: Survey, size: int, batch_size: int, device: torch.device
) -> float:
    """Seconds per training step, measured on noise."""
    in_shape = (1 if found.grey else 3, size, size)
    recipe = _recipe(model, batch_size)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn((batch_size, *in_shape), generator=generator).to(device)
    labels = torch.randint(found.classes, (batch_size,), generator=generator).to(device)
    recipe = resolve(recipe, noise_data(images[:2], labels[:2], found.classes), device)
    with seeded(0, "init", device=device), using(recipe):
        network = build_network(recipe, found.classes, in_shape)
        work = sum(layer.multiply_adds for layer in layer_table(network, in_shape))
        return cost.time_step(Learner.of(recipe, network, device), images, labels, work)[0]


def _recipe(model: dict[str, Any], batch_size: int) -> Recipe:
    train = {**SETTINGS, "batch_size": batch_size}
    return parse({"name": "init", "model": model, "train": train}, file="init")


def mirrored(thumbnails: Tensor, labels: Tensor, *, colour: bool) -> tuple[bool, Finding]:
    """Whether mirrored images can be told by the class that they have, as far as pixels tell it.

    Each thumbnail (float32 `[N, C, s, s]`), and its mirror image, gets the class (int64 `[N]`) of
    the most similar one of the others. If more images than by chance lose their class when they are
    mirrored (McNemar's test), left and right matter. Where pixels tell no class, only colour images
    are mirrored, as photographs usually are.
    """
    unit = _centred(thumbnails)
    right = _predicted(unit, unit, labels) == labels
    right_mirrored = _predicted(_centred(thumbnails.flip(-1)), unit, labels) == labels
    lost = int((right & ~right_mirrored).sum())
    won = int((~right & right_mirrored).sum())
    shares = torch.bincount(labels).double() / len(labels)
    chance = float((shares**2).sum())
    acc, acc_mirrored = float(right.double().mean()), float(right_mirrored.double().mean())
    told = acc - chance > SURE * math.sqrt(max(chance * (1 - chance), 1e-12) / len(labels))
    known = (
        f"by its most similar other image {acc:.0%} of {counted(len(labels), 'image')} get their"
        f" class, mirrored {acc_mirrored:.0%}"
    )
    if told and lost - won > SURE * math.sqrt(lost + won):
        return False, Finding("flip", "info", known, "flip = false: left and right matter here")
    if told:
        return True, Finding("flip", "info", known, "flip = true: mirrored images keep their class")
    unknown = f"pixels alone tell no class here ({acc:.0%} of {counted(len(labels), 'image')})"
    advice = "flip = true, as for photographs; set it to false where left and right matter"
    if not colour:
        advice = "flip = false; set it to true where a mirrored image keeps its class"
    return colour, Finding("flip", "info", unknown, advice)


def _centred(images: Tensor) -> Tensor:
    vectors = images.flatten(1)
    return F.normalize(vectors - vectors.mean(1, keepdim=True), dim=1)


def _predicted(images: Tensor, among: Tensor, labels: Tensor) -> Tensor:
    """The class of the most similar image in `among` but for the one of the same index."""
    return labels[(images @ among.T).fill_diagonal_(-2.0).argmax(1)]


def _about_time(tried: Sequence[Cost], device: torch.device) -> Finding:
    taken = tried[-1]
    evidence = (
        f"{taken.name} at {taken.size} px: {TRIALS} trials of {EPOCHS} epochs take about"
        f" {duration(taken.seconds)} on {device}"
    )
    more = [f"{one.name} at {one.size} px would take {duration(one.seconds)}" for one in tried[:-1]]
    if more:
        evidence = f"{evidence}; {', '.join(more)}"
    if taken.seconds <= AN_HOUR:
        return Finding("network", "info", evidence, measured=taken.seconds, expected=AN_HOUR)
    advice = (
        f"no network of ours can be searched within {duration(AN_HOUR)} here: use fewer images"
        " (data.per_class), a smaller --budget, or a GPU"
    )
    return Finding("network", "warn", evidence, advice, measured=taken.seconds, expected=AN_HOUR)


def _listed(problems: Sequence[str]) -> str:
    """The first problems, then the number of the others."""
    more = len(problems) - MAX_NAMED
    return "; ".join([*problems[:MAX_NAMED], *([f"and {more} more"] if more > 0 else [])])


def _about_images(found: Survey) -> list[Finding]:
    findings = []
    if found.unreadable:
        findings.append(
            Finding(
                "images",
                "warn",
                f"{len(found.unreadable)} of {counted(found.sampled, 'file')} that were tried"
                f" cannot be read: {_listed(found.unreadable)}",
                "remove or convert them: training stops at the first",
            )
        )
    if found.conflicts:
        findings.append(
            Finding(
                "images",
                "warn",
                f"{counted(len(found.conflicts), 'image')} in more than one class:"
                f" {' = '.join(str(file) for file in found.conflicts[0])}",
                "keep each in its class only",
            )
        )
    if copies := [group for group in found.copies if group not in found.conflicts]:
        extra = sum(len(group) - 1 for group in copies)
        findings.append(
            Finding(
                "images",
                "warn",
                f"{counted(extra, 'file')} equal to another, byte for byte:"
                f" {' = '.join(str(file) for file in copies[0])}",
                "remove copies: one in training and one in validation makes the accuracy too good",
            )
        )
    if found.sets and len(found.sets) < SETS:
        findings.append(
            Finding(
                "images",
                "info",
                f"{' and '.join(folder.name for folder in found.sets)} have no test folder beside"
                " them: `cnntune train` has no test set to evaluate",
                "put images that nothing is chosen by into test/, with one folder per class",
            )
        )
    fewest = min(found.per_class, key=lambda name: found.per_class[name])
    most = max(found.per_class, key=lambda name: found.per_class[name])
    if found.per_class[most] > MANY * found.per_class[fewest]:
        findings.append(
            Finding(
                "images",
                "info",
                f"classes differ in size: {most} has {counted(found.per_class[most], 'image')},"
                f" {fewest} {found.per_class[fewest]}",
                "accuracy hides the small classes: read the accuracy per class, and collect more of"
                " the small ones",
            )
        )
    if found.long > MOST:
        findings.append(
            Finding(
                "images",
                "info",
                f"{found.long:.0%} of the images are at least 1.5 times longer than wide, or wider"
                " than long; the recipe uses their central square",
                "crop or pad them beforehand where what matters is near an end",
            )
        )
    return findings
