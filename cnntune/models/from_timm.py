"""The classifiers of timm, an optional extra: `pip install "cnntune[timm]"`, then `timm:NAME`."""

import functools
import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

from torch import nn

from cnntune.errors import RecipeError
from cnntune.models.layers import Dropout
from cnntune.models.stem import check_size

TIMM = "timm:"  # the prefix of the names


def _import_timm() -> ModuleType:
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise RecipeError("needs timm: pip install 'cnntune[timm]'") from None


def names() -> list[str]:
    """The names of all models that the installed timm lists, with the prefix `timm:`.

    Raises:
        RecipeError: where timm is not installed.
    """
    return [TIMM + name for name in _import_timm().list_models()]


def builder(name: str) -> Callable[..., nn.Module]:
    """`build` for one name with the prefix `timm:`.

    Raises:
        KeyError: where timm has no such model.
        RecipeError: where timm is not installed.
    """
    if name not in names():
        raise KeyError(name)
    return functools.partial(build, name)


def build(
    name: str,
    *,
    num_classes: int,
    in_shape: tuple[int, int, int],
    drop_rate: Dropout = 0.0,
    **options: Any,
) -> nn.Module:
    """Model `name` with fresh weights: float32 `[N, *in_shape]` -> logits `[N, num_classes]`.

    Further keys of the recipe's `[model]` are passed to `timm.create_model`, such as
    `drop_path_rate`, or `img_size` for a transformer.

    Raises:
        RecipeError: where timm rejects the options, or images of this shape do not fit the model.
    """
    try:
        model: nn.Module = _import_timm().create_model(
            name.removeprefix(TIMM),
            pretrained=False,
            num_classes=num_classes,
            in_chans=in_shape[0],
            drop_rate=drop_rate,
            **options,
        )
    except (TypeError, ValueError, AssertionError) as error:
        raise RecipeError(f"model {name}: {error}") from error
    check_size(model, name, in_shape, " or, where it takes one, another img_size")
    return model
