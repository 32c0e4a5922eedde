"""Curves as Python values: dicts, lists, a Keras History, a pandas DataFrame."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from cnntune.diagnosis.logs.json_documents import read_value
from cnntune.diagnosis.logs.names import CURVES, meaning
from cnntune.diagnosis.logs.record import Record


def records_of(history: Any) -> list[Record]:
    """The runs in a history; an empty list where it holds no loss and no accuracy.

    No library is imported for its type: a Keras History is any object with a dict named `history`,
    a DataFrame any object with `columns` and `to_dict`.
    """
    if isinstance(inner := getattr(history, "history", None), Mapping):
        history = inner
    if hasattr(history, "columns") and hasattr(history, "to_dict"):
        return read_value(_columns_of_frame(history))
    if isinstance(history, Mapping):
        return read_value(_plain(history))
    if isinstance(history, Iterable) and not isinstance(history, str | bytes):
        return read_value([_plain(entry) for entry in history if isinstance(entry, Mapping)])
    return []


def _plain(values: Mapping[Any, Any]) -> dict[Any, Any]:
    """Arrays, tensors and tuples as lists, at any depth."""
    plain: dict[Any, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            plain[key] = _plain(value)
        elif hasattr(value, "tolist"):
            plain[key] = value.tolist()
        else:
            plain[key] = list(value) if isinstance(value, tuple) else value
    return plain


def _columns_of_frame(frame: Any) -> dict[str, list[Any]]:
    """The columns of a DataFrame, with its index where that has a name.

    pandas writes NaN both for missing values and for a loss that diverged. A loss that is NaN from
    some row to the end has diverged; where numbers follow, NaN is a missing value.
    """
    if frame.index.name is not None and frame.index.name not in frame.columns:
        frame = frame.reset_index()
    columns = {str(name): list(values) for name, values in frame.to_dict("list").items()}
    for name, values in columns.items():
        gone = [isinstance(value, float) and math.isnan(value) for value in values]
        ends = meaning(name).kind in CURVES and any(gone) and all(gone[gone.index(True) :])
        if not ends:
            columns[name] = [
                None if missing else value for value, missing in zip(values, gone, strict=True)
            ]
    return columns
