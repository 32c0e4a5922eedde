"""One run's learning curves as plain lists, and the robust statistics that the rules compare.

Real logs hold outliers, gaps and quantised accuracies, so everything here uses medians and ranks
rather than means, single points or least squares.
"""

import math
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import pairwise
from statistics import median
from typing import Any, Literal, cast

from cnntune.runs.chance import Chance

MIN_POINTS = 3  # two points show a direction, not a shape
MANY_POINTS = 10  # from here on the lag of a rolling median does not matter

END_FRACTION = 0.1  # of the points: their median is the final value of a curve
SMOOTH_FRACTION = 0.05  # of the points: the window of the rolling median on a long curve
MIN_SMOOTH_POINTS = 3  # the shortest window whose median ignores one outlier
TREND_FRACTION = 1 / 3  # of the points: the trend of the last third is extrapolated
MIN_TREND_POINTS = 5  # with fewer, the noise of small validation sets dominates
MAX_SLOPE_POINTS = 100  # pairwise slopes cost n^2, and more points hardly change the median
MAX_SCALE = 10.0  # between the first losses on train and on val, where they share a unit
MAX_LOG = math.log(1e6)  # nats; a loss that is rounded to 0 would be infinitely far below
MAX_SORTED_WINDOW = 9  # values; a longer window is not sorted anew for each value
STEP_SIZE = 0.954  # of a standard deviation: the median step between two normal values, by tables
NO_LISTS = ("epochs", "unit", "one_unit")  # fields of a curve that are none of its values

Values = Sequence[float | None]


@dataclass(frozen=True)
class Curve:
    """The curves of one run, one entry per epoch (or per evaluation) in each list.

    None is a value that was not logged; NaN and infinity are values. Where a list is empty or ends
    early, the rest counts as not logged. Losses may be in any unit as long as train and val share
    it, which `one_unit` says; accuracies, or any score where more is better, are in 0..1. `unit` is
    what `epochs` counts: steps where the log does not count epochs.
    """

    epochs: Sequence[float]
    train_loss: Values = ()
    val_loss: Values = ()
    train_acc: Values = ()
    val_acc: Values = ()
    lr: Values = ()
    unit: Literal["epoch", "step"] = field(default="epoch", kw_only=True)
    one_unit: bool = field(default=True, kw_only=True)

    def series(self, name: str) -> "Series":
        """The finite values of the list `name`, such as "val_loss", with their epochs."""
        if name not in self._series:
            self._series[name] = finite_series(self.epochs, getattr(self, name))
        return self._series[name]

    @cached_property
    def _series(self) -> "dict[str, Series]":
        """What `series` has found: each rule asks for the same ones."""
        return {}

    def end(self, name: str) -> float | None:
        """The final value of the list `name`: the median of its last tenth; None if not logged."""
        values = self.series(name).values
        return tail_median(values, END_FRACTION) if values else None


@dataclass(frozen=True)
class Series:
    """The finite values of one list, each with its epoch."""

    epochs: list[float]
    values: list[float]

    def __len__(self) -> int:
        return len(self.values)

    def until(self, epoch: float) -> list[float]:
        """The values up to `epoch`, that epoch included."""
        return [value for at, value in zip(self.epochs, self.values, strict=True) if at <= epoch]


