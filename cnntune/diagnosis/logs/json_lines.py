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
    lines = text.split("\n")
    objects = [(line, _object(line)) for line in lines if "{" in line]
    if found_runs := long_tables.read_rows([found for _, found in objects if found is not None]):
        return found_runs
    rows = [_row(found) for _, found in objects if found is not None]
    if len(rows) < MIN_LINES or not has_curves(name for row in rows for name in row):
        return []
    truncated = bool(objects) and lines[-1] == objects[-1][0] and objects[-1][1] is None
    notes = [TRUNCATED_LINE] if truncated else []
    keys = {name for row in rows for name in row}
    if {"data_time", "step"} <= keys:
        found_runs = records("mmengine", list(_mmengine(rows)), notes)
        return [replace(run, bare="val", percent=True) for run in found_runs]
    tool = "detectron2" if {"total_loss", "iteration"} <= keys else "jsonl"
    return records("wandb" if keys >= {"_step", "_runtime"} else tool, rows, notes)


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
