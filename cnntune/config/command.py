"""A search over a command of the user's: its placeholders, its space, and the command of a trial.

Such a recipe has no network and no data. Its keys are those that the command has placeholders for:
`python train.py --lr {train.lr}` takes `train.lr` from `[space]`. `{{` and `}}` are literal braces.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import Field, ValidationError

from cnntune.config import recipe as recipes
from cnntune.config.problems import Problem, problems_from, shown, unknown
from cnntune.config.recipe import Recipe, SearchSection, Section, flatten, key_type, set_key
from cnntune.config.searchable import takes_whole_numbers
from cnntune.config.space import Dimension, Range, Value, parse_dimension
from cnntune.errors import RecipeError

EPOCHS, SEED = "search.epochs", "seed"
GIVEN = (SEED, EPOCHS)  # placeholders that need no key in [space]
OVERRIDDEN = ("train.lr",)  # what `--override` can set inside the script
RESERVED = ("name", "command", "search", "space")  # tables and keys that hold no values of a trial
PIECE = re.compile(r"\{\{|\}\}|\{[^{}]*\}|[{}]")
LONGER = 3  # times the epochs of the search: between rungs Hyperband takes three (Li et al. 2018)


class CommandSection(Section):
    """`[command]`: what is run for each trial; written by `cnntune search`, never by hand."""

    words: list[str] = Field(description="the words of the command, with its placeholders")
    folder: str = Field(description="where the command was typed")
    here: bool = Field(False, description="whether it runs there, and not in the trial's folder")
    override: list[str] = Field([], description="keys that are set inside the script")
    metric: str = Field("", description="the column that ranks trials, perhaps with :max or :min")


class CommandSearchSection(SearchSection):
    """`[search]` of a command."""

    epochs: int = Field(0, ge=0, description="evaluations per trial; 0: until the script ends")


class CommandRecipe(Recipe):
    """A recipe whose runs are commands; `settings` are the values of keys that are not searched."""

    command: CommandSection
    search: CommandSearchSection = CommandSearchSection()
    settings: dict[str, Value] = Field(default_factory=dict)

    @property
    def runs_command(self) -> bool:
        """A run is a command."""
        return True

    @property
    def run_epochs(self) -> int:
        """The evaluations of a run, 0 where the script alone decides."""
        return self.search.epochs

    @property
    def told_epochs(self) -> bool:
        """Whether the command has a placeholder for the epochs, so that it ends by itself."""
        return EPOCHS in self.placeholders

    @property
    def placeholders(self) -> set[str]:
        """The keys that the command has placeholders for."""
        return {key for word in self.command.words for key in _keys_in(word)}

    def words(self) -> list[str]:
        """The command of a trial, its placeholders filled in."""
        values = {**self.settings, SEED: self.seed, EPOCHS: self.search.epochs}
        return [_filled(word, values) for word in self.command.words]

    def line(self) -> str:
        """The command of a trial as it is typed in a shell, with what is set inside the script."""
        inside = [f"{key} = {as_word(value)}" for key, value in self.overrides().items()]
        remark = f"  # with {', '.join(inside)} at the optimizer" if inside else ""
        return f"{shlex.join(self.words())}{remark}"

    def overrides(self) -> dict[str, Value]:
        """The values that are set inside the script."""
        return {key: self.settings[key] for key in self.command.override}

    def allows(self, key: str, value: Value) -> bool:
        """Whether a later round may draw `value`: for a key of the command, of the usual sign.

        What the script takes is not known. A key whose range has no negative number gets none, and
        one that lies in 0..1 stays a fraction.
        """
        if key == EPOCHS:
            return self.told_epochs
        if key not in self.space and key not in self.settings:
            return False
        dimension = self.space.get(key)
        if isinstance(dimension, Range) and isinstance(value, int | float):
            fraction = dimension.low >= 0 and dimension.high <= 1
            return not (dimension.low >= 0 > value or (fraction and value > 1))
        return True

    def with_values(self, values: Mapping[str, Value]) -> "CommandRecipe":
        """The recipe with flat keys changed."""
        nested = self.as_values()
        for key, value in values.items():
            set_key(nested, key, value)
        return stored(nested, file=self.name)

    def for_trial(self, values: Mapping[str, Value]) -> "CommandRecipe":
        """The recipe of one run: `values` set, no space left to search."""
        return self.model_copy(update={"space": {}}).with_values(values)

    def as_values(self) -> dict[str, Any]:
        """The recipe as nested plain values, without the tables that a command does not have."""
        dumped = self.model_dump(include={"name", "seed", "command", "search"})
        for key, value in self.settings.items():
            set_key(dumped, key, value)
        if self.space:
            dumped["space"] = {key: dimension.as_toml() for key, dimension in self.space.items()}
        return dumped


def stored_recipe(values: Mapping[str, Any], *, file: str) -> Recipe:
    """A recipe of either kind that was whole when it was written.

    Raises:
        RecipeError: where a key is not known to this version.
    """
    return stored(values, file=file) if "command" in values else recipes.stored(values, file=file)


def stored(values: Mapping[str, Any], *, file: str) -> CommandRecipe:
    """The recipe of a command that `as_values` wrote, its placeholders not checked again.

    Raises:
        RecipeError: where something is missing or of the wrong kind.
    """
    recipe, problems = _read(values)
    if recipe is None or problems:
        raise RecipeError(f"{file}: {problem.key}: {problem.message}" for problem in problems)
    return recipe


def parse_command(
    values: Mapping[str, Any],
    command: CommandSection,
    *,
    file: str,
    overridden: Sequence[str] = (),
) -> CommandRecipe:
    """A recipe that somebody wrote and the command that was typed, checked against each other.

    Keys in `overridden` were given by `--set` or an option.

    Raises:
        RecipeError: with one line per problem.
    """
    table = {key: value for key, value in values.items() if key != "command"}
    recipe, problems = _read({**table, "command": command.model_dump()})
    if recipe is not None:
        wrong = [p.key.removeprefix("space.") for p in problems if p.key.startswith("space")]
        problems += _misfits(recipe, wrong)
    written = [
        Problem("command", "cannot be written in a file: type it after --")
        for _ in range("command" in values)
    ]
    lines = [
        f"{_origin(problem.key, file, overridden)}{problem.message}"
        for problem in [*written, *problems]
    ]
    if recipe is None or lines:
        raise RecipeError(lines)
    return recipe


def _origin(key: str, file: str, overridden: Sequence[str]) -> str:
    if key.startswith("-"):  # an option, or a word of the command
        return f"{key}: "
    return f"{'--set' if key in overridden else file}: {key}: "


def _read(values: Mapping[str, Any]) -> tuple[CommandRecipe | None, list[Problem]]:
    """The recipe and what is wrong with it; None where it cannot be made."""
    base = {key: values[key] for key in ("name", "seed", "command", "search") if key in values}
    rest = {key: value for key, value in values.items() if key not in (*base, "space")}
    settings = flatten(rest)
    sound = {key: v for key, v in settings.items() if isinstance(v, bool | int | float | str)}
    problems = [
        Problem(key, f"must be a number, a string, true or false (got {shown(value)})")
        for key, value in settings.items()
        if key not in sound
    ]
    space, wrong = _read_space(values.get("space", {}))
    problems += wrong
    sound = {key: value for key, value in sound.items() if key not in space}
    try:
        recipe = CommandRecipe.model_validate({**base, "settings": sound, "space": space})
    except ValidationError as error:
        return None, [*problems, *problems_from(error, schema=CommandRecipe)]
    return recipe, problems


def _read_space(table: Any) -> tuple[dict[str, Dimension], list[Problem]]:
    if not isinstance(table, dict):
        return {}, [Problem("space", f"must be a table (got {shown(table)})")]
    space: dict[str, Dimension] = {}
    problems = []
    for key, written in _dimensions(table):
        if key == SEED or key.partition(".")[0] in RESERVED:
            problems.append(Problem(f"space.{key}", "cannot be searched over"))
            continue
        try:
            dimension = parse_dimension(written)
        except ValueError as error:
            problems.append(Problem(f"space.{key}", str(error)))
            continue
        declared = key_type(key, {})
        if isinstance(dimension, Range) and declared is not Any:
            whole = dimension.integer and takes_whole_numbers(declared)
            dimension = Range(dimension.low, dimension.high, dimension.log, whole)
        space[key] = dimension
    return space, problems


def _dimensions(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`{"train": {"lr": {"log": ...}}}` as `("train.lr", {"log": ...})`."""
    for key, value in table.items():
        full = f"{prefix}{key}"
        if isinstance(value, dict) and value and all(isinstance(v, dict) for v in value.values()):
            yield from _dimensions(value, f"{full}.")
        else:
            yield full, value


