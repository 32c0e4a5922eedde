"""From the names in a recipe to what they mean: built in, torchvision's, or own code."""

import functools
import importlib
import inspect
import json
import math
import os
import re
import sys
import sysconfig
import traceback
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from cnntune import data as images
from cnntune import models, recipe
from cnntune.data import Data
from cnntune.errors import CnntuneError, RecipeError, UserCodeError
from cnntune.recipe import Problem, Recipe
from cnntune.runs import read_json
from cnntune.seeds import derive_seed

Loss = Callable[[Tensor, Tensor], Tensor]
GIVEN = MappingProxyType({"data": ("seed",), "model": ("num_classes", "in_shape")})
LIBRARIES = ("<", str(Path(__file__).parent) + os.sep, sysconfig.get_paths()["stdlib"])


def load_recipe(source: str | None, overrides: Sequence[str] = ()) -> Recipe:
    """Find, read and validate a recipe, builder arguments included.

    The recipe's own folder joins `sys.path`, so that own code may lie beside it.

    Raises:
        RecipeError: with one line for each problem of file, overrides and arguments.
        UserCodeError: where own code that the recipe names cannot be imported.
    """
    path = recipe.find(source)
    values = recipe.read_values(path)
    overridden = []
    for text in overrides:
        key, value = recipe.parse_override(text)
        recipe.set_key(values, key, value)
        overridden.append(key)
    for folder in (Path.cwd(), code_folder(path)):
        add_code_folder(folder)
    return recipe.parse(
        values, file=str(source or path), overridden=overridden, check_arguments=argument_problems
    )


def code_folder(path: Path) -> Path:
    """Where the own modules of a recipe lie: beside it, or where its study remembers they did."""
    folder = path.resolve().parent
    about = read_json(folder.parent / "study.json") if path.suffix == ".json" else None
    return Path((about or {}).get("code", folder))


def add_code_folder(folder: Path) -> None:
    """Let import strings find modules in `folder`, after everything that is installed."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def argument_problems(values: Mapping[str, Any]) -> list[Problem]:
    """Unknown names, and arguments that do not fit the signature of the builder they go to."""
    problems = []
    finders = {"data": (_find_data, "digits"), "model": (_find_model, "small-cnn")}
    for section, (find, default) in finders.items():
        table = values.get(section, {})
        name = table.get("name", default) if isinstance(table, dict) else None
        if not isinstance(name, str):
            continue  # the schema reports it
        try:
            builder = find(name)
        except RecipeError as error:
            problems.append(Problem(f"{section}.name", str(error)))
            continue
        common = _common_keys(section)
        given = {key: value for key, value in table.items() if key not in common}
        _, found = bind(builder, given, section)
        problems += found
    loss = values.get("train", {}).get("loss", "") if isinstance(values.get("train"), dict) else ""
    if isinstance(loss, str) and loss not in ("", "cross-entropy"):
        try:
            import_string(loss)
        except RecipeError as error:
            problems.append(Problem("train.loss", f"{error}; built in: cross-entropy"))
    return problems


def _common_keys(section: str) -> set[str]:
    owner = recipe.DataSection if section == "data" else recipe.ModelSection
    return set(owner.model_fields)


def bind(
    builder: Callable[..., Any], given: Mapping[str, Any], section: str
) -> tuple[dict[str, Any], list[Problem]]:
    """Check `given` against the builder's signature.

    Returns the arguments, converted to the annotated types, and the problems.
    """
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(builder).parameters.items()
        if name not in GIVEN[section]
    }
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    named = {k: p for k, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    common = _common_keys(section)
    arguments: dict[str, Any] = {}
    problems = []
    for key, value in given.items():
        if isinstance(value, float) and not math.isfinite(value):
            problems.append(Problem(f"{section}.{key}", f"must be finite (got {value})"))
        elif key in named:
            try:
                arguments[key] = _converted(value, _annotation(builder, named[key]))
            except ValidationError as error:
                problems += recipe.problems_from(error, f"{section}.{key}")
        elif takes_any:
            arguments[key] = value
        else:
            allowed = sorted(common | named.keys())
            problems.append(Problem(f"{section}.{key}", recipe.unknown(key, allowed, "key")))
    for key, parameter in named.items():
        if parameter.default is parameter.empty and key not in given:
            problems.append(Problem(f"{section}.{key}", "is missing"))
    return arguments, problems


def _bound(builder: Callable[..., Any], given: Mapping[str, Any], section: str) -> dict[str, Any]:
    arguments, problems = bind(builder, given, section)
    if problems:
        raise RecipeError(f"{problem.key}: {problem.message}" for problem in problems)
    return arguments


def with_defaults(recipe_: Recipe) -> Recipe:
    """The recipe with the defaults of its builders written out.

    A run's `config.json` then means the same after a default has changed.
    """
    values: dict[str, Any] = {}
    sections = (("data", _find_data, recipe_.data), ("model", _find_model, recipe_.model))
    for section, find, given in sections:
        for name, parameter in inspect.signature(find(given.name)).parameters.items():
            plain = isinstance(parameter.default, bool | int | float | str)
            if plain and name not in given.arguments and name not in GIVEN[section]:
                values[f"{section}.{name}"] = parameter.default
    return recipe_.with_values(values)


def _annotation(builder: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """The annotated type, else the type of the default, else anything."""
    target = builder.func if isinstance(builder, functools.partial) else builder
    try:
        hints = typing.get_type_hints(target, include_extras=True)
    except (NameError, TypeError):  # names that exist for type checkers alone
        hints = {}
    annotation = hints.get(parameter.name, parameter.annotation)
    if annotation is not parameter.empty and not isinstance(annotation, str):
        return annotation
    default = parameter.default
    return type(default) if isinstance(default, bool | int | float | str) else Any


def _converted(value: Any, annotation: Any) -> Any:
    """Strict as JSON is strict: a list may become a tuple, but "8" does not become 8."""
    return TypeAdapter(annotation).validate_json(json.dumps(value), strict=True)


def _find_data(name: str) -> Callable[..., Any]:
    if ":" in name:
        return import_string(name)
    try:
        return images.builder(name)
    except KeyError:
        raise RecipeError(
            "must be " + recipe.unknown(name, [*images.BUILT_IN, '"module:function"'], "value")
        ) from None


def _find_model(name: str) -> Callable[..., nn.Module]:
    if ":" in name:
        return import_string(name)
    try:
        return models.builder(name)
    except KeyError:
        near = recipe.did_you_mean(name, models.names())
        raise RecipeError(
            f"must be {', '.join(models.BUILT_IN)}, a torchvision classifier such as resnet18,"
            f' or "module:function" (got {name!r}{near})'
        ) from None


def import_string(name: str) -> Callable[..., Any]:
    """The function that `"my_pkg.models:build"` names.

    Raises:
        RecipeError: where module or function do not exist.
        UserCodeError: where the module raises while it is imported.
    """
    module_name, colon, attribute = name.partition(":")
    if not (colon and module_name and attribute) or module_name.startswith("."):
        raise RecipeError(f"must be 'module:function' (got {name!r})")
    with user_code(f"importing {module_name}"):
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
            f"{module_name!r} has no function {attribute!r}{recipe.did_you_mean(attribute, public)}"
        )
    return typing.cast(Callable[..., Any], function)


def _has_signature(function: Any) -> bool:
    """Whether `function` can be called and says with what; some built-in types do not say."""
    try:
        return callable(function) and inspect.signature(function) is not None
    except ValueError:
        return False


@contextmanager
def user_code(doing: str) -> Iterator[None]:
    """Turn an exception that passed through own code into a traceback of the user's frames alone.

    Raises:
        UserCodeError: in place of what was raised, where a frame of it is the user's. An exception
            without such a frame is a bug of ours, and passes unchanged, as our own errors do.
    """
    try:
        yield
    except CnntuneError:
        raise
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if not _is_library(frame.filename)]
        if isinstance(error, SyntaxError) and error.filename and not _is_library(error.filename):
            own.append(traceback.FrameSummary(error.filename, error.lineno, "<module>"))
        own += _frames_of_worker(error)
        if not own:
            raise
        summary = _summary(error)
        lines = [f"{doing}: {type(error).__name__}: {summary}"]
        lines += [
            f"  {frame.filename}:{frame.lineno} in {frame.name}: {frame.line}" for frame in own
        ]
        raise UserCodeError(lines) from error


def _frames_of_worker(error: BaseException) -> list[traceback.FrameSummary]:
    """The user's frames in what a `DataLoader` worker raised: it sends its traceback as text."""
    if " in DataLoader worker process " not in str(error):
        return []
    found = re.findall(r'File "(.+)", line (\d+), in (\w+|<\w+>)', str(error))
    return [
        traceback.FrameSummary(file, int(line), name)
        for file, line, name in found
        if not _is_library(file)
    ]


