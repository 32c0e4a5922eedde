"""The functions that a recipe names: built in, torchvision's, timm's, or user code."""

from collections.abc import Callable
from typing import Any

from cnntune import data as images
from cnntune import models
from cnntune.config.problems import did_you_mean, unknown
from cnntune.errors import RecipeError
from cnntune.training.contracts import settings_kept
from cnntune.user_code.imports import import_string


def imported(name: str) -> Callable[..., Any]:
    """The function that an import string names; torch's global settings stay as they were.

    Raises:
        RecipeError: where module or function do not exist.
        UserCodeError: where the module raises while it is imported.
    """
    with settings_kept():
        return import_string(name)


def builder_of(name: str, section: str) -> Callable[..., Any]:
    """The builder that `name` in the section "data" or "model" means.

    Raises:
        RecipeError: where there is no builder of that name.
        UserCodeError: where the module of an import string raises.
    """
    return _find_data(name) if section == "data" else _find_model(name)


def _find_data(name: str) -> Callable[..., Any]:
    if ":" in name:
        return imported(name)
    try:
        return images.builder(name)
    except KeyError:
        raise RecipeError(
            "must be " + unknown(name, [*images.BUILT_IN, '"module:function"'], "value")
        ) from None


def _find_model(name: str) -> Callable[..., Any]:
    if ":" in name and not name.startswith(models.TIMM):
        return imported(name)
    try:
        return models.builder(name)
    except KeyError:
        near = did_you_mean(name, models.names(name))
        raise RecipeError(
            f"must be {', '.join(models.BUILT_IN)}, a torchvision classifier such as resnet18,"
            f' timm:NAME, or "module:function" (got {name!r}{near})'
        ) from None
