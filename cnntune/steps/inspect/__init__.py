"""Describe a network: its layers, its cost and its initialisation (CS231n, building a model)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from cnntune.config.recipe import Recipe
from cnntune.data import Data, Images
from cnntune.data.parts import Normalise, ResidentPart
from cnntune.findings import Finding
from cnntune.seeds import derive_seed
from cnntune.steps.inspect import cost
from cnntune.steps.inspect.cost import Memory
from cnntune.steps.inspect.layers import Layer, layer_table
from cnntune.steps.inspect.statistics import faults, with_statistics
from cnntune.training.build import build_loss, build_network
from cnntune.training.contracts import check_logits, user_code_of
from cnntune.training.device import seeded
from cnntune.training.loop import Learner
from cnntune.training.precision import resolve, using
from cnntune.user_code.borders import border, explaining

STATISTICS_IMAGES = (2, 64)  # minimum and maximum for the standard deviations
NOISE_IMAGES = 4  # to choose the precision if there is no data: a second for vgg16
STATISTICS_WORK = 2e10  # multiply-adds of their forward pass: about a second on a CPU core


@dataclass(frozen=True)
class Inspection:
    """A network at initialisation.

    `parameters` includes frozen ones. `multiply_adds` are per image, in eval mode.
    `receptive_field` is that of the logits, in pixels. `head_share` (0..1) is the share of the
    parameters that linear layers after the last feature map have. `step_seconds` is the time of a
    training step at the recipe's batch size.
    """

    layers: list[Layer]
    parameters: int
    multiply_adds: int
    receptive_field: int | None
    head_share: float
    memory: Memory | None
    step_seconds: float
    findings: list[Finding]

    def as_json(self) -> dict[str, Any]:
        """The keys that `inspect --json` adds to those of all documents."""
        return {
            "parameters": self.parameters,
            "multiply_adds": self.multiply_adds,
            "receptive_field": self.receptive_field,
            "head_share": self.head_share,
            "memory": None if self.memory is None else cost.as_json(self.memory),
            "step_seconds": self.step_seconds,
            "layers": [asdict(layer) for layer in self.layers],
        }


def inspect_recipe(recipe: Recipe, data: Data, device: torch.device) -> Inspection:
    """Inspect the recipe's network on training images, without augmentation.

    A step is timed as `train` computes it: in the same precision, with the same threads.

    Raises:
        UserCodeError: if the user's model or loss code raises.
    """
    generator = torch.Generator().manual_seed(derive_seed(recipe.seed, "inspect"))
    count = min(recipe.train.batch_size, len(data.train))
    order = torch.randperm(len(data.train), generator=generator)[:count]
    images, labels = next(data.train.batches(order, count))
    with explaining():
        recipe = resolve(recipe, data, device)
    return _inspect(recipe, len(data.classes), images.to(device), labels.to(device))


def inspect_model(
    recipe: Recipe, in_shape: tuple[int, int, int], num_classes: int, device: torch.device
) -> Inspection:
    """Inspect the recipe's network without data, on normal noise with random labels.

    Raises:
        UserCodeError: if the user's model or loss code raises.
    """
    generator = torch.Generator().manual_seed(derive_seed(recipe.seed, "inspect"))
    shape = (recipe.train.batch_size, *in_shape)
    images = torch.randn(shape, generator=generator).to(device)
    labels = torch.randint(num_classes, shape[:1], generator=generator)
    few = slice(NOISE_IMAGES)
    noise = noise_data(images[few], labels[few], num_classes)
    recipe = resolve(recipe, noise, device)
    return _inspect(recipe, num_classes, images, labels.to(device))


def noise_data(images: Tensor, labels: Tensor, classes: int) -> Data:
    """Images `[N, C, H, W]`, on their device, and labels int64 `[N]` as a complete data set."""
    _, channels, height, width = images.shape
    plain = torch.ones(1, channels, 1, 1, device=images.device)
    normalise = Normalise(torch.zeros_like(plain), plain)
    part = ResidentPart(Images(images, labels.to(images.device)), labels, normalise)
    names = tuple(str(label) for label in range(classes))
    return Data(part, part, None, names, (channels, height, width), normalise)


def _inspect(recipe: Recipe, classes: int, images: Tensor, labels: Tensor) -> Inspection:
    """Inspect on these images; `recipe` has its final precision and threads."""
    with explaining():
        return _measured(recipe, classes, images, labels)


def _measured(recipe: Recipe, classes: int, images: Tensor, labels: Tensor) -> Inspection:
    channels, height, width = images.shape[1:]
    in_shape, device = (channels, height, width), images.device
    model = build_network(recipe, classes, in_shape)
    layers = layer_table(model, in_shape)
    multiply_adds = sum(layer.multiply_adds for layer in layers)
    memory = cost.estimate_memory(model, in_shape, recipe.train)
    least, most = STATISTICS_IMAGES
    some = max(least, min(most, int(STATISTICS_WORK / max(1, multiply_adds))))
    with seeded(recipe.seed, "inspect", device=device), using(recipe):
        model.to(device)
        check_logits(model, images[:2], classes, recipe.model.name)
        few, loss = images[:some], build_loss(recipe)
        with border(user_code_of(recipe)):
            layers = with_statistics(layers, model, few, labels[:some], loss, recipe.model.name)
        learner = Learner.of(recipe, model, device)
        seconds, measured = cost.time_step(learner, images, labels, multiply_adds)
    return Inspection(
        layers=layers,
        parameters=parameters_of(model),
        multiply_adds=multiply_adds,
        receptive_field=layers[-1].receptive_field if layers else None,
        head_share=_head_share(layers, parameters_of(model)),
        memory=None if memory is None else replace(memory, measured=measured),
        step_seconds=seconds,
        findings=faults(layers),
    )


def parameters_of(model: nn.Module) -> int:
    """The number of parameters of a model, including frozen ones."""
    return sum(parameter.numel() for parameter in model.parameters())


def _head_share(layers: Sequence[Layer], parameters: int) -> float:
    head = sum(
        layer.parameters for layer in layers if len(layer.output) == 1 and layer.multiply_adds
    )
    return head / parameters if parameters else 0.0