def _misfits(recipe: CommandRecipe, wrong: Sequence[str]) -> Iterator[Problem]:
    """What of the command does not fit the keys, and the other way round.

    Keys of the space that are `wrong` have a line of their own, and are not in the recipe.
    """
    known = [*recipe.space, *wrong, *recipe.settings, *GIVEN]
    for word in recipe.command.words:
        for piece in PIECE.findall(word):
            if piece in ("{", "}"):
                yield Problem(f"-- {word}", f"a literal {piece} must be written {2 * piece}")
            elif piece not in ("{{", "}}") and piece[1:-1] not in known:
                yield Problem(f"-- {word}", f"{piece}: {unknown(piece[1:-1], known, 'key')}")
    if not recipe.space and not wrong:
        example = "train.lr = { log = [1e-4, 1e-1] }"
        yield Problem("space", f"is missing: [space] holds what is searched, such as {example}")
    used = recipe.placeholders
    for key in recipe.command.override:
        if key not in OVERRIDDEN:
            yield Problem("--override", f"must be {', '.join(OVERRIDDEN)} (got {shown(key)})")
        elif key not in (*recipe.space, *recipe.settings):
            yield Problem("--override", f"{key}: has no range in [space] of the recipe")
        elif key in used:
            yield Problem("--override", f"{key}: is in the command too, as {{{key}}}")
    used |= set(recipe.command.override)
    for key in (*recipe.space, *recipe.settings):
        if key not in used:
            name = f"space.{key}" if key in recipe.space else key
            ways = f"add {{{key}}} to the command"
            ways += f", or --override {key}" if key in OVERRIDDEN else ""
            yield Problem(name, f"is not used by the command: {ways}, or remove it")
    epochs, pruner = recipe.search.epochs, recipe.search.pruner
    if not epochs and pruner != "none":
        needs = f'is needed by the pruner "{pruner}": the number of evaluations of a whole trial'
        yield Problem(EPOCHS, f"{needs} (--epochs N)")
    elif not epochs and recipe.told_epochs:
        yield Problem(EPOCHS, f"is needed by {{{EPOCHS}}} in the command (--epochs N)")


def _keys_in(word: str) -> Iterator[str]:
    for piece in PIECE.findall(word):
        if len(piece) > 2 and piece[0] == "{":
            yield piece[1:-1]


def _filled(word: str, values: Mapping[str, Value]) -> str:
    def text(found: re.Match[str]) -> str:
        piece = found[0]
        return piece[0] if piece in ("{{", "}}") else as_word(values[piece[1:-1]])

    return PIECE.sub(text, word)


def as_word(value: Value) -> str:
    """A value as a command gets it: `0.01`, `64`, `true`, `adam`."""
    return value if isinstance(value, str) else json.dumps(value)
