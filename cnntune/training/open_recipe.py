"""Open a recipe: read its file, apply the overrides, check it against the builders that it names.

This needs torch: the signatures of the builders determine which keys a recipe may have.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cnntune.config import files, signatures
from cnntune.config.combinations import CROSS_ENTROPY
from cnntune.config.command import CommandRecipe, stored
from cnntune.config.files import RecipeFile
from cnntune.config.problems import Problem
from cnntune.config.recipe import Recipe, parse, set_key, space_findings
from cnntune.config.space import Value
from cnntune.data import Data
from cnntune.errors import RecipeError
from cnntune.findings import Finding
from cnntune.training.builders import builder_of, imported
from cnntune.training.contracts import builder_problem, is_own, loss_problem
from cnntune.training.device import resolve, trial_devices
from cnntune.user_code.imports import add_code_folders


def opened(
    file: RecipeFile, overrides: Sequence[str], device: str
) -> tuple[Recipe, str, tuple[str, ...], list[Finding]]:
    """The recipe with its overrides, the name of its device, and those of its trials' devices.

    Last come warnings about its space, for commands that search it. `sys.path` holds `file.code`
    already. All of it is plain values, since a process without torch may ask another one for it.

    Raises:
        RecipeError: where the recipe, an override or an argument cannot be used.
        DeviceError: where this machine lacks the device.
        UserCodeError: where user code cannot be imported.
    """
    recipe = _read(file, overrides)
    found = resolve(device)
    warnings = space_findings(recipe, argument_types(recipe.as_values()))
    return recipe, str(found), trial_devices(found), warnings


def load_recipe(source: str | None, overrides: Sequence[str] = ()) -> Recipe:
    """Find, read and validate a recipe, builder arguments included.

    The folder of the recipe's user code joins `sys.path`.

    Raises:
        RecipeError: with one line for each problem of file, overrides and arguments.
        UserCodeError: where user code that the recipe names cannot be imported.
    """
    file = files.find(source)
    add_code_folders(file.code)
    return _read(file, overrides)


def _read(file: RecipeFile, overrides: Sequence[str]) -> Recipe:
    values = files.read_values(file.path)
    if "command" in values:
        raise RecipeError(_of_command(file))
    overridden = []
    for text in overrides:
        key, value = files.parse_override(text)
        set_key(values, key, value)
        overridden.append(key)
    return parse(
        values,
        file=file.name,
        overridden=overridden,
        check_arguments=argument_problems,
        argument_types=argument_types,
    )


def _of_command(file: RecipeFile) -> str:
    """That a file belongs to a search over a command, and what runs a trial of it again."""
    recipe = stored(files.read_values(file.path), file=file.name)
    again = f"; to run it again: {recipe.line()}" if not recipe.space else ""
    return f"{file.name}: command: is a recipe of `cnntune search -- COMMAND`{again}"


def argument_problems(values: Mapping[str, Any]) -> list[Problem]:
    """Unknown names, and arguments that do not fit the signature of the builder they go to."""
    problems = [found for section in signatures.SECTIONS for found in _of_section(values, section)]
    loss = values.get("train", {}).get("loss", "") if isinstance(values.get("train"), dict) else ""
    if isinstance(loss, str) and loss not in ("", CROSS_ENTROPY):
        try:
            fault = loss_problem(imported(loss))
        except RecipeError as error:
            problems.append(Problem("train.loss", f"{error}; built in: {CROSS_ENTROPY}"))
        else:
            problems += [Problem("train.loss", f"{loss}: {fault}")] if fault else []
    return problems


def _of_section(values: Mapping[str, Any], section: str) -> list[Problem]:
    name = signatures.builder_name(values, section)
    if not isinstance(name, str):  # which the schema reports
        return []
    try:
        builder = builder_of(name, section)
    except RecipeError as error:
        return [Problem(f"{section}.name", str(error))]
    if is_own(name) and (fault := builder_problem(builder, section)):
        return [Problem(f"{section}.name", f"{name}: {fault}")]
    return signatures.bind(builder, signatures.given_arguments(values, section), section)[1]


def argument_types(values: Mapping[str, Any]) -> dict[str, Any]:
    """The annotation of each argument that the recipe's builders name, by flat key."""
    found: dict[str, Any] = {}
    for section in signatures.SECTIONS:
        name = signatures.builder_name(values, section)
        try:
            builder = builder_of(name, section) if isinstance(name, str) else None
        except RecipeError:
            continue  # `argument_problems` reports it
        if builder is not None:
            types = signatures.annotations(builder)
            found |= {f"{section}.{argument}": type_ for argument, type_ in types.items()}
    return found


def allows(recipe: Recipe, key: str, value: Value) -> bool:
    """Whether the recipe would be valid with `value` at `key`."""
    if isinstance(recipe, CommandRecipe):
        return recipe.allows(key, value)
    values = recipe.as_values()
    set_key(values, key, value)
    try:
        parse(values, file=recipe.name, check_arguments=argument_problems)
    except RecipeError:
        return False
    return True


def value_at(recipe: Recipe, key: str) -> Any:
    """The value of a flat key, a builder's own default included; None where it has no value."""
    value, (section, _, argument) = recipe.get(key), key.partition(".")
    if value is not None or section not in signatures.SECTIONS or recipe.runs_command:
        return value
    builder = builder_of(getattr(recipe, section).name, section)
    return signatures.defaults(builder, section).get(argument)


def described(recipe: Recipe, device: str, data: Data) -> str:
    """The images and the network, in a line, after what was done to read samples of user code."""
    test = f", {len(data.test)} test" if data.test is not None else ""
    shape = "x".join(str(size) for size in data.in_shape)
    remarks, size = list(data.remarks), recipe.train.batch_size
    if size > len(data.train):
        remarks.append(
            f"train.batch_size: {size} is more than the {len(data.train)} training images: each"
            " epoch is one step"
        )
    line = (
        f"{recipe.name}: {len(data.train)} training images, {len(data.val)} validation{test},"
        f" {shape}, {len(data.classes)} classes; model {recipe.model.name} on {device}"
    )
    return "\n".join([*remarks, line])
