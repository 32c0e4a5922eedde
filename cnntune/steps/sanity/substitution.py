"""Replace one part of a set-up at a time: the part whose replacement repairs it is the cause.

Nothing here knows a bug. For each part of a set-up there is one that is known to work: another loss
or value of the recipe, or a network in which one kind of operation does something plain.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from cnntune.config.combinations import CROSS_ENTROPY
from cnntune.config.recipe import AugmentSection, Recipe
from cnntune.steps.sanity.record import DROPOUTS
from cnntune.steps.sanity.subject import Subject, computing_seconds, once
from cnntune.steps.sanity.symptom import DROPOUT, GRADIENTS, OUTPUT, PIXELS, SQUASHING, WEIGHTS
from cnntune.training.device import seeded

PLAIN_SETTINGS = {"weight_decay": 0.0, "grad_clip": 0.0, "momentum": 0.9}  # of [train]
PLAIN_LOSS = {"loss": CROSS_ENTROPY, "label_smoothing": 0.0}
SWAP_SECONDS = 20.0  # of computing, for all replacements that a check tries
SWAP_SHARE = 0.5  # of the steps: a set-up that is repaired learns in fewer
TRACED_IMAGES = 4  # of the pass that tells whether a network has such operations
LINEAR_OPS = ("linear", "addmm", "mm", "matmul", "__matmul__", "einsum", "conv2d", "_conv_forward")
SQUASHING_OPS = ("sigmoid", "tanh", "hardtanh", "softsign", "logsigmoid", "hardsigmoid", "relu6")
# What user code raises that requires the part that was replaced.
REFUSALS = (RuntimeError, TypeError, ValueError, AttributeError, AssertionError, LookupError)
NORM_OPS = ("batch_norm", "group_norm", "instance_norm")
CUTTING_OPS = ("detach", "detach_")


@dataclass(frozen=True)
class Swap:
    """A part of a set-up, and what replaces it; `rule` is the one that describes the part.

    `recipe` returns the recipe with the replacement. `network` changes a network in place, and
    returns False where there is nothing to replace.
    """

    rule: str
    part: str
    other: str
    recipe: Callable[[Recipe], Recipe] | None = None
    network: Callable[[Subject, nn.Module], bool] | None = None

    def of(self, subject: Subject, draw: int = 0) -> tuple[Subject, nn.Module] | None:
        """The set-up with the replacement, and its initial network; None if there is no change."""
        if self.recipe:
            changed = self.recipe(subject.recipe)
            if changed == subject.recipe:
                return None
            subject = replace(subject, recipe=changed)
        model = subject.model(draw)
        if self.network:
            try:
                with seeded(subject.recipe.seed, self.other, device=subject.device):
                    if not self.network(subject, model):
                        return None
                    trace(subject, model)
            except REFUSALS:
                return None  # the network requires what was replaced
        return subject, model


R = TypeVar("R")


@dataclass
class Budget:
    """The seconds of computing that are left for replacements; none where a cause is sure."""

    subject: Subject
    left: float = SWAP_SECONDS

    def spend(self, experiment: Callable[[float], R]) -> R | None:
        """The result of an experiment, which is told the seconds that are left.

        None if none are left, or if the user's code cannot do without what is replaced.
        """
        if self.left <= 0 or self.subject.causes:
            return None
        start = computing_seconds(self.subject.device)
        try:
            return experiment(self.left)
        except REFUSALS:
            return None
        finally:
            self.left -= computing_seconds(self.subject.device) - start


@once
def budget(subject: Subject) -> Budget:
    """The one budget of a set-up, for all experiments that replace a part of it."""
    return Budget(subject)


def likeliest(subject: Subject, swaps: Iterable[Swap]) -> list[Swap]:
    """`swaps` in their order, but the parts first that show a symptom."""
    return sorted(swaps, key=lambda swap: swap.part not in subject.suspects)


def with_settings(**settings: object) -> Callable[[Recipe], Recipe]:
    """Replaces values of `[train]`."""

    def changed(recipe: Recipe) -> Recipe:
        return recipe.model_copy(update={"train": recipe.train.model_copy(update=settings)})

    return changed


def _rate_times(factor: float) -> Callable[[Recipe], Recipe]:
    return lambda recipe: with_settings(lr=factor * recipe.train.lr)(recipe)


def without_augmentation(recipe: Recipe) -> Recipe:
    """The recipe with an empty `[augment]`."""
    return recipe.model_copy(update={"augment": AugmentSection()})


def plain_recipe(recipe: Recipe) -> Recipe:
    """Loss, settings and augmentation replaced at once, since each alone may be too much."""
    return without_augmentation(with_settings(**PLAIN_LOSS, **PLAIN_SETTINGS)(recipe))


def _standardized(subject: Subject, model: nn.Module) -> bool:
    """Scales the images to mean 0 and deviation 1 in each channel, in front of the network."""
    pixels = subject.inputs
    mean = pixels.mean((0, 2, 3), keepdim=True)
    std = pixels.std((0, 2, 3), keepdim=True).clamp(min=1e-12)
    model.register_forward_pre_hook(lambda _, args: ((args[0] - mean) / std, *args[1:]))
    return True


def _initialized(_: Subject, model: nn.Module) -> bool:
    """Initialises all weights anew (He et al. 2015), and norms and the like by their defaults."""
    for module in model.modules():
        if isinstance(module, nn.Linear | _ConvNd):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif type(module).__module__.startswith("torch.nn") and callable(
            reset := getattr(module, "reset_parameters", None)
        ):
            reset()
        else:
            for weight in module.parameters(recurse=False):
                if weight.ndim > 1:
                    nn.init.normal_(weight, std=math.sqrt(2 / max(weight.shape)))
    return True


class _Instead(TorchFunctionMode):
    """Calls other functions in place of some, by their names."""

    def __init__(self, others: Mapping[str, Callable[..., Any]]) -> None:
        super().__init__()
        self.others = others
        self.used = False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run `func`, or what replaces it."""
        other = self.others.get(getattr(func, "__name__", ""))
        if other is None:
            return func(*args, **(kwargs or {}))
        self.used = True
        return other(*args, **(kwargs or {}))


