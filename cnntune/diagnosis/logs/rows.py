"""From rows in the order they were written to runs: axes, restarts, resumed epochs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from cnntune.diagnosis.logs.names import CURVES, meaning
from cnntune.diagnosis.logs.record import MAX_POINTS, Point, Record

Row = Mapping[str, float]
Axis = Literal["epoch", "step"]

HEADER: Row = {}  # in the list of rows, marks a repeated header
MAX_RUNS = 1000  # per file; the rest is skipped with a note
EVALUATED_AGAIN = "evaluations of earlier epochs, after the last training, were skipped"
MIN_AXIS_SHARE = 0.5  # of the rows must have a value in the column that counts them


@dataclass
class Run:
    """The columns of one run; `again` holds the epochs or steps from which it was resumed."""

    columns: dict[str, list[Point]] = field(default_factory=dict)
    axis: Axis = "epoch"
    notes: list[str] = field(default_factory=list)
    again: list[float] = field(default_factory=list)
    first: float = -math.inf
    second: float = math.inf
    last: float = -math.inf
    names: frozenset[str] = frozenset()  # of the columns in the last row

    def add(self, x: float, row: Row, axis_column: str | None) -> None:
        """Append the values of a row."""
        if self.first == -math.inf:
            self.first = x
        elif x > self.first:
            self.second = min(self.second, x)
        self.last, self.names = x, frozenset(row)
        for name, value in row.items():
            if name != axis_column:
                self.columns.setdefault(name, []).append((x, value))

    def rewind(self, x: float) -> None:
        """Drop what was logged from `x` on: it is about to be logged again."""
        self.again.append(x)
        for points in self.columns.values():
            while points and points[-1][0] >= x:
                points.pop()

    def remarks(self) -> tuple[str, ...]:
        """The notes, and one on what was logged again."""
        if not self.again:
            return tuple(self.notes)
        points = ", ".join(f"{x:g}" for x in self.again[:3]) + ", ..." * (len(self.again) > 3)
        return (*self.notes, f"resumed at {self.axis} {points}: the later values are used")


def split_runs(rows: Iterable[Row], count: Axis | None = None) -> list[Run]:
    """The runs that the rows belong to, in order.

    Rows are counted by epoch, by step where an epoch has several rows, or else by their index from
    1. A count that returns to its start begins a new run; one that goes back less far means that
    the run was resumed, unless nothing is trained from there on: these are evaluations of earlier
    checkpoints. Without a count, a repeated header begins a new run. `count` is the column of that
    name, where it is known to count.
    """
    rows = list(rows)
    column, axis = (count, count) if count else _axis(rows)
    runs = [Run(axis=axis)]
    points, repeated = 0, False
    trained = max((at for at, row in enumerate(rows) if _trains(row)), default=len(rows))
    for at, row in enumerate(rows):
        run = runs[-1]
        if row is HEADER:
            if column is None and run.columns:
                runs.append(Run(axis=axis))
            repeated = True
            continue
        x = row.get(column, run.last) if column else _next(run)
        if not math.isfinite(x):
            continue  # before the first count: settings, or not a row of the table
        if x < run.last and at > trained:
            if EVALUATED_AGAIN not in run.notes:
                run.notes.append(EVALUATED_AGAIN)
            continue
        again = x == run.last and (repeated or _is_logged_again(row, run))
        back = x < run.last or again
        if back and x < run.second and (x < run.last or repeated):
            run = Run(axis=axis)
            runs.append(run)
        elif back:
            run.rewind(x)
        repeated = False
        points += len(row)
        if points > MAX_POINTS or len(runs) > MAX_RUNS:
            run.notes.append(f"only {MAX_POINTS} values and {MAX_RUNS} runs are read per file")
            break
        run.add(x, row, column)
    return [run for run in runs if run.columns]


def records(
    tool: str, rows: Iterable[Row], notes: Sequence[str] = (), count: Axis | None = None
) -> list[Record]:
    """The runs of the rows as records of `tool`; `notes` go to the last one; see `split_runs`."""
    runs = split_runs(rows, count)
    return [
        Record(
            tool,
            {name: points for name, points in run.columns.items() if points},
            run.axis,
            part=str(number) if len(runs) > 1 else "",
            notes=(*run.remarks(), *(notes if number == len(runs) else ())),
        )
        for number, run in enumerate(runs, start=1)
    ]


def _trains(row: Row) -> bool:
    """Whether a row holds a loss or a metric of training."""
    return any(
        its.split == "train" or (its.kind == "loss" and not its.split)
        for its in map(meaning, row)
        if its.kind in CURVES
    )


def _is_logged_again(row: Row, run: Run) -> bool:
    """Whether a row repeats the previous epoch as a whole, and is not another step of it."""
    if run.axis != "epoch" or frozenset(row) != run.names:
        return False
    splits = {known.split for known in map(meaning, row) if known.kind in CURVES}
    return bool(splits & {"val", "test"}) and bool(splits & {"train", ""})


def _next(run: Run) -> float:
    return run.last + 1 if run.columns else 1.0


def _axis(rows: list[Row]) -> tuple[str | None, Axis]:
    """The column that counts the rows, and what it counts."""
    counts: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            if meaning(name).kind in ("epoch", "step"):
                counts.setdefault(name, []).append(value)
    filled = sum(row is not HEADER for row in rows)
    usable = {
        name: v for name, v in counts.items() if len(v) >= MIN_AXIS_SHARE * filled and _varies(v)
    }
    epoch, step = (_best(usable, kind) for kind in ("epoch", "step"))
    if epoch and step and _several_rows_each(usable[epoch]) and not _restarts(rows, step, epoch):
        return step, "step"
    if epoch or not step:
        return epoch, "epoch"
    return step, "step"


def _varies(values: list[float]) -> bool:
    """Whether the column can be a count: a constant such as `epochs` cannot, a single row can."""
    return len(values) == 1 or any(value != values[0] for value in values)


def _best(columns: Iterable[str], kind: str) -> str | None:
    ranked = [(meaning(name).rank, name) for name in columns if meaning(name).kind == kind]
    return min(ranked, key=lambda pair: pair[0])[1] if ranked else None


def _several_rows_each(epochs: list[float]) -> bool:
    return any(a == b for a, b in pairwise(epochs))


def _restarts(rows: list[Row], step: str, epoch: str) -> bool:
    """Whether the steps restart in most epochs."""
    counted = [(row[epoch], row[step]) for row in rows if epoch in row and step in row]
    epochs = len({at for at, _ in counted})
    back = sum(b[0] >= a[0] and b[1] < a[1] for a, b in pairwise(counted))
    return back >= max(1, (epochs - 1) / 2)
