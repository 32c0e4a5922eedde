"""From the columns of a record to one curve on one grid of epochs."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median
from typing import Literal

from cnntune.diagnosis.curve import MIN_POINTS, Curve
from cnntune.diagnosis.logs.choose import Choice
from cnntune.diagnosis.logs.names import SIGNED, meaning, words_of
from cnntune.diagnosis.logs.record import Point, Record

# Fractions are at most 1, up to rounding, and percentages at most a hundred times that.
MAX_FRACTION = 1.001
WORD_ERRORS = frozenset({"wer", "cer"})  # insertions can make these exceed 1
MIN_PERCENTAGE = 1.5  # where the median of such an error is above this, it is in percent

PERPLEXITY = frozenset({"ppl", "perplexity"})

MAX_PLACEHOLDERS = 0.2  # of a loss; more zeros at its start are values, perhaps rounded
MIN_STEPS_PER_EPOCH = 3  # a train curve this many times longer than validation counts steps
LONE_EVALUATION = 0.1  # of the usual gap: between evaluations this close nothing was trained

Points = Sequence[Point]


@dataclass(frozen=True)
class Aligned:
    """The curve of a run, the columns that it was made from, and notes on how.

    `percents` are the accuracies that the log holds in percent.
    """

    curve: Curve
    columns: dict[str, str]
    notes: tuple[str, ...]
    percents: frozenset[str] = frozenset()


def align(record: Record, choice: Choice, least: int = MIN_POINTS) -> Aligned:
    """The curve of a record, one entry per evaluation.

    What was logged more often than validation is averaged since the previous evaluation. With fewer
    than `least` evaluations, the points of the train loss are the grid.
    """
    notes = [*record.notes, *choice.guesses]
    percents: set[str] = set()
    series: dict[str, list[Point]] = {
        role: _series(record, choice, role, notes, percents)
        for role in ("train_loss", "val_loss", "train_acc", "val_acc", "lr")
        if role in choice.columns
    }
    series = {role: points for role, points in series.items() if points}
    if ordered := _by_order(series, least):
        notes.append(f"fewer than {least} epochs: the unit is the printed value")
        series, record = ordered, replace(record, axis="step")
    series |= _in_nats(choice, series, notes)
    held_out = [series[role] for role in ("val_loss", "val_acc") if role in series]
    series |= _counted_alike(record, series, held_out, notes)
    grid = _grid(series, held_out, notes, least)
    validated = any(_entries(points) >= least for points in held_out)
    values = {
        role: (
            _last(points, grid)
            if role == "lr" or (role.startswith("val") and validated)
            else _mean(points, grid)
            if validated
            else _nearest(points if role.startswith("val") else _mean_of_each(points), grid)
        )
        for role, points in series.items()
    }
    epochs = _epochs(record, choice, grid, notes)
    columns = {role: " + ".join(choice.columns[role]) for role in series}
    steps = record.axis == "step" and epochs == grid
    unit: Literal["epoch", "step"] = "step" if steps else "epoch"
    curve = Curve(epochs, **values, unit=unit)  # type: ignore[arg-type]  # the names of lists
    return Aligned(curve, columns, tuple(dict.fromkeys(notes)), frozenset(percents))


def _by_order(series: dict[str, list[Point]], least: int) -> dict[str, list[Point]]:
    """The curves of fewer than `least` epochs by the order of their values, where these are many.

    Curves with another number of values are left out. Empty where nothing has to be changed.
    """
    longest = max(map(len, series.values()), default=0)
    entries = max(map(_entries, series.values()), default=0)
    if entries >= least or longest < least * MIN_STEPS_PER_EPOCH:
        return {}
    return {
        role: [(float(at), value) for at, (_, value) in enumerate(points, start=1)]
        for role, points in series.items()
        if len(points) == longest
    }


def _entries(points: Points) -> int:
    """The number of distinct epochs or steps of the points."""
    return len({at for at, _ in points})


def _in_nats(
    choice: Choice, series: dict[str, list[Point]], notes: list[str]
) -> dict[str, list[Point]]:
    """A perplexity as its logarithm, the cross-entropy, where the other curve is a loss."""
    perplexities = [
        role
        for role in ("train_loss", "val_loss")
        if role in series and PERPLEXITY & set(words_of(choice.columns[role][0]))
    ]
    if len(perplexities) != 1 or not {"train_loss", "val_loss"} <= set(series):
        return {}
    (role,) = perplexities
    if any(value <= 0 for _, value in series[role]):
        return {}
    notes.append(f"{role} is the logarithm of {choice.columns[role][0]!r}, as the other one is")
    return {role: [(at, math.log(value)) for at, value in series[role]]}


def _counted_alike(
    record: Record, series: dict[str, list[Point]], held_out: Sequence[Points], notes: list[str]
) -> dict[str, list[Point]]:
    """Train curves that count steps, rescaled to the epochs that validation counts."""
    epochs = [x for x, _ in max(held_out, key=_entries, default=())]
    one_each = all(b - a == 1 for a, b in pairwise(epochs)) and len(epochs) >= MIN_POINTS
    if record.axis != "step" or not one_each or epochs[0] not in (0, 1):
        return {}
    spread = {}
    for role in ("train_loss", "train_acc", "lr"):
        points = series.get(role, [])
        if len(points) >= MIN_POINTS and points[-1][0] >= MIN_STEPS_PER_EPOCH * (epochs[-1] + 1):
            scale = epochs[-1] / points[-1][0]
            spread[role] = [(step * scale, value) for step, value in points]
            notes.append(f"{role} counts steps and validation epochs: rescaled to end together")
    return spread


def _series(
    record: Record, choice: Choice, role: str, notes: list[str], percents: set[str]
) -> list[Point]:
    """The sorted points of a role: loss components summed, accuracies as fractions correct.

    The role is added to `percents` where its accuracies are percentages.
    """
    names = choice.columns[role]
    points = sorted(record.columns[names[0]], key=lambda point: point[0])
    if len(names) > 1:
        components = [dict(record.columns[name]) for name in names]
        steps = [step for step in components[0] if all(step in part for part in components)]
        points = [(step, sum(part[step] for part in components)) for step in sorted(steps)]
        notes.append(f"{role} is the sum of {len(names)} columns")
    if role.endswith("loss"):
        return _without_placeholders(points, role, names[0], record, notes)
    if role.endswith("acc"):
        scale = _scale(points, names[0], record, notes)
        if scale == 0:
            return []
        if scale > 1:
            percents.add(role)
        error = role in choice.errors
        return [(x, 1 - value / scale if error else value / scale) for x, value in points]
    return points


def _without_placeholders(
    points: list[Point], role: str, name: str, record: Record, notes: list[str]
) -> list[Point]:
    """A loss without the zeros that stand where none was measured.

    That is so of a few zeros before the first other value, and of a validation loss that is always
    zero although other losses are not. Any other loss of exactly zero is a value.
    """
    first = next((at for at, (_, value) in enumerate(points) if value != 0), len(points))
    if first == 0:
        return points
    if first < len(points):
        if first > len(points) * MAX_PLACEHOLDERS:
            return points
        notes.append(f"skipped {first} zero(s) at the start of {name!r}: taken for placeholders")
        return points[first:]
    others = (
        value
        for other, values in record.columns.items()
        if other != name and meaning(other).kind == "loss"
        for _, value in values
    )
    if role != "val_loss" or len(points) < MIN_POINTS or not any(others):
        return points
    notes.append(f"skipped {name!r}: it is always 0, so it was not measured")
    return []


def _scale(points: list[Point], name: str, record: Record, notes: list[str]) -> int:
    """What accuracies or errors have to be divided by: 1, or 100 where they are percentages.

    0 of values that can be neither.
    """
    finite = [value for _, value in points if math.isfinite(value)]
    if not finite:
        return 1
    words = set(words_of(name))
    if min(finite) < 0 and not words & SIGNED:
        notes.append(f"skipped {name!r}: it reaches {min(finite):g}, so it is not an accuracy")
        return 0
    known_percent = record.percent and meaning(name).rank < 1 and name not in record.fractions
    if words & WORD_ERRORS:
        return 100 if median(finite) > MIN_PERCENTAGE else 1
    if max(finite) > 100 * MAX_FRACTION:
        notes.append(f"skipped {name!r}: it reaches {max(finite):g}, so it is not an accuracy")
        return 0
    return 100 if max(finite) > MAX_FRACTION or known_percent else 1


def _grid(
    series: dict[str, list[Point]], held_out: Sequence[Points], notes: list[str], least: int
) -> list[float]:
    """The epochs or steps at which the curve has its entries."""
    train = [points for role, points in series.items() if role.startswith("train")]
    longest = max(held_out, key=_entries, default=())
    if _entries(longest) < least:
        longest = max([*train, longest], key=_entries, default=())
        return sorted({step for step, _ in longest})
    grid = sorted({step for step, _ in longest})
    gaps = [b - a for a, b in pairwise(grid)]
    if (
        len(gaps) > 1
        and gaps[-1] < LONE_EVALUATION * median(gaps)
        and not any(grid[-2] < step < grid[-1] for points in train for step, _ in points)
    ):
        notes.append("skipped the last evaluation: nothing was trained since the one before")
        grid.pop()
    beyond = [points for points in train if points[-1][0] > grid[-1]]
    if any(not math.isfinite(points[-1][1]) for points in beyond):
        grid.append(
            max(points[-1][0] for points in beyond)
        )  # diverged, with no validation afterwards
    return grid


def _last(points: Points, grid: Sequence[float]) -> list[float | None]:
    """The last value in each interval of the grid."""
    return [inside[-1][1] if inside else None for inside in _intervals(points, grid)]


def _mean(points: Points, grid: Sequence[float]) -> list[float | None]:
    """The mean over each interval; NaN or infinity where the interval ends with it.

    A column with as many points as the grid was logged once per evaluation, perhaps a little later,
    and is matched point by point.
    """
    if len(points) == len(grid) and _near(points, grid):
        return [value for _, value in points]
    means: list[float | None] = []
    for inside in _intervals(points, grid):
        finite = [value for _, value in inside if math.isfinite(value)]
        if not inside or not math.isfinite(inside[-1][1]):
            means.append(inside[-1][1] if inside else None)
        else:
            means.append(sum(finite) / len(finite))
    return means


def _mean_of_each(points: Points) -> list[Point]:
    """One point per epoch or step: the mean of its finite values, such as those of its batches.

    Where the last value is NaN or infinite, the epoch ended with it.
    """
    together: dict[float, list[float]] = {}
    for at, value in points:
        together.setdefault(at, []).append(value)
    means = []
    for at, values in together.items():
        finite = [value for value in values if math.isfinite(value)]
        ended = math.isfinite(values[-1])
        means.append((at, sum(finite) / len(finite) if ended else values[-1]))
    return means


def _near(points: Points, grid: Sequence[float]) -> bool:
    half = median(b - a for a, b in pairwise(grid)) / 2 if len(grid) > 1 else 0.0
    return all(abs(step - at) <= half for (step, _), at in zip(points, grid, strict=True))


def _nearest(points: Points, grid: Sequence[float]) -> list[float | None]:
    """Each value at the nearest entry of the grid; of several the last is used."""
    values: list[float | None] = [None] * len(grid)
    for step, value in points:
        index = bisect_right(grid, step) - 1
        if index + 1 < len(grid) and (index < 0 or grid[index + 1] - step < step - grid[index]):
            index += 1
        values[index] = value
    return values


def _intervals(points: Points, grid: Sequence[float]) -> list[list[Point]]:
    """For each entry of the grid, the points after the previous entry and up to this one."""
    intervals: list[list[Point]] = [[] for _ in grid]
    index = 0
    for point in points:
        while index < len(grid) and point[0] > grid[index]:
            index += 1
        if index == len(grid):
            break
        intervals[index].append(point)
    return intervals


def _epochs(record: Record, choice: Choice, grid: Sequence[float], notes: list[str]) -> list[float]:
    """The epoch of each entry where epochs were logged, else its step."""
    if "epoch" in choice.columns:
        points = sorted(record.columns[choice.columns["epoch"][0]], key=lambda point: point[0])
        known = _last(points, grid)
        steps = [step for step, _ in points]
        filled = [
            epoch if epoch is not None else points[max(0, bisect_right(steps, at) - 1)][1]
            for epoch, at in zip(known, grid, strict=True)
        ]
        if all(map(math.isfinite, filled)) and all(a < b for a, b in pairwise(filled)):
            return filled
    steps_look_like_epochs = (
        grid and grid[0] in (0, 1) and all(b - a == 1 for a, b in pairwise(grid))
    )
    if record.axis == "step" and not steps_look_like_epochs:
        notes.append("the unit is the step: no column counts epochs")
    return list(grid)