def _instead(others: Mapping[str, Callable[..., Any]]) -> Callable[[Subject, nn.Module], bool]:
    def change(subject: Subject, model: nn.Module) -> bool:
        mode = _Instead(others)
        within(model, mode)
        trace(subject, model)
        return mode.used

    return change


def within(model: nn.Module, mode: TorchFunctionMode) -> None:
    """Activate `mode` in each forward pass of `model`."""

    def enter(*_: Any) -> None:
        mode.__enter__()

    def leave(*_: Any) -> None:
        mode.__exit__(None, None, None)

    model.register_forward_pre_hook(enter)
    model.register_forward_hook(leave, always_call=True)


def trace(subject: Subject, model: nn.Module) -> Any:
    """The result of a pass in train mode over a few images."""
    with seeded(subject.recipe.seed, device=subject.device):
        return model(subject.inputs[:TRACED_IMAGES])


def _connected(subject: Subject, model: nn.Module) -> bool:
    """Ignores whatever cuts or changes gradients on their way back: detach, and hooks."""
    hooked = False
    for module in model.modules():
        for hooks in (module._backward_hooks, module._backward_pre_hooks):
            hooked = hooked or bool(hooks)
            hooks.clear()
    for weight in model.parameters():
        hooked = hooked or bool(weight._backward_hooks)
        weight._backward_hooks = None
    others: dict[str, Callable[..., Any]] = dict.fromkeys(CUTTING_OPS, lambda tensor: tensor)
    others["register_hook"] = lambda *_: RemovableHandle(OrderedDict())
    cut = _instead(others)(subject, model)
    return hooked or cut


def _batch_statistics(images: Tensor, *_: Any, **__: Any) -> Tensor:
    if images.numel() == images.shape[1]:
        return images  # a single value per channel has no statistics
    return F.batch_norm(images, None, None, training=True)


_without_dropout = _instead({one.__name__: lambda x, *_, **__: x for one in DROPOUTS})
_with_relu = _instead(dict.fromkeys(SQUASHING_OPS, lambda x, *_, **__: x.relu()))
_with_batch_statistics = _instead(dict.fromkeys(NORM_OPS, _batch_statistics))


class LastLayer(TorchFunctionMode):
    """Records the last product with weights that has a row of `classes` numbers for each image.

    It is multiplied by `factor` before the network uses it.
    """

    def __init__(self, classes: int, factor: float = 1.0) -> None:
        super().__init__()
        self.classes, self.factor = classes, factor
        self.result: Tensor | None = None

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run `func`; record and scale its result."""
        result = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") not in LINEAR_OPS or not isinstance(result, Tensor):
            return result
        if result.ndim > 1 and result.shape[1:].numel() == self.classes:
            result = result if self.factor == 1.0 else result * self.factor
            self.result = result.flatten(1)
        return result


def _ends_with_last_layer(subject: Subject, model: nn.Module) -> bool:
    """Leaves out whatever the network does with the output of its last layer."""
    mode = LastLayer(subject.classes)
    within(model, mode)
    logits = trace(subject, model)
    if mode.result is None or mode.result.shape != logits.shape:
        return False
    model.register_forward_hook(lambda *_: mode.result)
    return not torch.equal(mode.result, logits)


OF_RECIPE = (
    Swap("loss", "your loss", "cross-entropy", with_settings(**PLAIN_LOSS)),
    Swap("augmentation", "[augment]", "no augmentation", without_augmentation),
    *(
        Swap("optimizer", f"train.{key}", f"train.{key} = {value:g}", with_settings(**{key: value}))
        for key, value in PLAIN_SETTINGS.items()
    ),
    Swap(
        "optimizer",
        "your optimizer settings",
        "momentum 0.9 and no decay or clipping",
        with_settings(**PLAIN_SETTINGS),
    ),
)
OF_NETWORK = (
    Swap("outputs", OUTPUT, "the output of that layer as logits", network=_ends_with_last_layer),
    Swap("inputs", PIXELS, "mean 0, deviation 1", network=_standardized),
    Swap("gradient-flow", GRADIENTS, "gradients that pass all of them", network=_connected),
    Swap("activations", WEIGHTS, "Kaiming initialisation", network=_initialized),
    Swap("activations", DROPOUT, "no dropout", network=_without_dropout),
    Swap("activations", SQUASHING, "ReLU in their place", network=_with_relu),
    Swap(
        "activations",
        "your normalisation",
        "statistics of each batch and channel",
        network=_with_batch_statistics,
    ),
)
RATES = (
    Swap("optimizer", "the learning rate", "a tenth of it", _rate_times(0.1)),
    Swap("optimizer", "the learning rate", "ten times as much", _rate_times(10.0)),
)
