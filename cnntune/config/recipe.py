"""The recipe: everything that decides what is trained, as a validated value.

Every key has one default, here or in the signature of the builder that takes it. All problems of a
recipe are found before anything is trained, and reported together.
"""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, time
from typing import Annotated, Any, Literal, TypeGuard

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cnntune.config.combinations import CROSS_ENTROPY, conflicts
from cnntune.config.problems import Problem, problems_from, shown
from cnntune.config.searchable import OTHER_IMAGES, Costly, Fixed, mark_of, takes_whole_numbers
from cnntune.config.space import (
    KINDS,
    Choice,
    Dimension,
    Pruner,
    Range,
    Sampler,
    Space,
    Value,
    parse_dimension,
)
from cnntune.config.space_check import tried_problems
from cnntune.errors import RecipeError
from cnntune.findings import Finding

ONCE = Fixed("it is decided once, for all trials of a search")
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
        """The keys that the builder takes."""
        return dict(self.model_extra or {})


class DataSection(BuilderSection):
    """`[data]`: which images."""

    name: Annotated[str, OTHER_IMAGES] = Field(
        "digits", description='built-in data set, or "module:function" of your code'
    )
    seed: Annotated[int, OTHER_IMAGES] = Field(
        0,
        ge=0,
        le=MAX_SEED,
        description="seed of the split, apart from the recipe's `seed` so that repeats share it",
    )
    normalize: bool = Field(
        True, description="per channel, subtract the training set's mean and divide by its std"
    )
    stream: Annotated[bool, ONCE] = Field(
        False, description="read batches from disk even if the images fit in memory"
    )


class ModelSection(BuilderSection):
    """`[model]`: which network."""

    name: str = Field(
        "small-cnn",
        description="built-in model, torchvision classifier, `timm:NAME`, or"
        ' "module:function" of your code',
    )
    weights: str = Field(
        "",
        description='pretrained weights: "imagenet", or a file such as best.pt;'
        " empty: freshly initialised",
    )


class AugmentSection(Section):
    """`[augment]`: random changes, one draw per image; all off by default."""

    flip: bool = Field(False, description="flip left-right; off for digits and letters")
    flip_vertical: bool = Field(False, description="flip top-bottom, such as for aerial images")
    crop: int = Field(
        0, ge=0, description="padding around the image before a random crop, in pixels"
    )
    resized_crop: float = Field(
        1.0,
        gt=0,
        le=1,
        description="smallest share of the area that is cropped and resized; 1: off",
    )
    resized_crop_ratio: float = Field(
        4 / 3,
        ge=1,
        description="largest ratio of width to height of a resized crop, and its inverse",
    )
    rotate: float = Field(0.0, ge=0, le=180, description="largest rotation, in degrees")
    translate: float = Field(0.0, ge=0, le=1, description="largest shift, as a share of the side")
    zoom: float = Field(0.0, ge=0, lt=1, description="0.1: scale by a factor of 0.9 to 1.1")
    shear: float = Field(0.0, ge=0, lt=90, description="largest shear angle, in degrees")
    brightness: float = Field(0.0, ge=0, description="0.4: brightness by a factor of 0.6 to 1.4")
    contrast: float = Field(0.0, ge=0, description="0.4: contrast by a factor of 0.6 to 1.4")
    saturation: float = Field(0.0, ge=0, description="0.4: saturation by a factor of 0.6 to 1.4")
    hue: float = Field(
        0.0, ge=0, le=0.5, description="largest hue shift, as a share of the colour circle"
    )
    cutout: int = Field(0, ge=0, description="side of the square that is cut out, in pixels")
    erase: float = Field(
        0.0, ge=0, le=1, description="share of the images that lose a random rectangle"
    )
    mixup: float = Field(
        0.0, ge=0, description="alpha of Beta(alpha, alpha); Zhang et al. 2017: 0.1 to 0.4; 0: off"
    )
    cutmix: float = Field(
        0.0, ge=0, description="alpha of Beta(alpha, alpha); Yun et al. 2019: 1; 0: off"
    )


