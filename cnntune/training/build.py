"""From the names in a recipe to what they mean: built in, torchvision's, or own code."""

import functools
import inspect
import json
import math
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from cnntune import data as images
from cnntune import models
from cnntune.config import files, recipe
from cnntune.config.problems import Problem, did_you_mean, problems_from, unknown
from cnntune.config.recipe import Recipe
from cnntune.config.space import Value
from cnntune.data import Data
from cnntune.data.augment import Targets, loss_of
from cnntune.data.augment.check import check_augment
from cnntune.errors import DataError, RecipeError
from cnntune.models.auxiliary import with_auxiliary
from cnntune.models.pretrained.fit import put
from cnntune.models.pretrained.weights import read_statistics, read_weights
from cnntune.training.contracts import (
    CROSS_ENTROPY,
    KEYWORDS,
    builder_problem,
    check_model,
    guard_forward,
    guarded_loss,
    is_own,
    loss_problem,
    settings_kept,
)
from cnntune.training.device import seeded
from cnntune.user_code.borders import border, explaining
from cnntune.user_code.imports import add_code_folders, code_folder, import_string

CPU = torch.device("cpu")
Loss = Callable[[Tensor, Targets], Tensor]


def load_recipe(source: str | None, overrides: Sequence[str] = ()) -> Recipe:
    """Find, read and validate a recipe, builder arguments included.

    The recipe's own folder joins `sys.path`, so that own code may lie beside it.

    Raises:
        RecipeError: with one line for each problem of file, overrides and arguments.
        UserCodeError: where own code that the recipe names cannot be imported.
    """
    path = files.find(source)
    values = files.read_values(path)
    overridden = []
    for text in overrides:
        key, value = files.parse_override(text)
        recipe.set_key(values, key, value)
        overridden.append(key)
    add_code_folders(code_folder(path))
    return recipe.parse(
        values,
        file=str(source or path),
        overridden=overridden,
        check_arguments=argument_problems,
        argument_types=argument_types,
    )


def argument_problems(values: Mapping[str, Any]) -> list[Problem]:
    """Unknown names, and arguments that do not fit the signature of the builder they go to."""
    problems = []
    for section in KEYWORDS:
        try:
            builder = _builder(values, section)
        except RecipeError as error:
            problems.append(Problem(f"{section}.name", str(error)))
            continue
        if builder is None:
            continue
        name = str(_builder_name(values, section))
        if is_own(name) and (fault := builder_problem(builder, section)):
            problems.append(Problem(f"{section}.name", f"{name}: {fault}"))
            continue
        common = _common_keys(section)
        given = {k: value for k, value in values.get(section, {}).items() if k not in common}
        _, found = bind(builder, given, section)
        problems += found
    loss = values.get("train", {}).get("loss", "") if isinstance(values.get("train"), dict) else ""
    if isinstance(loss, str) and loss not in ("", CROSS_ENTROPY):
        try:
            fault = loss_problem(_imported(loss))
        except RecipeError as error:
            problems.append(Problem("train.loss", f"{error}; built in: {CROSS_ENTROPY}"))
        else:
            problems += [Problem("train.loss", f"{loss}: {fault}")] if fault else []
    return problems


def argument_types(values: Mapping[str, Any]) -> dict[str, Any]:
    """The annotation of each argument that the recipe's builders name, by flat key."""
    found: dict[str, Any] = {}
    for section in KEYWORDS:
        try:
            builder = _builder(values, section)
        except RecipeError:
            continue  # `argument_problems` reports it
        if builder is not None:
            named = inspect.signature(builder).parameters.items()
            found |= {f"{section}.{name}": _annotation(builder, p) for name, p in named}
    return found


def _builder(values: Mapping[str, Any], section: str) -> Callable[..., Any] | None:
    """The builder that a section names; None where its name is no text, which the schema reports.

    Raises:
        RecipeError: where there is no builder of that name.
    """
    name = _builder_name(values, section)
    if not isinstance(name, str):
        return None
    return _find_data(name) if section == "data" else _find_model(name)


def _builder_name(values: Mapping[str, Any], section: str) -> Any:
    table = values.get(section, {})
    default = recipe.Recipe.model_fields[section].default.name
    return table.get("name", default) if isinstance(table, dict) else None


def allows(recipe_: Recipe, key: str, value: Value) -> bool:
    """Whether the recipe would be sound with `value` at `key`."""
    values = recipe_.as_values()
    recipe.set_key(values, key, value)
    try:
        recipe.parse(values, file=recipe_.name, check_arguments=argument_problems)
    except RecipeError:
        return False
    return True


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
        if name not in KEYWORDS[section]
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
                problems += problems_from(error, f"{section}.{key}")
        elif takes_any:
            arguments[key] = value
        else:
            allowed = sorted(common | named.keys())
            problems.append(Problem(f"{section}.{key}", unknown(key, allowed, "key")))
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
            if plain and name not in given.arguments and name not in KEYWORDS[section]:
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


def _imported(name: str) -> Callable[..., Any]:
    with settings_kept():
        return import_string(name)


def _building(name: str) -> str | None:
    return f"building data {name}" if is_own(name) else None


def _find_data(name: str) -> Callable[..., Any]:
    if ":" in name:
        return _imported(name)
    try:
        return images.builder(name)
    except KeyError:
        raise RecipeError(
            "must be " + unknown(name, [*images.BUILT_IN, '"module:function"'], "value")
        ) from None


