"""What the user's model, data and loss have to be: checked before they are called, and after.

One place for all commands. The signatures of builders and losses are checked when a recipe is read,
return values when they are returned. Each problem is one line with the import string, what it must
be, and what was found.
"""

import inspect
import sys
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.utils.data import Dataset

from cnntune import models
from cnntune.config.recipe import Recipe
from cnntune.config.signatures import KEYWORDS
from cnntune.errors import UserCodeError
from cnntune.models.auxiliary import Loss
from cnntune.user_code.borders import border, mark, own_line

SHAPES = {
    "data": "def build(*, seed, ...)",
    "model": "def build(*, num_classes, in_shape, ...)",
}

Lines = weakref.WeakKeyDictionary[nn.Module, str | None]  # `file:line in function: text`


def is_own(name: str) -> bool:
    """Whether the name of a model, a data set or a loss is an import string."""
    return ":" in name and not name.startswith(models.TIMM)


def user_code_of(recipe: Recipe) -> str | None:
    """The user code that a training step of the recipe runs, in words, or None."""
    parts = (("data", recipe.data.name), ("model", recipe.model.name), ("loss", recipe.train.loss))
    return ", ".join(f"{part} {name}" for part, name in parts if is_own(name)) or None


def builder_problem(builder: Callable[..., Any], section: str) -> str | None:
    """Why `[data]` or `[model]` cannot call a user's builder; None where they can."""
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
    """Why a user's loss cannot be called as `loss(logits, targets)`; None where it can."""
    if isinstance(loss, type):
        return (
            "must name a function: def loss(logits, targets), or an instance of the class"
            f" (got the class {loss.__name__})"
        )
    called = loss.forward if isinstance(loss, nn.Module) else loss
    if _takes(called, 2):
        return None
    return f"must take (logits, targets): def loss(logits, targets) (got {_shown(called)})"


def check_model(model: Any, name: str) -> None:
    """Raise `UserCodeError` where a builder did not return a module that takes images alone."""
    if not isinstance(model, nn.Module):
        raise UserCodeError(
            f"model {name}: must return a torch.nn.Module (got {type(model).__name__})"
        )
    if type(model).forward is not nn.Module.forward and not _takes(model.forward, 1):
        raise UserCodeError(
            f"model {name}: its forward pass must take the images alone: def forward(self, x)"
            f" (got {_shown(model.forward)} of {type(model).__name__})"
        )
    if any(tensor.is_meta for tensor in chain(model.parameters(), model.buffers())):
        raise UserCodeError(
            f"model {name}: its weights are on the meta device, which holds no values"
        )


@contextmanager
def lines_noted() -> Iterator[Lines]:
    """Note for each module with weights that is made within the block the user's line that does.

    A layer that torch made raises in torch's files: only the line that made it is the user's.
    """
    lines: Lines = weakref.WeakKeyDictionary()

    def note(module: nn.Module, *_: object) -> None:
        if module not in lines:
            lines[module] = own_line(sys._getframe(1))

    hook = register_module_parameter_registration_hook(note)
    try:
        yield lines
    finally:
        hook.remove()


def guard_forward(model: nn.Module, name: str, lines: Lines) -> None:
    """Make the forward pass a border: what is raised in it is raised by the model.

    A hook is not enough: torch calls none where SystemExit leaves the forward pass.
    """
    inner = vars(model).get("forward")  # a scripted module holds its own
    made = {path: found for path, layer in model.named_modules() if (found := lines.get(layer))}
    what, own = f"model {name}, forward pass", is_own(name)
    vars(model)["forward"] = _GuardedForward(model, what, made, inner, own)


class _GuardedForward:
    """Replaces the forward method in an instance of a model.

    It holds its model weakly: in a cycle the weights would stay in memory until the next garbage
    collection. A copy, or one read from a file, belongs to the model copied with it.
    """

    def __init__(
        self,
        model: nn.Module,
        what: str,
        made: dict[str, str],
        inner: Callable[..., Any] | None = None,
        own: bool = False,
    ) -> None:
        self._model, self._what, self._made, self._inner = weakref.ref(model), what, made, inner
        self._own = own

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        model = self._model()
        assert model is not None  # the caller holds it
        if self._own:
            args = tuple(in_plain_layout(value) for value in args)
        try:
            if self._inner is not None:
                return self._inner(*args, **kwargs)
            return type(model).forward(model, *args, **kwargs)
        except (Exception, SystemExit) as error:
            path, layer = raising_layer(model, error)
            if layer is None:
                mark(error, self._what)
            else:
                made = self._made.get(path)
                mark(error, f"{self._what}, layer {path} ({type(layer).__name__})", made)
            raise

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._model(), self._what, self._made, self._inner, self._own)


