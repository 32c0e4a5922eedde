"""The recipe: everything that decides what is trained, as a validated value.

Every key has one default, here or in the signature of the builder that takes it. All problems of a
recipe are found before anything is trained, and reported together.
"""

import difflib
import json
import re
import reprlib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, time
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cnntune.errors import RecipeError
from cnntune.space import Choice, Dimension, Range, Value, parse_dimension

MAX_RECIPE_BYTES = 256_000  # a hand-written recipe has about 1 kB
NOT_SEARCHED = ("name", "search", "space")  # the study's own name and the length of its trials
MAX_SHOWN = 80  # characters of a wrong value in a message
MAX_DEPTH = 10  # of tables in tables; a recipe needs 4 (`space.train.lr.log`)
MAX_SEED = 2**63 - 1  # what torch's generators take
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"  # it names a folder


class Section(BaseModel):
    """A table of the recipe: unknown keys, wrong types, NaN and infinity are problems."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class BuilderSection(Section):
    """A table whose further keys are the arguments of the builder that `name` names."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    name: str

    @property
    def arguments(self) -> dict[str, Any]:
        """The builder's own keys."""
        return dict(self.model_extra or {})


class DataSection(BuilderSection):
    """`[data]`: which images."""

    name: str = "digits"
    # Draws the split; apart from `seed`, so that repeats share it.
    seed: int = Field(0, ge=0, le=MAX_SEED)
    normalize: bool = True  # subtract the training part's mean, divide by its std, by channel
    stream: bool = False  # read batches from disk although the images would fit in memory


class ModelSection(BuilderSection):
    """`[model]`: which network."""

    name: str = "small-cnn"


class AugmentSection(Section):
    """`[augment]`: random changes that keep the label, one draw for each image."""

    flip: bool = False  # left-right; off by default, since a mirrored digit is no digit
    crop: int = Field(0, ge=0)  # pixels of padding around the image before a random crop


class TrainSection(Section):
    """`[train]`: how a run is trained."""

    loss: str = "cross-entropy"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: float = Field(5e-2, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)  # sgd's; adam and adamw keep their betas
    weight_decay: float = Field(1e-4, ge=0)
    batch_size: int = Field(128, ge=1)
    epochs: int = Field(10, ge=1)
    schedule: Literal["constant", "cosine", "step", "one-cycle"] = "constant"
    warmup_epochs: float = Field(0.0, ge=0)
    grad_clip: float = Field(0.0, ge=0)  # largest gradient norm; 0 leaves gradients alone
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: bfloat16 on a GPU with it
    threads: int = Field(0, ge=0)  # of the CPU; 0: one for a trial or small batches, else all cores


class SearchSection(Section):
    """`[search]`: the coarse search."""

    epochs: int = Field(3, ge=1)  # of each trial; the lecture says 1-5


class Recipe(Section):
    """A whole recipe; `space` maps recipe keys to the dimensions that a search draws them from."""

    name: str = Field("recipe", pattern=NAME_PATTERN)
    seed: int = Field(0, ge=0)
    data: DataSection = DataSection()
    model: ModelSection = ModelSection()
    augment: AugmentSection = AugmentSection()
    train: TrainSection = TrainSection()
    search: SearchSection = SearchSection()
    space: dict[str, Range | Choice] = Field(default_factory=dict)

    def with_values(self, values: Mapping[str, Value]) -> "Recipe":
        """This recipe with flat keys (`{"train.lr": 0.01}`) changed, validated again."""
        nested = self.as_values()
        for key, value in values.items():
            set_key(nested, key, value)
        return parse(nested, file=self.name)

    def for_trial(self, values: Mapping[str, Value]) -> "Recipe":
        """The recipe of one training run: `values` set, no space left to search.

        The run is `search.epochs` long, with its warm-up in proportion: a whole schedule, only
        shorter. Trials run side by side, so each has one thread unless the recipe says otherwise;
        written down here, a trial that is trained again computes the same numbers.
        """
        share = self.search.epochs / self.train.epochs
        shorter: dict[str, Value] = {
            "train.epochs": self.search.epochs,
            "train.warmup_epochs": self.train.warmup_epochs * share,
            "train.threads": self.train.threads or 1,
        }
        return self.for_run().with_values(shorter | dict(values))

    def for_run(self) -> "Recipe":
        """The recipe as it trains by itself, without a space."""
        return self.model_copy(update={"space": {}})

    def get(self, key: str) -> Any:
        """The value at a flat key such as `train.lr`; None where it is a builder's default."""
        return flatten(self.as_values()).get(key)

    def as_values(self) -> dict[str, Any]:
        """The recipe as nested plain values, fit for TOML and JSON."""
        values = self.model_dump(exclude={"space"})
        if self.space:
            values["space"] = {key: dimension.as_toml() for key, dimension in self.space.items()}
        return values

    def as_toml(self) -> str:
        """The recipe as TOML, every default written out."""
        return tomli_w.dumps(self.as_values())


