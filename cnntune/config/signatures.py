"""Builder arguments against the builder's signature, the schema of `[data]` and `[model]`.

A builder is a function that `name` names; the further keys of its section are its keyword
arguments.
"""

import functools
import inspect
import json
import math
import typing
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cnntune.config.problems import Problem, problems_from, unknown
from cnntune.config.recipe import BuilderSection, DataSection, ModelSection

Builder = Callable[..., Any]

SECTIONS: dict[str, type[BuilderSection]] = {"data": DataSection, "model": ModelSection}
# The arguments that no recipe gives.
KEYWORDS = {"data": ("seed",), "model": ("num_classes", "in_shape")}


def builder_name(values: Mapping[str, Any], section: str) -> Any:
    """What a section of a recipe not yet validated gives as `name`; None where it is no table."""
    table = values.get(section, {})
    default = SECTIONS[section].model_fields["name"].default
    return table.get("name", default) if isinstance(table, dict) else None


def given_arguments(values: Mapping[str, Any], section: str) -> dict[str, Any]:
    """The keys of a section that its builder takes."""
    common = SECTIONS[section].model_fields
    return {key: value for key, value in values.get(section, {}).items() if key not in common}


def bind(
    builder: Builder, given: Mapping[str, Any], section: str
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
            allowed = sorted(SECTIONS[section].model_fields.keys() | named.keys())
            problems.append(Problem(f"{section}.{key}", unknown(key, allowed, "key")))
    for key, parameter in named.items():
        if parameter.default is parameter.empty and key not in given:
            problems.append(Problem(f"{section}.{key}", "is missing"))
    return arguments, problems


def annotations(builder: Builder) -> dict[str, Any]:
    """The annotation of each parameter, else the type of its default, else `Any`."""
    parameters = inspect.signature(builder).parameters
    return {name: _annotation(builder, parameter) for name, parameter in parameters.items()}


def defaults(builder: Builder, section: str) -> dict[str, Any]:
    """The default values that can stand in a recipe, by argument."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(builder).parameters.items()
        if isinstance(parameter.default, bool | int | float | str) and name not in KEYWORDS[section]
    }


def _annotation(builder: Builder, parameter: inspect.Parameter) -> Any:
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
