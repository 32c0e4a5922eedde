"""The data, the model and the loss of a recipe."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from cnntune import data as images
from cnntune import models
from cnntune.config.combinations import CROSS_ENTROPY
from cnntune.config.recipe import BuilderSection, Recipe
from cnntune.config.signatures import bind, defaults
from cnntune.data import Data
from cnntune.data.augment import Targets, loss_of
from cnntune.data.augment.check import check_augment
from cnntune.errors import DataError, RecipeError
from cnntune.models.auxiliary import with_auxiliary
from cnntune.models.pretrained.fit import put
from cnntune.models.pretrained.weights import read_statistics, read_weights
from cnntune.training.builders import builder_of, imported
from cnntune.training.contracts import (
    check_model,
    guard_forward,
    guarded_loss,
    is_own,
    lines_noted,
    settings_kept,
)
from cnntune.training.device import seeded
from cnntune.user_code.borders import border, explaining

CPU = torch.device("cpu")
Loss = Callable[[Tensor, Targets], Tensor]


def _bound(section: BuilderSection, name: str) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The builder of the section `name` and the arguments that the recipe gives it."""
    builder = builder_of(section.name, name)
    arguments, problems = bind(builder, section.arguments, name)
    if problems:
        raise RecipeError(f"{problem.key}: {problem.message}" for problem in problems)
    return builder, arguments


def with_defaults(recipe: Recipe) -> Recipe:
    """The recipe with the defaults of its builders written out.

    A run's `config.json` then means the same after a default has changed.
    """
    values: dict[str, Any] = {}
    for section, given in (("data", recipe.data), ("model", recipe.model)):
        found = defaults(builder_of(given.name, section), section)
        values |= {f"{section}.{k}": v for k, v in found.items() if k not in given.arguments}
    return recipe.with_values(values)


def _building(name: str) -> str | None:
    return f"building data {name}" if is_own(name) else None


def load_data(
    recipe: Recipe, device: torch.device, *, checked: bool = True, stream: bool | None = None
) -> Data:
    """The images of a recipe, split into sets, on `device` where they fit.

    Unless `checked`, labels may be out of range and the validation set empty: `sanity` judges them.
    Whether images are streamed is decided here, for one process, unless `stream` is given.

    Raises:
        DataError: where images or labels cannot be used.
        RecipeError: where `[augment]` asks for what these images lack.
        UserCodeError: where user data code raises.
    """
    section = recipe.data
    builder, arguments = _bound(section, "data")
    drawn = seeded(section.seed, "data", device=CPU)  # user data may draw when it is read
    with drawn, explaining():
        with settings_kept(), border(_building(section.name)):
            source = builder(seed=section.seed, **arguments)
        statistics = _statistics(recipe)
        data = images.load(source, section, device, statistics, checked=checked, stream=stream)
        check_augment(recipe, data)
        return data


def load_few(recipe: Recipe, device: torch.device, count: int) -> tuple[Data, int]:
    """Some training images of a recipe, on `device`, and the bytes that all of them would take.

    Raises:
        DataError: where images or labels cannot be used.
        UserCodeError: where user data code raises.
    """
    section = recipe.data
    builder, arguments = _bound(section, "data")
    drawn = seeded(section.seed, "data", device=CPU)
    try:
        with drawn, explaining():
            with settings_kept(), border(_building(section.name)):
                built = builder(seed=section.seed, **arguments)
            source = images.as_source(built, section.name)
            few, statistics = images.few_images(source, count), _statistics(recipe)
            data = images.load(few, section, device, statistics, stream=False)
            return data, images.image_bytes(source)
    except DataError:
        load_data(recipe, device)  # names the problem for all images, and the set that has it
        raise


def _statistics(recipe: Recipe) -> tuple[Tensor, Tensor] | None:
    """Mean and std of the inputs that the pretrained weights were trained on."""
    section = recipe.model
    if not section.weights:
        return None
    return read_statistics(section.weights, section.name)


def build_model(recipe: Recipe, data: Data, *, seed: int | None = None) -> nn.Module:
    """`build_network` for the classes and images of `data`, with its pretrained weights.

    Raises:
        RecipeError: where there are no weights that `model.weights` names, or they do not fit.
        UserCodeError: where user model code raises, or returns no module that takes images.
        OutOfMemoryError: where the model does not fit in memory.
    """
    model = build_network(recipe, len(data.classes), data.in_shape, seed=seed)
    section = recipe.model
    if section.weights:
        weights = read_weights(section.weights, section.name)
        put(weights, model, data.classes, section.weights)
    return model


def build_network(
    recipe: Recipe, num_classes: int, in_shape: tuple[int, int, int], *, seed: int | None = None
) -> nn.Module:
    """The recipe's model with fresh weights, on the CPU; `seed` replaces that of the recipe.

    The same seed gives the same weights, and the caller's random state is left as it was.

    Raises:
        UserCodeError: where user model code raises, or returns no module that takes images.
        OutOfMemoryError: where the model does not fit in memory.
    """
    section = recipe.model
    builder, arguments = _bound(section, "model")
    drawn = seeded(recipe.seed if seed is None else seed, "init", device=CPU)
    not_ours = section.name not in models.BUILT_IN
    with drawn, explaining():
        what = f"building model {section.name}" if not_ours else None
        with settings_kept(), lines_noted() as lines, border(what):
            model: nn.Module = builder(num_classes=num_classes, in_shape=in_shape, **arguments)
        check_model(model, section.name)
        if not_ours:
            guard_forward(model, section.name, lines)
        if any(map(is_lazy, model.parameters())):
            with torch.no_grad():  # layers that take their size from the first images
                model.eval()(torch.zeros(1, *in_shape))
            model.train()
    return model


def build_loss(recipe: Recipe, *, checked: bool = True) -> Loss:
    """The loss that is trained: `(logits float[N, C], targets) -> scalar`.

    `targets` are labels, int `[N]`, or those of mixed images. It adds 0.3 of itself for each
    auxiliary head (`cnntune.models.auxiliary`). Unless `checked`, a custom loss may return
    anything: `sanity` judges it.

    Raises:
        UserCodeError: when called, where a custom loss returns no scalar with a gradient.
    """
    train = recipe.train
    loss = (
        guarded_loss(imported(train.loss), train.loss, checked=checked)
        if train.loss != CROSS_ENTROPY
        else nn.CrossEntropyLoss(label_smoothing=train.label_smoothing)
    )
    return with_auxiliary(functools.partial(loss_of, loss))