@dataclass(frozen=True)
class Problem:
    """What is wrong with one key: what was found and what is allowed."""

    key: str
    message: str


CheckArguments = Callable[[Mapping[str, Any]], Sequence[Problem]]


def unchecked(values: Mapping[str, Any]) -> Sequence[Problem]:  # noqa: ARG001  # same signature
    """For values whose arguments were checked before, such as those of a finished study."""
    return ()


def parse(
    values: Mapping[str, Any],
    *,
    file: str,
    overridden: Sequence[str] = (),
    check_arguments: CheckArguments = unchecked,
) -> Recipe:
    """Validate nested values.

    `check_arguments` finds the problems of builder arguments, which only the builders' signatures
    know. Keys in `overridden` are reported as coming from `--set`.

    Raises:
        RecipeError: with one line for each problem.
    """

    def problems_of(candidate: Mapping[str, Any]) -> list[Problem]:
        without_space = {key: value for key, value in candidate.items() if key != "space"}
        return [*_schema_problems(without_space), *check_arguments(without_space)]

    dates = [
        Problem(key, f"must be a number, a text, true, false or a list (got {value})")
        for key, value in flatten(values).items()
        if isinstance(value, date | time)
    ]
    if dates:  # TOML has them, JSON and the builders do not
        raise _error(dates, file, overridden)
    problems = problems_of(values)
    space, space_problems = _parse_space(values, set(problems), problems_of)
    problems += space_problems
    if problems:
        raise _error(problems, file, overridden)
    return Recipe.model_validate({**values, "space": space})


def _error(problems: Sequence[Problem], file: str, overridden: Sequence[str]) -> RecipeError:
    return RecipeError(
        f"{'--set' if _touches(problem.key, overridden) else file}: {problem.key}:"
        f" {problem.message}"
        for problem in problems
    )


def _touches(key: str, overridden: Sequence[str]) -> bool:
    """Whether `key` was set, is part of a table that was set, or holds a key that was set."""
    return any(f"{key}.".startswith(f"{o}.") or f"{o}.".startswith(f"{key}.") for o in overridden)


def _schema_problems(values: Mapping[str, Any]) -> list[Problem]:
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        return problems_from(error)
    return _combination_problems(recipe)


def _combination_problems(recipe: Recipe) -> list[Problem]:
    """Keys that are sound alone and senseless together."""
    train = recipe.train
    problems = []
    if train.schedule == "one-cycle" and train.warmup_epochs:
        problems.append(
            Problem("train.warmup_epochs", "must be 0: the one-cycle schedule warms up by itself")
        )
    elif train.warmup_epochs >= train.epochs:
        problems.append(
            Problem(
                "train.warmup_epochs",
                f"must be < {train.epochs}, which is train.epochs (got {train.warmup_epochs:g})",
            )
        )
    if train.label_smoothing and train.loss != "cross-entropy":
        problems.append(
            Problem("train.label_smoothing", f"must be 0 with a loss of your own ({train.loss})")
        )
    return problems


def problems_from(error: ValidationError, prefix: str = "") -> list[Problem]:
    """A pydantic error as problems, in our words."""
    found = []
    for detail in error.errors():
        path = ".".join(str(part) for part in detail["loc"])
        key = ".".join(part for part in (prefix, path) if part)
        found.append(Problem(key or "(top level)", _message(detail, path)))
    return found