def in_plain_layout(value: Any) -> Any:
    """Images in PyTorch's default layout, NCHW; anything else as it is.

    Ours are channels-last, which is faster, and which `x.view(len(x), -1)` in user code refuses.
    `contiguous()` would leave images of one channel as they are, and convolutions would pass their
    layout on.
    """
    if not isinstance(value, Tensor) or value.ndim != 4:
        return value
    _, channels, height, width = value.shape
    if value.stride() == (channels * height * width, height * width, width, 1):
        return value
    return value.clone(memory_format=torch.contiguous_format)


def raising_layer(model: nn.Module, error: BaseException) -> tuple[str, nn.Module | None]:
    """The innermost layer of the model that an exception passed through, with its path.

    Without a path and a layer where it is the model itself, whose frames tell the line.
    """
    paths = {id(layer): (path, layer) for path, layer in model.named_modules() if path}
    found: tuple[str, nn.Module | None] = "", None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        found = paths.get(id(frame.f_locals.get("self")), found)
    return found


@torch.no_grad()
def check_logits(model: nn.Module, images: Tensor, classes: int, name: str) -> None:
    """Raise `UserCodeError` where eval mode gives no float logits `[images, classes]`.

    Checks a few images before hours are spent. The model is left in the mode it was in.
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


def check_trained_logits(logits: Any, images: int, name: str) -> None:
    """Raise `UserCodeError` where a model in train mode gives something else than in eval mode."""
    if isinstance(logits, Tensor) and logits.ndim == 2 and len(logits) == images:
        return
    got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    raise UserCodeError(
        f"model {name}: must give logits of shape ({images}, classes) in train mode too (got {got})"
    )


def check_depends(loss: Tensor, name: str) -> None:
    """Raise `UserCodeError` where the loss of a training step has no gradient."""
    if not loss.requires_grad:
        raise UserCodeError(
            f"model {name}: the loss does not depend on the model's weights: look for detach,"
            " .data, no_grad and set_grad_enabled"
        )


@contextmanager
def settings_kept() -> Iterator[None]:
    """Undo afterwards what user code within the block sets for all of torch.

    Restored are the default type, the default device, and whether gradients are computed.
    """
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    grad = torch.is_grad_enabled()
    try:
        yield
    finally:
        torch.set_grad_enabled(grad)
        torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:
            torch.set_default_device(None)  # torch's default, without the cost of a set one


def guarded_loss(loss: Loss, name: str, *, checked: bool = True) -> Loss:
    """A user's loss as a border; unless `checked`, whatever it returns is passed on."""

    def guarded(logits: Tensor, targets: Any) -> Tensor:
        with border(f"loss {name}"):
            value = loss(logits, targets)
        if checked:
            _check_loss_value(value, logits, name)
        return value

    return guarded


def _check_loss_value(value: Any, logits: Tensor, name: str) -> None:
    if not isinstance(value, Tensor):
        number = isinstance(value, int | float)
        hint = (
            "that gradients flow through, without .item() or float()" if number else "of one number"
        )
        got = type(value).__name__ if value is not None else "None; is there a return?"
        raise UserCodeError(f"loss {name}: must return a tensor {hint} (got {got})")
    if value.numel() != 1:
        raise UserCodeError(
            f"loss {name}: must return one number, such as the mean over the images"
            f" (got a tensor of shape {tuple(value.shape)})"
        )
    if value.is_complex():
        raise UserCodeError(f"loss {name}: must return a real number (got {value.dtype})")
    if logits.requires_grad and torch.is_grad_enabled() and not value.requires_grad:
        raise UserCodeError(
            f"loss {name}: must return a tensor that gradients flow through (got one that is cut"
            " off from the logits: look for detach, argmax, .data and no_grad)"
        )


def _takes(function: Callable[..., Any], count: int) -> bool:
    """Whether the function can be called with `count` positional arguments alone."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # some functions written in C have no signature
        return True
    return True


def _shown(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", type(function).__name__)
    return f"{name}{inspect.signature(function)}"
