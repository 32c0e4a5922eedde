"""Histories as libraries keep them, as the plain values or the path that `diagnose` reads.

No library is imported: an object is recognised by the attributes that hold its history.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnntune.errors import DataError

NOT_CURVES = ("batches", "dur", "event_")  # keys that skorch adds to each epoch
MAX_WRAPPERS = 4  # a Trainer holds a state, which holds a list


def plain(history: Any) -> Any:
    """What an object holds: a path, a list of dicts, a dict of lists, or what it was.

    A Trainer and a TrainerState of Transformers hold `log_history`, a fitted Keras model and a
    skorch net hold `history`, a Lightning CSVLogger a `metrics.csv` in its `log_dir`, a fastai
    Learner a `recorder` with `values` and `metric_names`.
    """
    for _ in range(MAX_WRAPPERS):
        if isinstance(history, str | Path | Mapping) or _is_frame(history):
            break
        if isinstance(history, Sequence):
            break
        inner = _inner(history)
        if inner is None:
            break
        history = inner
    if isinstance(history, str | Path):
        return Path(history)
    if hasattr(history, "to_dicts") and _is_frame(history):  # polars
        history = history.to_dicts()
    if isinstance(history, Iterable) and not isinstance(history, Mapping | bytes):
        if _is_frame(history) or hasattr(history, "dtype"):
            return history
        return _without_gaps([_entry(entry) for entry in history if isinstance(entry, Mapping)])
    return history


def renamed(history: Any, columns: Mapping[str, str]) -> Any:
    """The history with each column of `columns` under the name of its curve.

    Raises:
        DataError: where a column is missing; it lists those found.
    """
    if not columns:
        return history
    if _is_frame(history):
        history = history.to_dict("records")
    entries = history if isinstance(history, list) else [history]
    known = list(dict.fromkeys(key for entry in entries for key in entry))
    if unknown := [f"{curve}={name}" for curve, name in columns.items() if name not in known]:
        found = ", ".join(map(str, known))
        raise DataError(f"columns: {pair}: no such column; found: {found}" for pair in unknown)
    curves = {name: curve for curve, name in columns.items()}
    named = [
        {curves.get(key, key): entry[key] for key in entry if key in curves or key not in columns}
        for entry in entries
    ]
    if isinstance(history, list):
        return _without_gaps(named)
    return named[0]


def columns_of(values: Any, names: Sequence[str] | None, curves: Mapping[str, Any]) -> Any:
    """Arrays as a dict of lists by name, which may differ in length where each has a keyword.

    `values` is an array [epochs, curves] with a name for each curve, or None where each curve has a
    keyword of its own.

    Raises:
        DataError: where arrays and names do not fit together.
    """
    if curves:
        if values is not None or names is not None:
            raise DataError("diagnose: takes a history, or curves by keyword, not both")
        return {name: _listed(curve) for name, curve in curves.items()}
    rows = _listed(values)
    if not rows or not all(isinstance(row, list) for row in rows):
        raise DataError(
            "diagnose: names= is for an array [epochs, curves]; name 1-D arrays by"
            " keyword: diagnose(train_loss=..., val_loss=...)"
        )
    widths = {len(row) for row in rows}
    if names is None:
        raise DataError(
            f"diagnose: an array of shape [{len(rows)}, {max(widths)}] needs names=, one per column"
        )
    if widths != {len(names)}:
        raise DataError(
            f"diagnose: names= must have one name per column: {len(names)} for {max(widths)}"
        )
    return {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def is_array(values: Any) -> bool:
    """Whether the value is an array or a tensor, which has no names of its own."""
    return hasattr(values, "tolist") and hasattr(values, "shape") and not _is_frame(values)


def _listed(values: Any) -> list[Any]:
    if hasattr(values, "tolist"):
        values = values.tolist()
    if not isinstance(values, Iterable) or isinstance(values, str | bytes | Mapping):
        raise DataError(f"diagnose: a curve must be one number per epoch (got {values!r:.60})")
    return [one.tolist() if hasattr(one, "tolist") else _row(one) for one in values]


def _row(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _is_frame(history: Any) -> bool:
    return hasattr(history, "columns") and (
        hasattr(history, "to_dict") or hasattr(history, "to_dicts")
    )


def _inner(history: Any) -> Any:
    """What an object of a library holds; None where it is none that is known."""
    recorder = getattr(history, "recorder", history)
    if hasattr(recorder, "metric_names") and hasattr(recorder, "values"):
        return _recorded(recorder)
    for name in ("log_history", "history"):
        if isinstance(inner := getattr(history, name, None), Sequence | Mapping):
            return inner
    for name in ("state", "history", "logger"):
        if (inner := getattr(history, name, None)) is not None and not callable(inner):
            return inner
    folder = getattr(history, "log_dir", None)
    if isinstance(folder, str | Path) and (file := Path(folder) / "metrics.csv").is_file():
        return file
    return None


def _recorded(recorder: Any) -> dict[str, list[Any]]:
    """The columns of a fastai Recorder; its names begin with the epoch and end with the time."""
    names = [str(name) for name in recorder.metric_names if name not in ("epoch", "time")]
    rows = [_listed(row) for row in recorder.values]
    return {name: [row[at] for row in rows if at < len(row)] for at, name in enumerate(names)}


def _entry(entry: Mapping[Any, Any]) -> dict[Any, Any]:
    """An entry of a history without what is no number per epoch."""
    return {
        key: value.tolist() if hasattr(value, "tolist") else value
        for key, value in entry.items()
        if not (isinstance(key, str) and (key.startswith(NOT_CURVES) or key.endswith("_best")))
    }


def _without_gaps(entries: list[dict[Any, Any]]) -> list[dict[Any, Any]]:
    """The entries without None, and without NaN in place of a value that an entry lacks.

    As in a DataFrame, a key that is NaN from some entry to the end has diverged.
    """
    columns: dict[Any, list[Any]] = {}
    for entry in entries:
        for key, value in entry.items():
            columns.setdefault(key, []).append(value)
    diverged = {key for key, values in columns.items() if _ends_in_nan(values)}
    return [
        {
            key: value
            for key, value in entry.items()
            if value is not None and (key in diverged or not _is_nan(value))
        }
        for entry in entries
    ]


def _ends_in_nan(values: Sequence[Any]) -> bool:
    missing = [_is_nan(value) for value in values if value is not None]
    return any(missing) and all(missing[missing.index(True) :])


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
