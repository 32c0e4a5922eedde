"""Set-ups of a user's own code, written to a folder and checked."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cnntune.config.recipe import AugmentSection
from cnntune.findings import Finding
from cnntune.steps.sanity import check, references
from cnntune.steps.sanity.subject import Subject
from cnntune.training.build import load_data
from cnntune.training.open_recipe import load_recipe

CPU = torch.device("cpu")

# Own code, as a user would write it; one layer, so that a check takes a blink.
BEGIN = """
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset, TensorDataset


def linear(in_shape, num_classes):
    channels, height, width = in_shape
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, num_classes))


class Changed(nn.Module):
    def __init__(self, layers, change):
        super().__init__()
        self.layers, self.change = layers, change

    def forward(self, x):
        return self.change(self.layers, x)


def some_digits():
    from sklearn.datasets import load_digits
    images, labels = load_digits(return_X_y=True)
    images = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    return images[:400], torch.tensor(labels[:400]), images[400:600], torch.tensor(labels[400:600])


"""
MODEL = "def build(*, num_classes, in_shape):\n    "
HEALTHY = MODEL + "return linear(in_shape, num_classes)\n"
LOSS = "\n\ndef loss(logits, targets):\n    "
DATA = "\n\ndef data(*, seed):\n    x, y, val_x, val_y = some_digits()\n"


# The small CNN that a check trains on the images alone is the same for every network on them.
TRAINED: dict[tuple[object, ...], Any] = {}


def trained_once(train: Callable[..., Any]) -> Callable[..., Any]:
    def remembered(
        subject: Subject,
        examples: tuple[torch.Tensor, torch.Tensor],
        augmentation: AugmentSection,
        lr: float,
    ) -> Any:
        pixels, labels = (part.numpy().tobytes() for part in examples)
        key = (pixels, labels, subject.classes, subject.recipe.seed, augmentation, lr)
        if key not in TRAINED:
            TRAINED[key] = train(subject, examples, augmentation, lr)
        return TRAINED[key]

    return remembered


class OwnSetUp:
    """A recipe with own code for the model and perhaps loss and data; else 300 digits."""

    def __init__(self, folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "path", [*sys.path])  # the recipe's folder joins it
        once = trained_once(references._train_plain)
        monkeypatch.setattr(references, "_train_plain", once)
        self.folder, self.module = folder, f"own_{name}"

    def write(self, model: str = HEALTHY, loss: str = "", data: str = "") -> Path:
        """Write code and recipe; returns the recipe's path."""
        (self.folder / f"{self.module}.py").write_text(BEGIN + model + loss + data)
        lines = ["[data]"]
        lines += [f'name = "{self.module}:data"'] if data else ['name = "digits"', "size = 300"]
        lines += ["[model]", f'name = "{self.module}:build"']
        lines += ["[train]", f'loss = "{self.module}:loss"'] if loss else []
        path = self.folder / "own.toml"
        path.write_text("\n".join(lines))
        return path

    def subject(self, model: str = HEALTHY, loss: str = "", data: str = "") -> Subject:
        """What the rules look at."""
        self.write(model, loss, data)
        return self.opened()

    def opened(self) -> Subject:
        """What the rules look at in the recipe that was written."""
        recipe = load_recipe(str(self.folder / "own.toml"))
        return Subject.of(recipe, load_data(recipe, CPU, checked=False), CPU)

    def findings(self, model: str = HEALTHY, loss: str = "", data: str = "") -> list[Finding]:
        """Everything that `sanity` says about it."""
        recipe = load_recipe(str(self.write(model, loss, data)))
        return list(check(recipe, load_data(recipe, CPU, checked=False), CPU))
