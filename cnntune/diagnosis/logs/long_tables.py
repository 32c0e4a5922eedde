"""Long tables: a row per value, with the name of its metric, as Aim, Comet and MLflow export them.

epoch,metric,value                                run.hash,metric.name,context.subset,step,value
1,train_loss,2.1                                  abc,loss,train,0,2.1
1,val_loss,2.3                                    abc,loss,val,0,2.3
"""

import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from cnntune.diagnosis.logs.cells import as_number
from cnntune.diagnosis.logs.names import CURVES, MODES, SPLITS, has_curves, meaning, words
from cnntune.diagnosis.logs.record import MAX_POINTS, Point, Record

# The names of the columns, in lower case and without what separates words.
KEYS = words("name metric key tag metricname metrickey variable series")
VALUES = words("value metricvalue scalar scalarvalue")
SUBSETS = MODES | words("context contextsubset")
RUNS = words("run runid runhash runuuid runname experiment experimentid experimentkey trialid")
SEPARATORS = ",;\t|"
NOT_LETTER = re.compile(r"[^a-z]+")
MAX_HEADER_LENGTH = 1000  # characters; a long table has few columns
MIN_ROWS = 3  # of one metric; fewer are no curve
ORDER = "no column counts epochs or steps: the values of each metric are counted in their order"


@dataclass
class _Metric:
    """The values of one metric of one run, with what counts them, in the order of the rows."""

    epochs: list[float | None] = field(default_factory=list)
    steps: list[float | None] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


def read(text: str) -> list[Record]:
    """The runs of a long table in a text; an empty list for any other text."""
    header = text.partition("\n")[0]
    if len(header) > MAX_HEADER_LENGTH or "value" not in header.lower():
        return []
    for separator in SEPARATORS:
        names = [name.strip() for name in header.split(separator)]
        if _roles(names):
            return read_rows(_dicts(text, separator))
    return []


def is_row(row: Mapping[str, Any]) -> bool:
    """Whether a row has the keys of a long table."""
    return bool(_roles(list(row)))


def read_rows(rows: Sequence[Mapping[str, Any]]) -> list[Record]:
    """The runs of rows with the same keys; an empty list where these are not a long table."""
    roles = _roles(list(rows[0])) if rows else {}
    if not roles:
        return []
    runs: dict[str, dict[str, _Metric]] = {}
    for row in rows[:MAX_POINTS]:
        value = as_number(row.get(roles["value"]))
        key = row.get(roles["key"])
        if value is None or not isinstance(key, str):
            continue
        run = str(row.get(roles.get("run", ""), ""))
        subset = _subset(row.get(roles.get("subset", "")))
        if run.lower() in SPLITS:  # TensorBoard's runs `train` and `validation`
            run, subset = "", run
        name = f"{subset}/{key}" if subset and not meaning(key).split else key
        metric = runs.setdefault(run, {}).setdefault(name, _Metric())
        metric.epochs.append(as_number(row.get(roles.get("epoch", ""))))
        metric.steps.append(as_number(row.get(roles.get("step", ""))))
        metric.values.append(value)
    found = [
        _record(metrics, run if len(runs) > 1 else "")
        for run, metrics in runs.items()
        if has_curves(name for name, metric in metrics.items() if len(metric.values) >= MIN_ROWS)
    ]
    return [record for record in found if record.columns]


def _roles(names: Sequence[str]) -> dict[str, str]:
    """The columns that hold the key, the value and the count; empty where the table is not long.

    A table with a column that is a curve itself is not.
    """
    if any(meaning(name).kind in CURVES for name in names):
        return {}
    roles: dict[str, str] = {}
    for name in names:
        plain = NOT_LETTER.sub("", name.lower())
        kinds = {"key": KEYS, "value": VALUES, "subset": SUBSETS, "run": RUNS}
        for role, known in kinds.items():
            if plain in known:
                roles.setdefault(role, name)
        if (kind := meaning(name).kind) in ("epoch", "step"):
            roles.setdefault(kind, name)
    return roles if {"key", "value"} <= set(roles) else {}


def _dicts(text: str, separator: str) -> list[dict[str, str]]:
    """The rows of a table by column; a truncated last line is skipped."""
    complete = text[: text.rfind("\n") + 1].replace("\0", "")
    try:
        return [
            {str(name).strip(): str(cell).strip() for name, cell in row.items()}
            for row in _rows(complete, separator)
        ]
    except csv.Error:
        return []


def _rows(text: str, separator: str) -> Iterator[dict[str, str]]:
    header, *lines = text.split("\n")
    names = [name.strip() for name in header.split(separator)]
    for cells in csv.reader(lines, delimiter=separator):
        if len(cells) == len(names):
            yield dict(zip(names, cells, strict=True))


def _subset(value: Any) -> str:
    """The split of a row, from a cell or from Aim's `{"subset": "train"}`."""
    if isinstance(value, Mapping):
        value = next(iter(value.values()), "")
    return str(value) if str(value).lower() in SPLITS else ""


def _record(metrics: Mapping[str, _Metric], part: str) -> Record:
    """A run with its metrics by epoch, or by step where an epoch has several values of one."""
    by_epoch = [_points(metric.epochs, metric.values) for metric in metrics.values()]
    by_step = [_points(metric.steps, metric.values) for metric in metrics.values()]
    axis: Literal["epoch", "step"] = "epoch"
    chosen = by_epoch
    notes: tuple[str, ...] = ()
    if any(by_step) and (not any(by_epoch) or not all(map(_one_each, by_epoch))):
        axis, chosen = "step", by_step
    elif not any(by_epoch):
        chosen = [
            [(float(at), value) for at, value in enumerate(metric.values, start=1)]
            for metric in metrics.values()
        ]
        notes = (ORDER,)
    columns = {name: points for name, points in zip(metrics, chosen, strict=True) if points}
    return Record("long table", columns, axis=axis, part=part, notes=notes)


def _points(counts: Sequence[float | None], values: Sequence[float]) -> list[Point]:
    return [
        (count, value)
        for count, value in zip(counts, values, strict=True)
        if count is not None and math.isfinite(count)
    ]


def _one_each(points: Sequence[Point]) -> bool:
    return len({at for at, _ in points}) == len(points)