def _summary(error: BaseException) -> str:
    """The first line of the message; of a worker's the last, as the first names the worker."""
    lines = str(error).splitlines() or [""]
    if " in DataLoader worker process " in lines[0]:
        return lines[-1].partition(": ")[2]
    return lines[0]


def _is_library(filename: str) -> bool:
    return filename.startswith(LIBRARIES) or "site-packages" in filename


def load_data(recipe_: Recipe, device: torch.device, *, checked: bool = True) -> Data:
    """The images of a recipe, cut into parts, on `device` where they fit.

    Unless `checked`, labels may be out of range and validation may be empty: `sanity` judges them.

    Raises:
        DataError: where images or labels cannot be used.
        UserCodeError: where own data code raises.
    """
    section = recipe_.data
    builder = _find_data(section.name)
    arguments = _bound(builder, section.arguments, "data")
    with torch.random.fork_rng(devices=[]), user_code(f"building data {section.name}"):
        torch.manual_seed(derive_seed(section.seed, "data"))  # own data may draw when it is read
        source = builder(seed=section.seed, **arguments)
        return images.load(source, section, device, checked=checked)


def build_model(recipe_: Recipe, data: Data, *, seed: int | None = None) -> nn.Module:
    """The recipe's model with fresh weights, on the CPU; `seed` replaces the recipe's own.

    The same seed gives the same weights, and the caller's random state is left as it was.

    Raises:
        UserCodeError: where own model code raises, or gives something that is no module.
    """
    section = recipe_.model
    builder = _find_model(section.name)
    arguments = _bound(builder, section.arguments, "model")
    with torch.random.fork_rng(devices=[]), user_code(f"building model {section.name}"):
        torch.manual_seed(derive_seed(recipe_.seed if seed is None else seed, "init"))
        model = builder(num_classes=len(data.classes), in_shape=data.in_shape, **arguments)
    if not isinstance(model, nn.Module):
        raise UserCodeError(
            f"model {section.name}: must return a torch.nn.Module (got {type(model).__name__})"
        )
    return model


def build_loss(recipe_: Recipe) -> Loss:
    """The loss that is trained: `(logits float[N, C], targets int[N]) -> scalar`."""
    train = recipe_.train
    if train.loss == "cross-entropy":
        return nn.CrossEntropyLoss(label_smoothing=train.label_smoothing)
    return typing.cast(Loss, import_string(train.loss))