class TrainSection(Section):
    """`[train]`: how a run is trained."""

    loss: str = Field(
        CROSS_ENTROPY, description='"cross-entropy", or "module:function" of your code'
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="label smoothing of the cross-entropy; 0: off"
    )
    optimizer: Literal["sgd", "adam", "adamw"] = Field(
        "sgd", description="algorithm that updates the weights"
    )
    lr: float = Field(5e-2, gt=0, description="peak learning rate")
    momentum: float = Field(
        0.9, ge=0, lt=1, description="momentum of sgd; adam and adamw keep their betas"
    )
    weight_decay: float = Field(1e-4, ge=0, description="weight decay; 0: off")
    batch_size: int = Field(128, ge=1, description="images per step")
    epochs: Annotated[int, Fixed("each trial trains for search.epochs")] = Field(
        10, ge=1, description="epochs of a run that is no trial"
    )
    schedule: Literal["constant", "cosine", "step", "one-cycle"] = Field(
        "constant", description="learning-rate schedule"
    )
    warmup_epochs: float = Field(
        0.0, ge=0, description="epochs of linear warm-up of the learning rate"
    )
    grad_clip: float = Field(0.0, ge=0, description="largest gradient norm; 0: no clipping")
    precision: Annotated[Literal["auto", "float32", "bfloat16"], ONCE] = Field(
        "auto",
        description="auto: bfloat16 where it is faster and leaves the initial loss unchanged,"
        " else float32",
    )
    deterministic: Annotated[bool, ONCE] = Field(
        False, description="float32, and algorithms that give the same bits in each run"
    )
    threads: Annotated[int, ONCE] = Field(
        0, ge=0, description="CPU threads; 0: one per trial or for small batches, else all cores"
    )
    patience: Annotated[int, Costly("a trial with more patience trains longer")] = Field(
        0, ge=0, description="epochs without improvement before the run ends; 0: never"
    )
    ema: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="decay per step of the exponential moving average of the weights; 0: off",
    )
    # The next four are for model.weights; learning rates count from the head, which has train.lr.
    freeze: Literal["none", "backbone"] = Field(
        "none", description="backbone: only the head of a pretrained model is trained"
    )
    unfreeze_every: int = Field(
        0, ge=0, description="epochs until one more block is unfrozen; 0: never"
    )
    backbone_lr: float = Field(
        0.1,
        gt=0,
        le=1,
        description="learning rate of the backbone, as a share of train.lr; Girshick et al. 2014",
    )
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="factor on the learning rate from a block to the one before"
    )


class FinalTestSection(Section):
    """`[test]`: the views of an image in the final test, whose predictions are averaged."""

    views: Literal["one", "flip", "five-crop", "ten-crop"] = Field(
        "one", description="views of each image"
    )
    scales: list[Annotated[float, Field(gt=0)]] = Field(
        [1.0], description="factors by which the image is enlarged, one view more for each"
    )


class SearchSection(Section):
    """`[search]`: the coarse search."""

    epochs: int = Field(3, ge=1, description="epochs per trial; the lecture says 1-5")
    sampler: Sampler = Field("random", description="how values are drawn")
    pruner: Pruner = Field("none", description="how trials are ended before their last epoch")


class Recipe(Section):
    """A whole recipe; `space` maps recipe keys to the dimensions that a search draws them from."""

    name: Annotated[str, Fixed("it names the study")] = Field(
        "recipe", pattern=NAME_PATTERN, description="name of the study's folder"
    )
    seed: Annotated[int, Fixed("it would rank luck; `cnntune refine` repeats the best")] = Field(
        0, ge=0, description="seed of weights, batches, augmentation and drawn values"
    )
    data: DataSection = DataSection()
    model: ModelSection = ModelSection()
    augment: AugmentSection = AugmentSection()
    train: TrainSection = TrainSection()
    test: Annotated[FinalTestSection, Fixed("no trial is tested")] = FinalTestSection()
    search: Annotated[SearchSection, ONCE] = SearchSection()
    space: Annotated[dict[str, Range | Choice], Fixed("it is the space itself")] = Field(
        default_factory=dict
    )

    @property
    def runs_command(self) -> bool:
        """Whether a run is a command of the user's (`config/command.py`), and trains no recipe."""
        return False

    @property
    def run_epochs(self) -> int:
        """The epochs of a run."""
        return self.train.epochs

    def with_values(self, values: Mapping[str, Value]) -> "Recipe":
        """This recipe with flat keys (`{"train.lr": 0.01}`) changed, validated again."""
        nested = self.as_values()
        for key, value in values.items():
            set_key(nested, key, value)
        return parse(nested, file=self.name)

    def for_trial(self, values: Mapping[str, Value]) -> "Recipe":
        """The recipe of one training run: `values` set, no space left to search.

        The run is `search.epochs` long, with its warm-up in proportion: a whole schedule, only
        shorter. Trials run side by side, so each has one thread unless the recipe sets more;
        written down here, a trial that is trained again computes the same numbers.
        """
        return self.for_run().with_values(self._as_trial() | dict(values))

    def _as_trial(self) -> dict[str, Value]:
        """What a trial changes before its own values."""
        share = self.search.epochs / self.train.epochs
        return {
            "train.epochs": self.search.epochs,
            "train.warmup_epochs": self.train.warmup_epochs * share,
            "train.threads": self.train.threads or 1,
        }

    def for_run(self) -> "Recipe":
        """The recipe of a single run, without a space."""
        return self.model_copy(update={"space": {}})

    def for_data(self) -> "Recipe":
        """What determines the images: `[data]`, and pretrained weights with their normalisation."""
        weights = self.model.weights
        model = ModelSection(name=self.model.name, weights=weights) if weights else ModelSection()
        return Recipe(data=self.data, model=model)

    def arithmetic(self) -> str:
        """Precision and threads of a resolved recipe: `bfloat16, 1 thread`."""
        count = self.train.threads
        words = [self.train.precision, f"{count} thread{'s' if count > 1 else ''}"]
        return ", ".join([*words, *(["deterministic"] if self.train.deterministic else [])])

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


