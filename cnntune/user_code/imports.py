"""The user's models, data and losses, found by import string."""

import importlib
import inspect
import re
import sys
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cnntune.config.problems import did_you_mean
from cnntune.errors import RecipeError
from cnntune.user_code import borders

GIVEN = "given"  # the module of functions that were passed and not imported
_given: dict[str, Callable[..., Any]] = {}


def add_code_folders(code: Path) -> None:
    """Let import strings find modules here and in `code`, after everything that is installed."""
    for folder in (Path.cwd(), code):
        if str(folder) not in sys.path:
            sys.path.append(str(folder))


@contextmanager
def given(**functions: Callable[..., Any]) -> Iterator[None]:
    """Let import strings name functions that a caller in Python has passed: `"given:model"`."""
    before = dict(_given)
    _given.update({f"{GIVEN}:{name}": function for name, function in functions.items()})
    try:
        yield
    finally:
        _given.clear()
        _given.update(before)


def import_string(name: str) -> Callable[..., Any]:
    """The function that `"my_pkg.models:build"` names.

    Raises:
        RecipeError: where module or function do not exist.
        UserCodeError: where the module raises while it is imported.
    """
    if name in _given:
        return _given[name]
    module_name, colon, attribute = name.partition(":")
    if re.search(r"[/\\]|\.py$", module_name):
        dotted = re.sub(r"[/\\]+", ".", re.sub(r"\.py$", "", module_name)).strip(".")
        meant = f"; did you mean '{dotted}:{attribute or 'build'}'?"
        raise RecipeError(f"must be 'module:function', not a file (got {name!r}{meant})")
    if not (colon and module_name and attribute) or module_name.startswith("."):
        raise RecipeError(f"must be 'module:function' (got {name!r})")
    borders.named.add(module_name.partition(".")[0])
    with borders.user_code(f"importing {module_name}"):
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not module_name.startswith(error.name):
                raise
            raise RecipeError(
                f"no module {module_name!r} in the working directory or beside the recipe"
            ) from None
    function = getattr(module, attribute, None)
    if not _has_signature(function):
        public = [key for key, value in vars(module).items() if callable(value)]
        raise RecipeError(
            f"{module_name!r} has no function {attribute!r}{did_you_mean(attribute, public)}"
        )
    return typing.cast(Callable[..., Any], function)


def _has_signature(function: Any) -> bool:
    """Whether `function` can be called and has a signature; some built-in types have none."""
    try:
        return callable(function) and inspect.signature(function) is not None
    except ValueError:
        return False
