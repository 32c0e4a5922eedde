"""JSON lines: a JSON object a row, alone on its line or behind what a logger puts there."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cnntune.logs.json_documents import flatten
from cnntune.logs.names import SPLITS, has_curves
from cnntune.logs.record import Record
from cnntune.logs.rows import Row, records

MIN_LINES = 2  # one object is a summary or a setting
TORN_LINE = "the last line was torn and is left out"
MODES = ("mode", "phase", "split", "stage")  # keys whose text says which split a row is from
# What a Python dict that was printed writes in another way than JSON does.
PYTHON = (
    (re.compile(r"'"), '"'),
    (re.compile(r"\bnan\b"), "NaN"),
    (re.compile(r"\binf\b"), "Infinity"),
    (re.compile(r"\bNone\b"), "null"),
    (re.compile(r"\bTrue\b"), "true"),
    (re.compile(r"\bFalse\b"), "false"),
)


def read(text: str) -> list[Record]:
    """The runs of a file of JSON lines; an empty list where it holds none."""
    lines = text.split("\n")
    objects = [(line, _object(line)) for line in lines if "{" in line]
    rows = [_row(found) for _, found in objects if found is not None]
    if len(rows) < MIN_LINES or not has_curves(name for row in rows for name in row):
        return []
    torn = bool(objects) and lines[-1] == objects[-1][0] and objects[-1][1] is None
    notes = [TORN_LINE] if torn else []
    keys = {name for row in rows for name in row}
    if {"data_time", "step"} <= keys and "mode" not in keys:
        found_runs = records("mmengine", list(_mmengine(rows)), notes)
        return [replace(run, bare="val", percent=True) for run in found_runs]
    tool = "detectron2" if {"total_loss", "iteration"} <= keys else "jsonl"
    return records("wandb" if keys >= {"_step", "_runtime"} else tool, rows, notes)


def _object(line: str) -> Mapping[str, Any] | None:
    """The JSON object, or the printed Python dict of numbers, that begins in a line."""
    text = line[line.index("{") :].strip()
    for spelled in (text, *_as_json(text)):
        try:
            found = json.loads(spelled)
        except (ValueError, RecursionError):
            continue
        return found if isinstance(found, Mapping) else None
    return None


def _as_json(text: str) -> Iterator[str]:
    if text.startswith("{'"):
        for pattern, replacement in PYTHON:
            text = pattern.sub(replacement, text)
        yield text


def _row(entry: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of an object; a key such as `mode` tells which split its metrics are from."""
    row = flatten(entry)
    mode = next((str(entry[key]).lower() for key in MODES if key in entry), "")
    if mode not in SPLITS:
        return row
    curves = {name for name in row if has_curves([name])}
    return {f"{mode}/{name}" if name in curves else name: value for name, value in row.items()}


def _mmengine(rows: Sequence[Row]) -> Iterator[Row]:
    """Validation rows count epochs in `step`, training rows iterations: all count iterations."""
    step = epoch = 0.0
    for row in rows:
        if "loss" in row or "lr" in row:
            step, epoch = row.get("step", step), row.get("epoch", epoch)
            yield row
        elif epoch and "step" in row and row["step"] < step:
            yield {**row, "epoch": row["step"], "step": step}
        else:
            yield row
