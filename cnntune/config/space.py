"""Search spaces as plain values: dimensions, draws, narrowing, edges (lecture steps 4 and 5).

A trial's values depend on (study seed, slot, key) alone. One worker or eight, stopped or not,
a study draws the same values; a new key leaves the draws of the others as they were.
"""

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from cnntune.seeds import derive_seed

Value = bool | int | float | str
Sampler = Literal["random", "qmc", "tpe", "gp", "grid"]
Pruner = Literal["none", "halving", "hyperband", "median"]
KINDS = ("log", "uniform", "choice")
SIGNIFICANT_DIGITS = 4  # of a drawn number, so that the value printed is the value trained
NARROW_MARGIN = 0.1  # of the old range, kept on both sides of the strong trials' values
DECADE = 10.0
EDGE = 0.1  # of a range: a best value this close to an end may lie beyond it


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included, uniform in value or in logarithm."""

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def at(self, position: float) -> int | float:
        """The number at `position` 0 (low) ... 1 (high)."""
        # An integer stands for the stretch up to the next one, the last one's included.
        high = self.high + 1 if self.integer else self.high
        if self.log:
            value = self.low * math.pow(high / self.low, position)
        else:
            value = self.low + (high - self.low) * position
        if self.integer:
            return min(max(math.floor(value), int(self.low)), int(self.high))
        return min(max(float(f"{value:.{SIGNIFICANT_DIGITS}g}"), self.low), self.high)

    def position(self, value: float) -> float:
        """Where `value` lies: 0 at low, 1 at high; a logarithm puts 0 infinitely far below."""
        if self.high == self.low:
            return 0.5
        if self.log:
            if value <= 0:
                return -math.inf
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def as_toml(self) -> dict[str, Any]:
        """The dimension as it is written in a recipe."""
        number = int if self.integer else float  # TOML and JSON keep which of them it is
        ends = [number(self.low), number(self.high)]
        return {"log" if self.log else "uniform": ends}

    def __str__(self) -> str:
        return f"{self.low:.3g} ... {self.high:.3g}" + (" (log)" if self.log else "")


@dataclass(frozen=True)
class Choice:
    """One of a few values."""

    options: tuple[Value, ...]

    def at(self, position: float) -> Value:
        """The option at `position` 0 ... 1."""
        return self.options[min(int(position * len(self.options)), len(self.options) - 1)]

    def as_toml(self) -> dict[str, Any]:
        """The dimension as it is written in a recipe."""
        return {"choice": list(self.options)}

    def __str__(self) -> str:
        return " | ".join(str(option) for option in self.options)


Dimension = Range | Choice
Space = Mapping[str, Dimension]


def parse_dimension(table: Any) -> Dimension:
    """Read `{ log = [1e-4, 1e-1] }`, `{ uniform = [0, 0.5] }` or `{ choice = [64, 128] }`.

    A range is over integers if both ends are written so, as `as_toml` writes them. The
    type of the key, where it is known, replaces that.

    Raises `ValueError` with what was found and what is allowed.
    """
    if not isinstance(table, dict) or len(table) != 1 or next(iter(table)) not in KINDS:
        raise ValueError(
            "must be { log = [low, high] }, { uniform = [low, high] } or { choice = [...] }"
            f" (got {table!r})"
        )
    kind, values = next(iter(table.items()))
    if kind == "choice":
        return _parse_choice(values)
    numbers = isinstance(values, list) and len(values) == 2 and all(map(_is_number, values))
    if not numbers or not values[0] < values[1]:
        raise ValueError(f"{kind} needs two numbers, the lower one first (got {values!r})")
    if kind == "log" and values[0] <= 0:
        raise ValueError(f"log needs numbers > 0 (got {values!r})")
    whole = all(isinstance(value, int) for value in values)
    return Range(float(values[0]), float(values[1]), log=kind == "log", integer=whole)


def _parse_choice(values: Any) -> Choice:
    if not isinstance(values, list) or not values:
        raise ValueError(f"choice needs a list of at least one value (got {values!r})")
    if not all(isinstance(value, bool | int | float | str) for value in values):
        raise ValueError(f"choice takes numbers, strings, true and false (got {values!r})")
    if len({(type(value), value) for value in values}) < len(values):
        raise ValueError(f"choice names a value twice (got {values!r})")
    return Choice(tuple(values))


def _is_number(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and math.isfinite(value)
    except (TypeError, OverflowError):
        return False


def draw(space: Space, *, seed: int, slot: int) -> dict[str, Value]:
    """The values of trial `slot`: uniform over each dimension, independent of each other.

    Random, not a grid: with few dimensions that matter, every trial tries a new value of each
    (Bergstra and Bengio 2012; CS231n, "random search vs. grid search").
    """
    return {
        key: dimension.at(random.Random(derive_seed(seed, slot, key)).random())
        for key, dimension in space.items()
    }


def narrow(space: Space, strong: Sequence[Mapping[str, Value]]) -> dict[str, Dimension]:
    """The part of `space` around the values of the strong trials (lecture step 5).

    A range keeps what the strong trials span plus a margin; a choice keeps what they chose.
    """
    return {
        key: _narrow_dimension(dimension, [values[key] for values in strong if key in values])
        for key, dimension in space.items()
    }


def _narrow_dimension(dimension: Dimension, values: Sequence[Value]) -> Dimension:
    if not values:
        return dimension
    if isinstance(dimension, Choice):
        kept = tuple(option for option in dimension.options if option in values)
        return Choice(kept) if kept else dimension
    positions = [dimension.position(float(value)) for value in values]
    low = dimension.at(max(0.0, min(positions) - NARROW_MARGIN))
    high = dimension.at(min(1.0, max(positions) + NARROW_MARGIN))
    if low == high:
        return Choice((low,))
    return replace(dimension, low=low, high=high)


@dataclass(frozen=True)
class Edge:
    """A best value at the end of its range, and a wider range that would show what lies beyond."""

    key: str
    value: float
    side: str  # lower or upper
    wider: Range
    outside: bool = False  # not within the range, as the best of a search may be for a refinement

    @property
    def place(self) -> str:
        """Where the value lies, as the words before "its range"."""
        if self.outside:
            return "below" if self.side == "lower" else "above"
        return f"at the {self.side} end of"

    @property
    def beyond(self) -> int | float:
        """The new end of the wider range."""
        return self.wider.at(0.0 if self.side == "lower" else 1.0)


def edges(space: Space, values: Mapping[str, Value]) -> list[Edge]:
    """The dimensions in which `values` lies within a tenth of an end of the range."""
    found = []
    for key, dimension in space.items():
        if not isinstance(dimension, Range) or key not in values:
            continue
        value = float(values[key])
        position = dimension.position(value)
        if math.isinf(position):
            continue  # a 0 that no range of logarithms reaches
        whole = replace(dimension, low=min(dimension.low, value), high=max(dimension.high, value))
        outside = not dimension.low <= value <= dimension.high
        if position <= EDGE:
            found.append(Edge(key, value, "lower", _widen(whole, lower=True), outside))
        elif position >= 1 - EDGE:
            found.append(Edge(key, value, "upper", _widen(whole, lower=False), outside))
    return found


def hull(spaces: Sequence[Space]) -> dict[str, Dimension]:
    """The first space, its ranges widened to what the others hold: all that was searched."""
    return {
        key: _hull(dimension, [space[key] for space in spaces[1:] if key in space])
        for key, dimension in (spaces[0] if spaces else {}).items()
    }


def _hull(dimension: Dimension, others: Sequence[Dimension]) -> Dimension:
    if not isinstance(dimension, Range):
        return dimension
    ranges = [other for other in others if isinstance(other, Range) and other.log == dimension.log]
    low = min([dimension.low, *(other.low for other in ranges)])
    high = max([dimension.high, *(other.high for other in ranges)])
    return replace(dimension, low=low, high=high)


def _widen(dimension: Range, *, lower: bool) -> Range:
    """A decade further, or half as wide again where the range is not logarithmic."""
    step = (dimension.high - dimension.low) / 2
    if lower:
        low = dimension.low / DECADE if dimension.log else dimension.low - step
        return replace(dimension, low=_end(dimension, low))
    high = dimension.high * DECADE if dimension.log else dimension.high + step
    return replace(dimension, high=_end(dimension, high))


def _end(dimension: Range, value: float) -> float:
    return float(round(value)) if dimension.integer else float(f"{value:.2g}")


def toml(dimension: Dimension) -> str:
    """The dimension as it is typed after `--set space.KEY=`."""
    kind, values = next(iter(dimension.as_toml().items()))
    written = ", ".join(f"{v:.12g}" if isinstance(v, float) else json.dumps(v) for v in values)
    return f"{{ {kind} = [{written}] }}"
