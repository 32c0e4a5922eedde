"""JSON documents: Hugging Face's `trainer_state.json`, a Keras history, lists, nested objects."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from sys import intern
from typing import Any

from cnntune.diagnosis.logs import long_tables
from cnntune.diagnosis.logs.cells import MISSING, as_number
from cnntune.diagnosis.logs.names import CURVES, has_curves, meaning
from cnntune.diagnosis.logs.record import Record
from cnntune.diagnosis.logs.rows import records
from cnntune.texts import counted

MAX_DEPTH = 8  # levels of nesting that are searched
LONGER = 2  # times as many values: the lists do not count the same
MAX_EPOCHS_BETWEEN = 10  # evaluations; a list that is longer yet has values per step, not per epoch
DOCUMENT = re.compile(r"\s*(?:\{\s*[\"}]|\[\s*[\"{\[\]])")
EQUAL_LENGTHS = "lists of one length, with None for what was not evaluated, leave no doubt"
HUGGING_FACE = "log_history"
# Where a printed Python dict differs from JSON.
PYTHON = (
    (re.compile(r"'"), '"'),
    (re.compile(r"(?:np\.|numpy\.)?(?:float|int)\d+\(([^()]*)\)"), r"\1"),
    (re.compile(r"\bnan\b"), "NaN"),
    (re.compile(r"\binf\b"), "Infinity"),
    (re.compile(r"\bNone\b"), "null"),
    (re.compile(r"\bTrue\b"), "true"),
    (re.compile(r"\bFalse\b"), "false"),
)


def read(text: str) -> list[Record]:
    """The runs of a JSON document; an empty list where it holds no curve or is not JSON."""
    try:
        document = loads(text)
    except (ValueError, RecursionError):
        return []
    return read_value(document)


def loads(text: str) -> Any:
    """The value of a JSON document, or of a Python dict as `print` writes it.

    Raises:
        ValueError, RecursionError: where it is neither.
    """
    try:
        return json.loads(text)
    except ValueError:
        if not text.lstrip().startswith(("{'", "[{'")):
            raise
    for pattern, replacement in PYTHON:
        text = pattern.sub(replacement, text)
    return json.loads(text)


def is_document(text: str) -> bool:
    """Whether a text is one JSON document, or the beginning of one that spans several lines.

    Lines such as `[0] train-rmse:0.4` begin with a bracket too, and so do lines of JSON.
    """
    if not DOCUMENT.match(text):
        return False
    try:
        json.loads(text)
    except ValueError as error:
        return "Extra data" not in str(error)
    except RecursionError:
        return True
    return True


def is_broken(text: str) -> bool:
    """Whether a document with a loss in it is not valid: truncated."""
    if "loss" not in text:
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return True
    return False


def read_value(value: Any) -> list[Record]:
    """The runs in the values of a document: a list of records, or lists under names."""
    if isinstance(value, Mapping) and isinstance(value.get(HUGGING_FACE), list):
        return _hugging_face(value[HUGGING_FACE])
    if isinstance(value, list):
        entries = [entry for entry in value if isinstance(entry, Mapping)]
        if found := long_tables.read_rows(entries):
            return found
        if drawn := {str(entry["name"]): entry for entry in entries if _is_line(entry)}:
            return read_value(drawn)
        rows = [flatten(entry) for entry in entries]
        if not has_curves(name for row in rows for name in row):
            return []
        return records("json", rows, _unread((key, one[key]) for one in entries for key in one))
    if not isinstance(value, Mapping) or {"format", "command", "findings"} <= set(value):
        return []  # the latter is a document of cnntune
    read = dict(_lists(value))
    lists = {name: list(map(as_number, inner)) for name, inner in read.items()}
    unread = _unread((name, entry) for name, inner in read.items() for entry in inner)
    found = [
        replace(run, part=f"{group} {run.part}".strip(), notes=(*run.notes, *unread))
        for group, columns in _groups(lists).items()
        for run in _columns(columns)
    ]
    tables = [inner for inner in value.values() if isinstance(inner, list)]
    return found or [run for table in tables for run in read_value(table)]


def _is_line(entry: Mapping[Any, Any]) -> bool:
    """Whether an object is the line of a chart, as Plotly and ClearML write it."""
    return "name" in entry and isinstance(entry.get("y"), list)


def flatten(entry: Mapping[Any, Any], prefix: str = "", depth: int = MAX_DEPTH) -> dict[str, float]:
    """The numbers of nested values under names such as `train/loss`."""
    row: dict[str, float] = {}
    for key, value in entry.items():
        if isinstance(value, Mapping):
            if depth:
                row |= flatten(value, f"{prefix}{key}/", depth - 1)
        elif (number := as_number(value)) is not None:
            row[intern(f"{prefix}{key}")] = number  # one string for all rows
    return row


def _hugging_face(history: Sequence[Any]) -> list[Record]:
    """One row per step; the last one, with the run time, holds totals and is dropped."""
    rows = [flatten(entry) for entry in history if isinstance(entry, Mapping)]
    rows = [row for row in rows if "train_runtime" not in row]
    return records("huggingface", rows)


def _lists(value: Mapping[Any, Any], prefix: str = "", depth: int = MAX_DEPTH) -> Iterator[Any]:
    """The lists with a number in them below `value`, each with its name."""
    drawn = isinstance(value.get("x"), list) and isinstance(value.get("y"), list)
    for key, inner in value.items():
        if drawn and key == "x":
            continue  # ClearML's `{"x": steps, "y": values}`: the values are the curve
        name = f"{prefix}{key}"
        if isinstance(inner, Mapping) and depth:
            if inner and all(str(index).isdigit() for index in inner):  # pandas' DataFrame.to_json
                inner = [inner[index] for index in sorted(inner, key=lambda index: int(index))]
            else:
                yield from _lists(inner, f"{name}/", depth - 1)
                continue
        if isinstance(inner, list) and any(as_number(entry) is not None for entry in inner):
            yield name, inner


def _unread(entries: Iterable[tuple[Any, Any]]) -> list[str]:
    """A note for each curve with texts that are neither a number nor a word for a missing one."""
    texts: dict[str, list[str]] = {}
    for name, entry in entries:
        if not isinstance(entry, str) or as_number(entry) is not None:
            continue
        if entry.strip().lower() not in MISSING and meaning(str(name)).kind in CURVES:
            texts.setdefault(str(name), []).append(entry)
    return [
        f"skipped {counted(len(found), 'value')} of {name!r}: {found[0]!r} is no number"
        for name, found in texts.items()
    ]


def _groups(lists: Mapping[str, list[float | None]]) -> dict[str, dict[str, list[float | None]]]:
    """The lists of each run: one group, or several where the outer names are not metrics."""
    groups: dict[str, dict[str, list[float | None]]] = {}
    for name, numbers in lists.items():
        group, _, rest = name.partition("/")
        groups.setdefault(group if rest else "", {})[rest or name] = numbers
    runs = {group: columns for group, columns in groups.items() if has_curves(list(columns))}
    named = [meaning(group) for group in runs]
    if len(runs) > 1 and all(m.kind == "other" and not m.split for m in named) and "" not in runs:
        return runs
    return {"": dict(lists)} if has_curves(list(lists)) else {}


def _columns(lists: Mapping[str, list[float | None]]) -> list[Record]:
    """Lists of one run as records. Where no list counts epochs, the index does, from 1."""
    curves = {name: numbers for name, numbers in lists.items() if meaning(name).kind in CURVES}
    shortest, longest = (f(map(len, curves.values())) for f in (min, max))
    keras = any(f"val_{name}" in lists for name in lists)
    tool = "keras" if keras else "json"
    short, long = (
        next(name for name, numbers in curves.items() if len(numbers) == length)
        for length in (shortest, longest)
    )
    note = f"{short!r} has {shortest} values and {long!r} {longest}:"
    if shortest > 1 and longest >= LONGER * shortest:
        every = longest / shortest
        if every <= MAX_EPOCHS_BETWEEN:
            note += f" taken as an evaluation every {every:.3g} of {longest} epochs, with {long!r}"
            uneven = "" if longest % shortest == 0 else ", which is no whole number"
            note += f" averaged in between{uneven}; {EQUAL_LENGTHS}"
            return [_spread(tool, lists, longest, note)]
        note += f" taken as {every:.3g} values per epoch of {shortest} epochs; {EQUAL_LENGTHS}"
        return [_spread(tool, lists, shortest, note)]
    notes = [f"{note} both are counted from the first epoch; {EQUAL_LENGTHS}"]
    if longest == shortest:
        notes = []
    rows: list[dict[str, float]] = [{} for _ in range(longest)]
    for name, numbers in lists.items():
        for row, number in zip(rows, numbers, strict=False):
            if number is not None:
                row[name] = number
    found = records(tool, rows, notes)
    return [replace(run, bare="train") for run in found] if keras else found


def _spread(tool: str, lists: Mapping[str, list[float | None]], epochs: int, note: str) -> Record:
    """Lists of different lengths: each is spread over all epochs, and ends with the last one."""
    columns = {
        name: [
            ((index + 1) * epochs / len(numbers), number)
            for index, number in enumerate(numbers)
            if number is not None
        ]
        for name, numbers in lists.items()
        if len(numbers) > 1
    }
    return Record(tool, columns, notes=(note,))