CheckArguments = Callable[[Mapping[str, Any]], Sequence[Problem]]
ArgumentTypes = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def unchecked(values: Mapping[str, Any]) -> Sequence[Problem]:  # noqa: ARG001  # same signature
    """For values whose arguments were checked before, such as those of a finished study."""
    return ()


def parse(
    values: Mapping[str, Any],
    *,
    file: str,
    overridden: Sequence[str] = (),
    check_arguments: CheckArguments = unchecked,
    argument_types: ArgumentTypes | None = None,
) -> Recipe:
    """Validate nested values.

    `check_arguments` finds the problems of builder arguments, which only the builders' signatures
    know, and `argument_types` gives the annotations of these arguments by flat key. The latter is
    for a recipe that somebody wrote: there also keys that no search may draw are problems. Keys in
    `overridden` are reported as coming from `--set`.

    Raises:
        RecipeError: with one line for each problem.
    """
    dates = [
        Problem(key, f"must be a number, a string, true, false or a list (got {value})")
        for key, value in flatten(values).items()
        if isinstance(value, date | time)
    ]
    if dates:  # TOML has them, JSON and the builders do not
        raise _error(dates, file, overridden)
    base = {key: value for key, value in values.items() if key != "space"}
    problems = [*_schema_problems(base), *check_arguments(base)]
    types = None if argument_types is None else argument_types(base)
    space, space_problems = _read_space(values.get("space", {}), types)
    fixed = _fixed_keys(space, types)
    space_problems += [
        Problem(f"space.{key}", f"cannot be searched over: {reason}")
        for key, reason in fixed.items()
    ]
    space = {key: dimension for key, dimension in space.items() if key not in fixed}
    check = functools.partial(_checked_with, base, check_arguments)
    problems += space_problems + tried_problems(space, check, known=problems)
    if problems:
        raise _error(problems, file, overridden)
    return Recipe.model_validate({**base, "space": space})


def stored(values: Mapping[str, Any], *, file: str) -> Recipe:
    """A recipe that was whole when `as_values` or `as_toml` wrote it.

    Its space is taken as it is: no builder is asked and no value tried, so that a study stays
    readable whose user code is gone, or whose space would be refused today.

    Raises:
        RecipeError: where a key is not known to this version.
    """
    base = {key: value for key, value in values.items() if key != "space"}
    space, problems = _read_space(values.get("space", {}), types=None)
    problems = [*_schema_problems(base), *problems]
    if problems:
        raise _error(problems, file, ())
    return Recipe.model_validate({**base, "space": space})


def key_type(key: str, argument_types: Mapping[str, Any]) -> Any:
    """The annotation of a flat key with its limits and marks; `Any` where nothing declares one."""
    section, _, name = key.partition(".")
    field = Recipe.model_fields.get(section)
    if field is not None and name:
        owner = field.annotation
        field = owner.model_fields.get(name) if _is_section(owner) else None
    if field is None:
        return argument_types.get(key, Any)
    return Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation


def _is_section(owner: Any) -> TypeGuard[type[Section]]:
    return isinstance(owner, type) and issubclass(owner, Section)


def space_findings(recipe: Recipe, argument_types: Mapping[str, Any]) -> list[Finding]:
    """A warning for each key of the space whose trials may not be compared by accuracy alone."""
    reasons = {}
    for key in recipe.space:
        mark = mark_of(key_type(key, argument_types))
        if isinstance(mark, Costly):
            reasons[key] = f"{mark.reason}, and only accuracy ranks the trials"
        elif key.startswith("data.") and ":" in recipe.data.name:
            reasons[key] = "if it changes the validation images, trials cannot be compared"
    return [
        Finding("space", "warn", f"{key} is searched: {reason}", where=key)
        for key, reason in reasons.items()
    ]


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
        return problems_from(error, schema=Recipe)
    settings = flatten(recipe.model_dump(exclude={"space"}))
    return [Problem(key, message) for key, message in conflicts(settings)]


