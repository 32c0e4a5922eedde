"""JSON lines: one JSON object per line, perhaps after a logger's prefix."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cnntune.diagnosis.logs import long_tables
from cnntune.diagnosis.logs.json_documents import flatten, loads
from cnntune.diagnosis.logs.names import MODES, has_curves, with_mode
from cnntune.diagnosis.logs.record import Record
from cnntune.diagnosis.logs.rows import Row, records

MIN_LINES = 2  # one object is a summary or a setting
TRUNCATED_LINE = "the truncated last line was skipped"


def read(text: str) -> list[Record]:
    """The runs of a file of JSON lines; an empty list where it holds none."""
    first = next(_objects(text), None)
    if first is None:
        return []
    if long_tables.is_row(first) and (found_runs := long_tables.read_rows(list(_objects(text)))):
        return found_runs
    rows = [_row(found) for found in _objects(text)]
    keys = {name for row in rows for name in row}
    if len(rows) < MIN_LINES or not has_curves(keys):
        return []
    last = text[text.rfind("\n") + 1 :]
    notes = [TRUNCATED_LINE] if "{" in last and _object(last) is None else []
    if {"data_time", "step"} <= keys:
        found_runs = records("mmengine", list(_mmengine(rows)), notes)
        return [replace(run, bare="val", percent=True) for run in found_runs]
    tool = "detectron2" if {"total_loss", "iteration"} <= keys else "jsonl"
    return records("wandb" if keys >= {"_step", "_runtime"} else tool, rows, notes)


def _objects(text: str) -> Iterator[Mapping[str, Any]]:
    """The objects of a text, one at a time: as dicts they take ten times the memory of the text."""
    start = 0
    while start <= len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        if text.find("{", start, end) >= 0 and (found := _object(text[start:end])) is not None:
            yield found
        start = end + 1


def _object(line: str) -> Mapping[str, Any] | None:
    """The JSON object or printed Python dict in a line."""
    try:
        found = loads(line[line.index("{") :].strip())
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, Mapping) else None


def _row(entry: Mapping[str, Any]) -> Row:
    """The numbers of an object; a key such as `mode` holds the split of its metrics."""
    mode = next((str(entry[key]) for key in entry if key in MODES), "")
    return with_mode(flatten(entry), mode)


def _mmengine(rows: Sequence[Row]) -> Iterator[Row]:
    """Rows that all count iterations: mmengine's validation rows count epochs in `step`."""
    step = epoch = 0.0
    for row in rows:
        if "loss" in row or "lr" in row:
            step, epoch = row.get("step", step), row.get("epoch", epoch)
            yield row
        elif epoch and "step" in row and row["step"] < step:
            yield {**row, "epoch": row["step"], "step": step}
        else:
            yield row