TYPE_MESSAGES = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be a text in quotes",
    "finite_number": "must be finite",
    "model_type": "must be a table",
    "dict_type": "must be a table",
    "list_type": "must be a list",
    "string_pattern_mismatch": "must be letters, digits, '.', '_' and '-', 64 at most",
}


def _message(detail: Any, path: str) -> str:
    kind, limits, found = detail["type"], detail.get("ctx", {}), detail["input"]
    if kind == "extra_forbidden":
        return unknown(path.rpartition(".")[2], _allowed_keys(path), "key")
    if kind == "missing":
        return "is missing"
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", limits["expected"])
        return "must be " + unknown(found, allowed, "value")
    signs = {"greater_than": ">", "greater_than_equal": ">=", "less_than": "<"}
    signs["less_than_equal"] = "<="
    if kind in signs:
        limit = next(iter(limits.values()))
        return f"must be {signs[kind]} {limit:g} (got {shown(found)})"
    return f"{TYPE_MESSAGES.get(kind, detail['msg'])} (got {shown(found)})"


def shown(found: Any) -> str:
    """`found` as Python writes it, cut short where it is long or deep."""
    writer = reprlib.Repr()
    writer.maxstring = writer.maxother = writer.maxlong = MAX_SHOWN
    return writer.repr(found)


def unknown(found: Any, allowed: Sequence[str], noun: str) -> str:
    """The sentence for a word that is not among the allowed ones."""
    listed = ", ".join(allowed)
    if noun == "value":
        return f"one of {listed} (got {shown(found)}{did_you_mean(found, allowed)})"
    return f"unknown {noun}{did_you_mean(found, allowed)}; allowed: {listed}"