def _read_space(
    table: Any, types: Mapping[str, Any] | None
) -> tuple[dict[str, Dimension], list[Problem]]:
    """Read `[space]`; without `types` the arguments of builders are read as they are written."""
    if not isinstance(table, dict):
        return {}, [Problem("space", f"must be a table (got {table!r})")]
    space: dict[str, Dimension] = {}
    problems = []
    for key, written in _dimensions(table):
        if _is_searchable_section(key):
            problems.append(Problem(f"space.{key}", _no_dimension(key, written)))
            continue
        try:
            dimension = parse_dimension(written)
        except ValueError as error:
            problems.append(Problem(f"space.{key}", str(error)))
            continue
        declared = key_type(key, types or {})
        if isinstance(dimension, Range) and (declared is not Any or types is not None):
            ends = (dimension.low, dimension.high)
            whole = takes_whole_numbers(declared) and all(map(float.is_integer, ends))
            dimension = replace(dimension, integer=whole)
        space[key] = dimension
    return space, problems


def _fixed_keys(space: Space, types: Mapping[str, Any] | None) -> dict[str, str]:
    """The keys that no search may draw, with the reason; without `types` those of no trial alone.

    An older study may have drawn the others, and its space is still to be worked with.
    """
    fixed = {}
    for key in space:
        mark = mark_of(key_type(key.partition(".")[0], {}))
        if mark is None and types is not None:
            mark = mark_of(key_type(key, types))
        if isinstance(mark, Fixed):
            fixed[key] = mark.reason
    return fixed


def _checked_with(
    base: Mapping[str, Any], check_arguments: CheckArguments, tried: Mapping[str, Value]
) -> tuple[list[Problem], str]:
    """The problems of the recipe `base` with some values, else those of a trial with them.

    The text names the trial where it is the trial's.
    """

    def changed(more: Mapping[str, Value]) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(json.dumps(base))
        for key, value in more.items():
            set_key(values, key, value)
        return values

    values = changed(tried)
    problems = _schema_problems(values)
    if len(tried) == 1 or "model.name" in tried:  # else the values do not meet in a builder
        problems += check_arguments(values)
    if problems:
        return problems, ""
    recipe = Recipe.model_validate(values)
    text = f"in a trial of {recipe.search.epochs} epochs, which is search.epochs: "
    return _schema_problems(changed({**recipe._as_trial(), **tried})), text


def _dimensions(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """`{"train": {"lr": {"log": ...}}}` as `("train.lr", {"log": ...})`; quoted keys work too."""
    found = []
    for key, value in table.items():
        full = f"{prefix}{key}"
        if isinstance(value, dict) and value and _holds_keys(full, value):
            found += _dimensions(value, f"{full}.")
        else:
            found.append((full, value))
    return found


def _holds_keys(key: str, table: Mapping[str, Any]) -> bool:
    """Whether a table in the space holds keys of the recipe, and is no dimension itself."""
    if _is_searchable_section(key):
        return any(isinstance(value, dict) or name not in KINDS for name, value in table.items())
    return all(isinstance(value, dict) for value in table.values())


def _is_searchable_section(key: str) -> bool:
    """Whether a key names a table of the recipe of which some keys may be searched."""
    field = Recipe.model_fields.get(key)
    return field is not None and _is_section(field.annotation) and not mark_of(key_type(key, {}))


def _no_dimension(section: str, written: Any) -> str:
    """The message for a table of the recipe that is written as a key of the space."""
    owner = Recipe.model_fields[section].annotation
    names = owner.model_fields if _is_section(owner) else {}
    free = [name for name in names if not mark_of(key_type(f"{section}.{name}", {}))]
    example = f"space.{section}.{'lr' if 'lr' in free else free[0]}"
    return f"is a table whose keys may be searched, such as {example} (got {shown(written)})"


def set_key(values: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key in nested values, creating tables where needed."""
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
    """`train.lr: 0.05 there, 0.1 asked`, one per key in which two recipes differ."""
    new, old = flatten(asked.as_values()), flatten(stored.as_values())
    return [
        f"{key}: {old.get(key, 'nothing')} there, {new.get(key, 'nothing')} asked"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