@dataclass(frozen=True)
class Shape:
    """The numbers of a curve that rules compare; `train` and `val` fall as a run improves.

    They hold losses, or error rates (1 - accuracy) where no loss was logged, as their names say;
    `val` holds the train curve if nothing was validated. `smooth` is the rolling median of `val`,
    `best` the index of its minimum and `end` its final value. Differences are measured as shares of
    what was learned, `range`, so that the unit of a loss does not matter. `chance` is
    what guessing gives on the validation set, None where that is not known.
    """

    curve: Curve
    train: Series
    train_name: str
    val: Series
    val_name: str
    smooth: list[float]
    best: int
    end: float
    chance: Chance | None = None

    @property
    def has_both(self) -> bool:
        """Whether a train and a val curve were logged."""
        return self.val_name.startswith("val") and len(self.train) >= MIN_POINTS

    @cached_property
    def start(self) -> float:
        """Where `val` began: the maximum of its first quarter."""
        return max(self.smooth[: max(1, len(self.smooth) // 4)])

    @cached_property
    def range(self) -> float:
        """What was learned: how far `val` fell from its start to its minimum."""
        return self.start - min(self.smooth)

    @cached_property
    def rise(self) -> float:
        """How far `val` ends above its minimum."""
        return self.end - self.smooth[self.best]

    @property
    def second_half(self) -> float:
        """How far `val` fell from the middle of the run to its end."""
        return tail_median(self.smooth[: (len(self.smooth) + 1) // 2], END_FRACTION) - self.end

    @property
    def last_third(self) -> Sequence[float]:
        """The last third of `val`, but at least `MIN_TREND_POINTS` values."""
        return last_third(self.val.values)

    @cached_property
    def trend(self) -> float:
        """How far `val` fell over the last third, by its median slope; negative if it rose."""
        return fall(self.last_third)

    @cached_property
    def train_end(self) -> float:
        """The final value of the train curve."""
        return tail_median(self.train.values, END_FRACTION)

    @property
    def train_fall(self) -> float:
        """How far the train curve fell, as a fraction of its first value."""
        return fraction(self.train.values[0] - self.train_end, self.train.values[0])

    @property
    def val_fall(self) -> float:
        """How far `val` fell, as a fraction of its first value."""
        return fraction(self.val.values[0] - self.end, self.val.values[0])

    @property
    def comparable(self) -> bool:
        """Whether `train` and `val` are in one unit: two losses, or two error rates."""
        alike = self.train_name.split()[1] == self.val_name.split()[1]
        return alike and (self.curve.one_unit or "error" in self.val_name)

    @cached_property
    def gap(self) -> float:
        """How far val ends above train: the share of what training learned that val did not follow.

        0.0 where both end alike, 1.0 where val never left its start, negative where val is ahead;
        0.0 too where the two cannot be compared: an error rate and a loss, or two losses that began
        a factor of `MAX_SCALE` apart, such as one summed over a batch.
        """
        if not self.has_both or not self.comparable:
            return 0.0
        firsts = sorted((abs(self.train.values[0]), abs(self.start)))
        if firsts[1] > MAX_SCALE * firsts[0]:
            return 0.0
        gap, learned = self.end - self.train_end, self.start - min(self.end, self.train_end)
        return gap / learned if learned > 0 else math.copysign(1.0, gap) if gap else 0.0

    @property
    def acc_gap(self) -> float | None:
        """Train accuracy minus val accuracy at the end."""
        train, val = self.curve.end("train_acc"), self.curve.end("val_acc")
        return None if train is None or val is None else train - val

    @property
    def best_epoch(self) -> float:
        """The epoch of the lowest `val`; the earliest if several are equal."""
        return self.val.epochs[self.val.values.index(min(self.val.values))]


def measure(curve: Curve, chance: Chance | None = None) -> Shape | None:
    """The shape of a curve; None where no list has `MIN_POINTS` finite values."""
    train_name, train = _longest_first(curve, ("train_loss", "train_acc"))
    val_name, val = _longest_first(curve, ("val_loss", "val_acc"))
    if len(val) < MIN_POINTS:
        val_name, val = train_name, train
    else:
        val = while_training(val, train)
    if len(val) < MIN_POINTS:
        return None
    min_window = MIN_SMOOTH_POINTS if len(val) >= MANY_POINTS else 1
    smooth = rolling_median(val.values, max(min_window, round(len(val) * SMOOTH_FRACTION)))
    return Shape(
        curve=curve,
        train=train,
        train_name=train_name,
        val=val,
        val_name=val_name,
        smooth=smooth,
        best=smooth.index(min(smooth)),
        end=tail_median(smooth, END_FRACTION),
        chance=chance,
    )


def _longest_first(curve: Curve, names: tuple[str, str]) -> tuple[str, Series]:
    """The loss, or the error rate where the loss has too few values."""
    loss, accuracy = (curve.series(name) for name in names)
    if len(loss) >= min(MIN_POINTS, len(accuracy)):
        return names[0].replace("_", " "), loss
    errors = [1 - value for value in accuracy.values]
    return names[1].replace("_acc", " error"), Series(accuracy.epochs, errors)


def without_duplicates(curve: Curve) -> Curve:
    """The curve of a log that writes every row twice, without every other row."""
    names = [field.name for field in fields(curve) if field.name not in NO_LISTS]
    columns: dict[str, Any] = {name: getattr(curve, name) for name in names}
    rows = len(curve.epochs)
    if rows < 2 * MIN_POINTS or rows % 2 or not all(map(_in_pairs, columns.values())):
        return curve
    halves = {name: column[1::2] for name, column in columns.items()}
    return replace(curve, epochs=curve.epochs[1::2], **halves)


def _in_pairs(values: Values) -> bool:
    """Whether values 1 and 2 are equal, 3 and 4, and so on; NaN counts as equal to NaN."""
    return len(values) % 2 == 0 and all(
        a == b or (a != a and b != b) for a, b in zip(values[0::2], values[1::2], strict=True)
    )


def while_training(val: Series, train: Series) -> Series:
    """`val` without one last evaluation after the end of training: that of the best weights."""
    if MIN_POINTS < len(val) == len(train) + 1 and val.epochs[-1] > train.epochs[-1]:
        return Series(val.epochs[:-1], val.values[:-1])
    return val


def known_loss(curve: Curve) -> str:
    """The name of the train loss if any number of it was logged, else that of the val loss."""
    return "train_loss" if len(curve.series("train_loss")) else "val_loss"


def row_lost(curve: Curve) -> bool:
    """Whether the last row alone holds NaN in every column, after at least `MIN_POINTS` rows.

    Loggers write such a row when a run is closed. A diverged run has two such rows, or the accuracy
    of guessing in the last one. cnntune itself writes such a row only for a diverged run.
    """
    losses = logged(getattr(curve, known_loss(curve)))
    if len(losses) <= MIN_POINTS or not math.isfinite(losses[-2]):
        return False
    columns = (curve.train_loss, curve.val_loss, curve.train_acc, curve.val_acc)
    ends = [column[-1] for column in columns if len(logged(column))]
    return not any(end is None or math.isfinite(end) for end in ends)


def logged(values: Values) -> list[float]:
    """The values that were logged, NaN and infinity among them."""
    return [value for value in values if value is not None]


def finite_series(epochs: Sequence[float], values: Values) -> Series:
    """The values that are numbers, with their epochs; missing, NaN and infinite ones dropped."""
    if len(epochs) == len(values) and None not in values:  # nearly always, and faster this way
        numbers = cast(Sequence[float], values)
        if all(map(math.isfinite, numbers)):
            return Series(list(epochs), list(numbers))
    kept = [
        (epoch, value)
        for epoch, value in zip(epochs, values, strict=False)
        if value is not None and math.isfinite(value)
    ]
    return Series([epoch for epoch, _ in kept], [value for _, value in kept])


def tail(values: Sequence[float], part: float) -> Sequence[float]:
    """The last `part` (0..1) of the values, at least one of them."""
    return values[-max(1, round(len(values) * part)) :]


def tail_median(values: Sequence[float], part: float) -> float:
    """The median of the last `part` of the values."""
    return median(tail(values, part))


def last_third(values: Sequence[float]) -> Sequence[float]:
    """The last third of the values, but at least `MIN_TREND_POINTS` of them."""
    return tail(values, max(TREND_FRACTION, min(1.0, MIN_TREND_POINTS / len(values))))


def fall(values: Sequence[float]) -> float:
    """How far the values fall from the first to the last, by their median slope."""
    return -slope(values) * len(values)


def fall_error(values: Sequence[float]) -> float:
    """The standard error of `fall` where the values scatter about a straight line.

    A slope fitted to n values of standard deviation s has the error s (12 / n^3)^0.5 per step; s is
    taken from the steps, without what the line itself adds to them.
    """
    line = slope(values)
    sizes = [abs(step - line) for step in steps(values)]
    return math.sqrt(12 / len(values)) * median(sizes) / STEP_SIZE if sizes else 0.0


def rolling_median(values: Sequence[float], window: int) -> list[float]:
    """The median of each value and the `window - 1` before it, fewer at the start."""
    if window % 2 and window <= MAX_SORTED_WINDOW and len(values) >= window:
        first = [median(values[: at + 1]) for at in range(window - 1)]
        shifted = (values[at:] for at in range(window))
        middle = window // 2
        return first + [sorted(inside)[middle] for inside in zip(*shifted, strict=False)]
    inside: list[float] = []  # the window, sorted
    medians = []
    for at, value in enumerate(values):
        if at >= window:
            del inside[bisect_left(inside, values[at - window])]
        insort(inside, value)
        middle = len(inside) // 2
        odd = len(inside) % 2
        medians.append(inside[middle] if odd else (inside[middle - 1] + inside[middle]) / 2)
    return medians


def steps(values: Sequence[float]) -> list[float]:
    """The differences from one value to the next, without those of exactly zero."""
    return [b - a for a, b in pairwise(values) if a != b]


def noise(values: Sequence[float]) -> float:
    """The median absolute step from one value to the next; 0.0 for a constant."""
    return median(map(abs, steps(values))) if len(set(values)) > 1 else 0.0


def scatter(values: Sequence[float]) -> float:
    """The median distance of a value from the mean of its neighbours; 0.0 on a straight line."""
    inner = range(1, len(values) - 1)
    return median(
        [abs(values[at] - (values[at - 1] + values[at + 1]) / 2) for at in inner] or [0.0]
    )


def log_ratio(above: float, below: float) -> float:
    """ln(above / below) in 0..MAX_LOG; 0.0 for a negative loss, whose zero means nothing."""
    if above <= below or below < 0:
        return 0.0
    return min(MAX_LOG, math.log(above / below)) if below > 0 else MAX_LOG


def slope(values: Sequence[float]) -> float:
    """Theil-Sen: the median slope over all pairs, per step; 0.0 for fewer than two values."""
    stride = max(1, math.ceil(len(values) / MAX_SLOPE_POINTS))
    picked = list(enumerate(values))[::stride]
    slopes = [
        (b - a) / (later - earlier)
        for index, (earlier, a) in enumerate(picked)
        for later, b in picked[index + 1 :]
    ]
    return median(slopes) if slopes else 0.0


def fraction(part: float, whole: float) -> float:
    """`part` in units of `abs(whole)`; 0.0 where `whole` is 0."""
    return part / abs(whole) if whole else 0.0