def _find_model(name: str) -> Callable[..., nn.Module]:
    if ":" in name and not name.startswith(models.TIMM):
        return _imported(name)
    try:
        return models.builder(name)
    except KeyError:
        near = did_you_mean(name, models.names(name))
        raise RecipeError(
            f"must be {', '.join(models.BUILT_IN)}, a torchvision classifier such as resnet18,"
            f' timm:NAME, or "module:function" (got {name!r}{near})'
        ) from None


def load_data(
    recipe_: Recipe, device: torch.device, *, checked: bool = True, stream: bool | None = None
) -> Data:
    """The images of a recipe, cut into parts, on `device` where they fit.

    Unless `checked`, labels may be out of range and validation may be empty: `sanity` judges them.
    Whether images are streamed is decided here, for one process, unless `stream` says it.

    Raises:
        DataError: where images or labels cannot be used.
        RecipeError: where `[augment]` asks for what these images lack.
        UserCodeError: where own data code raises.
    """
    section = recipe_.data
    builder = _find_data(section.name)
    arguments = _bound(builder, section.arguments, "data")
    drawn = seeded(section.seed, "data", device=CPU)  # own data may draw when it is read
    with drawn, explaining():
        with settings_kept(), border(_building(section.name)):
            source = builder(seed=section.seed, **arguments)
        statistics = _statistics(recipe_)
        data = images.load(source, section, device, statistics, checked=checked, stream=stream)
        check_augment(recipe_, data)
        return data


def load_few(recipe_: Recipe, device: torch.device, count: int) -> tuple[Data, int]:
    """Some training images of a recipe, on `device`, and the bytes that all of them would take.

    Raises:
        DataError: where images or labels cannot be used.
        UserCodeError: where own data code raises.
    """
    section = recipe_.data
    builder = _find_data(section.name)
    arguments = _bound(builder, section.arguments, "data")
    drawn = seeded(section.seed, "data", device=CPU)
    try:
        with drawn, explaining():
            with settings_kept(), border(_building(section.name)):
                built = builder(seed=section.seed, **arguments)
            source = images.as_source(built, section.name)
            few, statistics = images.few_images(source, count), _statistics(recipe_)
            data = images.load(few, section, device, statistics, stream=False)
            return data, images.image_bytes(source)
    except DataError:
        load_data(recipe_, device)  # says what is wrong of all images, and of the parts by name
        raise


def _statistics(recipe_: Recipe) -> tuple[Tensor, Tensor] | None:
    """Mean and std that the inputs had when the weights were learned."""
    section = recipe_.model
    if not section.weights:
        return None
    return read_statistics(section.weights, section.name)


def build_model(recipe_: Recipe, data: Data, *, seed: int | None = None) -> nn.Module:
    """`build_network` for the classes and images of `data`, with the weights learned before.

    Raises:
        RecipeError: where there are no weights that `model.weights` names, or they do not fit.
        UserCodeError: where own model code raises, or gives something that is no module of images.
        OutOfMemoryError: where the model does not fit in memory.
    """
    model = build_network(recipe_, len(data.classes), data.in_shape, seed=seed)
    section = recipe_.model
    if section.weights:
        weights = read_weights(section.weights, section.name)
        put(weights, model, data.classes, section.weights)
    return model


def build_network(
    recipe_: Recipe, num_classes: int, in_shape: tuple[int, int, int], *, seed: int | None = None
) -> nn.Module:
    """The recipe's model with fresh weights, on the CPU; `seed` replaces the recipe's own.

    The same seed gives the same weights, and the caller's random state is left as it was.

    Raises:
        UserCodeError: where own model code raises, or gives something that is no module of images.
        OutOfMemoryError: where the model does not fit in memory.
    """
    section = recipe_.model
    builder = _find_model(section.name)
    arguments = _bound(builder, section.arguments, "model")
    drawn = seeded(recipe_.seed if seed is None else seed, "init", device=CPU)
    not_ours = section.name not in models.BUILT_IN
    with drawn, explaining():
        with settings_kept(), border(f"building model {section.name}" if not_ours else None):
            model = builder(num_classes=num_classes, in_shape=in_shape, **arguments)
        check_model(model, section.name)
        if not_ours:
            guard_forward(model, section.name)
        if any(map(is_lazy, model.parameters())):
            with torch.no_grad():  # layers that learn their size from the first images
                model.eval()(torch.zeros(1, *in_shape))
            model.train()
    return model


def build_loss(recipe_: Recipe, *, checked: bool = True) -> Loss:
    """The loss that is trained: `(logits float[N, C], targets) -> scalar`.

    `targets` are labels, int `[N]`, or those of mixed images. It adds 0.3 of itself for each
    auxiliary head (`cnntune.models.auxiliary`). Unless `checked`, an own loss may give anything:
    `sanity` judges it.

    Raises:
        UserCodeError: when called, where an own loss gives no scalar that gradients flow through.
    """
    train = recipe_.train
    loss = (
        guarded_loss(_imported(train.loss), train.loss, checked=checked)
        if train.loss != CROSS_ENTROPY
        else nn.CrossEntropyLoss(label_smoothing=train.label_smoothing)
    )
    return with_auxiliary(functools.partial(loss_of, loss))