def did_you_mean(found: Any, allowed: Sequence[str]) -> str:
    """`; did you mean 'sgd'?`, or nothing where no allowed word is near."""
    near = difflib.get_close_matches(str(found), allowed, n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def _allowed_keys(path: str) -> list[str]:
    section, _, _ = path.rpartition(".")
    field = Recipe.model_fields.get(section)
    owner = field.annotation if field is not None else Recipe
    return list(owner.model_fields) if isinstance(owner, type) else []


def _parse_space(
    values: Mapping[str, Any],
    known: set[Problem],
    problems_of: Callable[[Mapping[str, Any]], list[Problem]],
) -> tuple[dict[str, Dimension], list[Problem]]:
    """Read `[space]`, and try both ends of each range and every option in the recipe itself."""
    table = values.get("space", {})
    if not isinstance(table, dict):
        return {}, [Problem("space", f"must be a table (got {table!r})")]
    space: dict[str, Dimension] = {}
    problems = []
    for key, written in _dimensions(table):
        try:
            dimension = parse_dimension(written)
        except ValueError as error:
            problems.append(Problem(f"space.{key}", str(error)))
            continue

        def problem_with(value: Value, key: str = key) -> str | None:
            candidate = json.loads(json.dumps({k: v for k, v in values.items() if k != "space"}))
            set_key(candidate, key, value)
            new = [problem for problem in problems_of(candidate) if problem not in known]
            return f"{value!r}: {new[0].message}" if new else None

        if key.split(".")[0] in NOT_SEARCHED:
            problems.append(Problem(f"space.{key}", "cannot be searched over"))
            continue
        dimension = _whole_numbers(dimension, problem_with)
        tried = dimension.options if isinstance(dimension, Choice) else _ends(dimension)
        found = [problem for value in tried if (problem := problem_with(value))]
        problems += [Problem(f"space.{key}", problem) for problem in found[:1]]
        space[key] = dimension
    return space, problems


def _ends(dimension: Range) -> tuple[int | float, ...]:
    return dimension.at(0.0), dimension.at(1.0)


def _whole_numbers(dimension: Dimension, problem_with: Callable[[Value], str | None]) -> Dimension:
    """A range over a key that refuses fractions draws whole numbers."""
    if isinstance(dimension, Choice) or not (
        dimension.low.is_integer() and dimension.high.is_integer()
    ):
        return dimension
    fraction_refused = "whole number" in (problem_with(dimension.low + 0.5) or "")
    whole = "must be a" not in (problem_with(int(dimension.low)) or "")
    return replace(dimension, integer=whole and fraction_refused)


def _dimensions(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """`{"train": {"lr": {"log": ...}}}` as `("train.lr", {"log": ...})`; quoted keys work too."""
    found = []
    for key, value in table.items():
        if isinstance(value, dict) and value and all(isinstance(v, dict) for v in value.values()):
            found += _dimensions(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", value))
    return found


def set_key(values: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key in nested values, making the tables on the way."""
    *tables, last = key.split(".")
    for table in tables:
        inner = values.get(table)
        if not isinstance(inner, dict):
            inner = values[table] = {}
        values = inner
    values[last] = value


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values as one level of dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def differences(asked: Recipe, stored: Recipe) -> list[str]:
    """`train.lr: 0.05 there, 0.1 asked`, one for each key in which two recipes differ."""
    new, old = flatten(asked.as_values()), flatten(stored.as_values())
    return [
        f"{key}: {old.get(key, 'nothing')} there, {new.get(key, 'nothing')} asked"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]


def parse_override(text: str) -> tuple[str, Any]:
    """`train.lr=0.01` as a key and a TOML value; a bare word is a text.

    Raises:
        RecipeError: where there is no `=` or the value is no TOML value.
    """
    key, equals, written = text.partition("=")
    key, written = key.strip(), written.strip()
    if not equals or not re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", key):
        raise RecipeError(f"--set: must be KEY=VALUE, such as train.lr=0.01 (got {text!r})")
    try:
        values = tomllib.loads(f"value = {written}")
        if list(values) != ["value"]:  # further lines would set further keys
            raise ValueError
        return key, values["value"]
    except (ValueError, RecursionError):
        if re.fullmatch(r"[A-Za-z./~][\w.:/~-]*", written):
            return key, written
        raise RecipeError(
            f"--set: {key}: must be a TOML value, such as 0.01, true, 'text' or [1, 2]"
            f" (got {written!r})"
        ) from None


def _depth(values: Any) -> int:
    depth, level = 0, [values]
    while level:
        level = [v for t in level for v in (t.values() if isinstance(t, dict) else t)]
        level = [v for v in level if isinstance(v, dict | list)]
        depth += 1
    return depth


def shipped() -> dict[str, Path]:
    """The recipes that come with cnntune, by name."""
    here = Path(__file__).parent
    installed, checkout = here / "recipes", here.parent / "recipes"
    folder = installed if installed.is_dir() else checkout
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def find(source: str | None) -> Path:
    """The file that RECIPE means: a path, a shipped name, or (left out) `./cnntune.toml` or digits.

    Raises:
        RecipeError: where it is none of these.
    """
    if source is None:
        own = Path("cnntune.toml")
        return own if own.is_file() else shipped()["digits"]
    path = Path(source)
    if path.suffix in (".toml", ".json"):
        if path.is_file():
            return path
        raise RecipeError(f"{source}: no such file")
    if source in shipped():
        return shipped()[source]
    with suppress(OSError):  # a name too long for a file
        if (path / "config.json").is_file():
            return path / "config.json"
    names = list(shipped())
    raise RecipeError(
        f"{source}: no recipe of that name{did_you_mean(source, names)};"
        f" allowed: a .toml or config.json file, or one of {', '.join(names)}"
    )


def read_values(path: Path) -> dict[str, Any]:
    """The nested values of a `.toml` recipe or of a run's `config.json`, not yet validated.

    Raises:
        RecipeError: where the file cannot be read or is not TOML or JSON.
    """
    try:
        if path.stat().st_size > MAX_RECIPE_BYTES:
            raise RecipeError(f"{path}: larger than {MAX_RECIPE_BYTES:,} bytes; is it a recipe?")
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RecipeError(f"{path}: is not UTF-8 text") from None
    except RecursionError:
        raise RecipeError(f"{path}: nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError and JSONDecodeError are both ValueErrors
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise RecipeError(f"{path}: is not {kind}: {error}") from None
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: must hold a table of keys (got {type(values).__name__})")
    if _depth(values) > MAX_DEPTH:
        raise RecipeError(f"{path}: nested too deeply")
    if path.suffix == ".toml":
        values.setdefault("name", path.stem)
    return values
