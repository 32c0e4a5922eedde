"""What the user's own model, data and loss have to be: checked before they are called, and after.

One place for all commands. The signatures of builders and losses are looked at when a recipe is
read; what comes back is looked at where it comes back. Each fault is one line that names the import
string, what would do, and what was found.
"""

import inspect
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from cnntune import models
from cnntune.borders import border, mark
from cnntune.errors import UserCodeError
from cnntune.models.auxiliary import Loss
from cnntune.recipe import Recipe

CROSS_ENTROPY = "cross-entropy"
KEYWORDS = {"data": ("seed",), "model": ("num_classes", "in_shape")}  # what we call builders with
SHAPES = {
    "data": "def build(*, seed, ...)",
    "model": "def build(*, num_classes, in_shape, ...)",
}


def is_own(name: str) -> bool:
    """Whether the name of a model, a data set or a loss is an import string."""
    return ":" in name and not name.startswith(models.TIMM)


def own_code_of(recipe: Recipe) -> str | None:
    """The user's own code that a training step of the recipe goes through, in words, or None."""
    parts = (("data", recipe.data.name), ("model", recipe.model.name), ("loss", recipe.train.loss))
    return ", ".join(f"{part} {name}" for part, name in parts if is_own(name)) or None


def builder_problem(builder: Callable[..., Any], section: str) -> str | None:
    """Why an own builder cannot be called as `[data]` or `[model]` calls it; None where it can."""
    must = f"must name a function: {SHAPES[section]}"
    if isinstance(builder, nn.Module | Dataset):
        return f"{must} (got an instance of {type(builder).__name__})"
    parameters = inspect.signature(builder).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return None
    keywords = [
        name
        for name, parameter in parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    missing = [name for name in KEYWORDS[section] if name not in keywords]
    if not missing:
        return None
    wanted = " and ".join(missing)
    return f"must take the keyword {wanted}: {SHAPES[section]} (got {_shown(builder)})"


def loss_problem(loss: Callable[..., Any]) -> str | None:
    """Why an own loss cannot be called as `loss(logits, targets)`; None where it can."""
    must = "must name a function: def loss(logits, targets)"
    if isinstance(loss, type):
        return f"{must}, or an instance of the class (got the class {loss.__name__})"
    called = loss.forward if isinstance(loss, nn.Module) else loss
    if _takes(called, 2):
        return None
    return f"{must} (got {_shown(called)})"


def check_model(model: Any, name: str) -> None:
    """Raise `UserCodeError` where a builder gave no module that takes images alone."""
    if not isinstance(model, nn.Module):
        raise UserCodeError(
            f"model {name}: must return a torch.nn.Module (got {type(model).__name__})"
        )
    if type(model).forward is not nn.Module.forward and not _takes(model.forward, 1):
        raise UserCodeError(
            f"model {name}: its forward pass must need the images alone: def forward(self, x)"
            f" (got {_shown(model.forward)} of {type(model).__name__})"
        )


def guard_forward(model: nn.Module, name: str) -> None:
    """Make the forward pass a border: what is raised in it is the model's."""
    model.register_forward_hook(partial(_crossed, f"model {name}, forward pass"), always_call=True)


def _crossed(what: str, _model: nn.Module, _inputs: Any, output: Any) -> None:
    """Called by torch after each forward pass, also while an exception leaves it."""
    error = sys.exc_info()[1]
    if output is None and error is not None:
        mark(error, what)


@torch.no_grad()
def check_logits(model: nn.Module, images: Tensor, classes: int, name: str) -> None:
    """Raise `UserCodeError` where eval mode gives no float logits `[images, classes]`.

    For a look at a few images before hours are spent. The model is left in the mode it was in.
    """
    training = model.training
    model.eval()
    logits = model(images)
    model.train(training)
    expected = (len(images), classes)
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if shape != expected:
        raise UserCodeError(
            f"model {name}: must give logits of shape {expected}, (images, classes) (got {shape})"
        )
    if not logits.is_floating_point():
        raise UserCodeError(f"model {name}: must give float logits (got {logits.dtype})")


def check_trained_logits(logits: Any, images: int) -> None:
    """Raise `UserCodeError` where a model in train mode gives something else than in eval mode."""
    if isinstance(logits, Tensor) and logits.ndim == 2 and len(logits) == images:
        return
    got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    raise UserCodeError(
        f"model: must give logits of shape ({images}, classes) in train mode too (got {got})"
    )


def guarded_loss(loss: Loss, name: str, *, checked: bool = True) -> Loss:
    """An own loss as a border; unless `checked`, whatever it gives is passed on."""

    def guarded(logits: Tensor, targets: Any) -> Tensor:
        with border(f"loss {name}"):
            value = loss(logits, targets)
        if checked:
            _check_loss_value(value, logits, name)
        return value

    return guarded


def _check_loss_value(value: Any, logits: Tensor, name: str) -> None:
    if not isinstance(value, Tensor):
        raise UserCodeError(
            f"loss {name}: must return a tensor that gradients flow through, without .item() or"
            f" float() (got {type(value).__name__})"
        )
    if value.numel() != 1:
        raise UserCodeError(
            f"loss {name}: must return one number, such as the mean over the images"
            f" (got a tensor of shape {tuple(value.shape)})"
        )
    if logits.requires_grad and torch.is_grad_enabled() and not value.requires_grad:
        raise UserCodeError(
            f"loss {name}: must return a tensor that gradients flow through (got one that is cut"
            " off from the logits: look for detach, argmax, .data and no_grad)"
        )


def _takes(function: Callable[..., Any], count: int) -> bool:
    """Whether so many positional arguments are all that a call needs, and not too many."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # some functions written in C do not say what they take
        return True
    return True


def _shown(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", type(function).__name__)
    return f"{name}{inspect.signature(function)}"
