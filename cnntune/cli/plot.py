"""Curves as characters: two lines in one frame, told apart by their marks and not by colour."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cnntune.diagnosis.curve import Curve, Series

HEADROOM = 1.5  # times the first value: higher peaks are cut off, else they would flatten the rest
LABEL_WIDTH = 8


@dataclass(frozen=True)
class Marks:
    """The characters of a plot."""

    train: str
    val: str
    best: str
    corner: str
    axis: str
    base: str


UNICODE = Marks(train="·", val="●", best="▲", corner="└", axis="│", base="─")
ASCII = Marks(train=".", val="o", best="^", corner="+", axis="|", base="-")


def plot(
    curve: Curve, *, best_epoch: float | None, width: int, height: int, marks: Marks = UNICODE
) -> list[str]:
    """The training and validation losses over epochs, or accuracies where there are no losses.

    Returns lines of at most `width` characters: `height` of the frame, the axis, and a legend.
    Empty where nothing finite was logged.
    """
    what = "loss" if _series(curve, "loss") else "acc"
    series = _series(curve, what)
    if not series:
        return []
    epochs = [epoch for line in series.values() for epoch in line.epochs]
    first, last = min(epochs), max(epochs)
    low, high = _limits(list(series.values()), cut=what == "loss")
    columns = max(2, width - LABEL_WIDTH - 2)
    grid = [[" "] * columns for _ in range(height)]
    for name, line in series.items():  # val comes last, on top
        for column in range(columns):
            epoch = first + (last - first) * column / (columns - 1)
            value = _at(line, epoch)
            if value is not None:
                grid[_row(value, low, high, height)][column] = getattr(marks, name)
    lines = [
        f"{_label(row, low, high, height):>{LABEL_WIDTH}} {marks.axis}{''.join(cells)}".rstrip()
        for row, cells in enumerate(grid)
    ]
    base = [marks.base] * columns
    if best_epoch is not None and last > first:
        base[round((best_epoch - first) / (last - first) * (columns - 1))] = marks.best
    lines.append(" " * (LABEL_WIDTH + 1) + marks.corner + "".join(base))
    lines.append(_epochs_line(first, last, columns))
    names = [f"{getattr(marks, name)} {name} {what}" for name in series]
    if best_epoch is not None:
        names.append(f"{marks.best} best {curve.unit} {best_epoch:g}")
    lines.append(" " * (LABEL_WIDTH + 2) + "   ".join(names))
    return lines


def _series(curve: Curve, what: str) -> dict[str, Series]:
    found = {name: curve.series(f"{name}_{what}") for name in ("train", "val")}
    return {name: series for name, series in found.items() if len(series)}


def _limits(series: Sequence[Series], *, cut: bool) -> tuple[float, float]:
    """The lowest and highest value shown."""
    values = [value for line in series for value in line.values]
    low, high = min(values), max(values)
    if cut:
        high = min(high, HEADROOM * max(line.values[0] for line in series))
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _at(line: Series, epoch: float) -> float | None:
    """The value at `epoch`, between its neighbours; None outside the line."""
    if not line.epochs[0] <= epoch <= line.epochs[-1]:
        return None
    after = next(index for index, at in enumerate(line.epochs) if at >= epoch)
    if line.epochs[after] == epoch or after == 0:
        return line.values[after]
    start, end = line.epochs[after - 1], line.epochs[after]
    share = (epoch - start) / (end - start)
    return line.values[after - 1] * (1 - share) + line.values[after] * share


def _row(value: float, low: float, high: float, height: int) -> int:
    """0 is the top."""
    share = (min(value, high) - low) / (high - low)
    return height - 1 - math.floor(share * (height - 1) + 0.5)


def _label(row: int, low: float, high: float, height: int) -> str:
    """The value beside the top, middle and bottom rows."""
    if row not in (0, height // 2, height - 1):
        return ""
    return f"{low + (high - low) * (height - 1 - row) / (height - 1):.3g}"


def _epochs_line(first: float, last: float, columns: int) -> str:
    left, right = f"{first:g}", f"{last:g}"
    gap = max(1, columns - len(left) - len(right))
    return " " * (LABEL_WIDTH + 2) + left + " " * gap + right
