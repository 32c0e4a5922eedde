"""Delimited text: CSV with any separator, and the tables that loggers print.

`pandas.read_csv` is not used: it reads a truncated `0.` as a loss of 0.0, and a column in which a
header is repeated as text.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice, pairwise
from typing import Literal

from cnntune.diagnosis.logs.cells import MISSING, number, without_time
from cnntune.diagnosis.logs.names import (
    COUNTS,
    CURVES,
    MODES,
    meaning,
    with_mode,
    words,
    words_of,
)
from cnntune.diagnosis.logs.record import Record, UnreadableLogError
from cnntune.diagnosis.logs.rows import HEADER, Row, records

BLANKS = "  "  # names of several words: two blanks or more between the names of a header
SEPARATORS = (",", ";", "\t", "|", " ", BLANKS)  # one blank: any white space
MAX_HEADER_LINE = 500  # a header further down is not searched for
MAX_HEADER_LENGTH = 20_000  # characters; the export of a chart of a hundred runs has so many
MAX_WORDS_LENGTH = 400  # characters of a header whose names are separated by white space
MAX_NAME_LENGTH = 120  # characters; a longer cell is prose, not the name of a column
LOOK_AHEAD = 5  # lines below a header, one of which must be a row of numbers
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # colours, as skorch prints them
BOX = str.maketrans("│┃║", "|||")  # between the cells of a table that Rich prints
# `epoch 1 loss 0.9`: a count and a value with their names are a printed line, not a heading
PRINTED = re.compile(
    r"\b(?:epoch|step|iter(?:ation)?)s?[ :=#]{1,3}\d+\b.*[a-z][ :=]{1,3}[-+]?\d*\.\d", re.IGNORECASE
)
# Short names of the first columns, as spaCy prints them; anywhere else they may be other things.
SHORT_COUNTS = {"e": "epoch", "itn": "epoch", "#": "step"}
MAX_SHORT_COUNTS = 2  # columns from the left
TRUNCATED = re.compile(r".*[.,eE+-]")  # the end of a truncated number
REPORT = frozenset({"precision", "recall", "support"})  # scikit-learn's report: a class per row
LENGTHS = 20  # rows from which the usual length of the last cell is taken

BEGINS_WITH_TEXT = re.compile(r"[\s|\"']*[^\W\d_]")
DIGITS = re.compile(r"\d+")
MIN_COMPARED = 2  # rows; of one it is not known whether it is the first of a curve
# Words of times and of checkpoints, which tell the rows of a curve apart
TIME_WORDS = words(
    "mon tue wed thu fri sat sun jan feb mar apr may jun jul aug sep oct nov dec monday tuesday"
    " wednesday thursday friday saturday sunday january february march april june july august"
    " september october november december checkpoint ckpt epoch ep step iter iteration round"
)

WRONG_WIDTH = "rows with more or fewer cells than the header were skipped"
ZEROS = "rows with zero bytes were skipped"
TRUNCATED_LINE = "the truncated last line was skipped"


def read(text: str) -> list[Record]:
    """The runs of a table; an empty list where the text holds no table of curves.

    Raises:
        UnreadableLogError: where no row is as wide as the header.
    """
    lines = _plain(text).split("\n")
    _join_headers(lines)
    found, comparing = find_header(lines), ""
    while found and (compared := without_comparisons(lines, *found)):
        found, comparing = find_header(lines), compared
    if found is None and comparing:
        raise UnreadableLogError(comparing)
    if found is None:
        return []
    start, separator = found
    skipped: Counter[str] = Counter()
    rows = list(read_rows(lines[start:], separator, skipped))
    if not rows and skipped[WRONG_WIDTH]:
        raise UnreadableLogError("the rows of its table have more or fewer cells than the header")
    notes = [
        key if key == TRUNCATED_LINE else f"{count} {key}"
        for key, count in skipped.items()
        if count
    ]
    names = [name for name in _columns(lines[start:], separator) if name]
    if _is_wandb_export(names):
        return _runs_of_export(rows, names, notes)
    tool, bare, percent = tool_of(names)
    found_runs = records(tool, rows, notes)
    return [replace(run, bare=bare, percent=percent) for run in found_runs]


def _plain(text: str) -> str:
    """The text without colours, and with `|` for the lines of a box."""
    if "\x1b" in text:
        text = ESCAPES.sub("", text)
    return text if text.isascii() else text.translate(BOX)


def _join_headers(lines: list[str]) -> None:
    """Join the names of a header of two lines, in place, as MATLAB prints it.

    | Epoch | Mini-batch | Validation |
    |       |  Accuracy  |  Accuracy  |
    """
    for at, (above, below) in enumerate(pairwise(lines[:MAX_HEADER_LINE])):
        if above.count("|") < 2 or above.count("|") != below.count("|"):
            continue
        if max(len(above), len(below)) > MAX_HEADER_LENGTH:
            continue
        first, second = _split(above, "|"), _split(below, "|")
        words = [cell for cell in second if cell]
        if len(first) != len(second) or len(words) == len(second) or not words or not all(first):
            continue
        if all(map(_is_name, first)) and not any(number(cell) is not None for cell in words):
            names = (" ".join(pair).strip() for pair in zip(first, second, strict=True))
            lines[at : at + 2] = ["|".join(names), ""]


def find_header(lines: Sequence[str]) -> tuple[int, str] | None:
    """The line that names columns of curves above a row of numbers, and its separator."""
    for at, line in enumerate(lines[:MAX_HEADER_LINE]):
        best: tuple[int, str] | None = None
        for separator in SEPARATORS:
            names = _names(line, separator, alone=at == 0)
            if best and len(names) <= best[0]:
                continue
            if names and _has_numbers(lines[at + 1 :], separator, len(names)):
                best = len(names), separator
        if best:
            return at, best[1]
    return None


def read_rows(lines: Sequence[str], separator: str, skipped: Counter[str]) -> Iterator[Row]:
    """The rows below the header in the first line; skipped rows are counted by reason."""
    names = _columns(lines, separator)
    blanks = "" in names[1:]  # a table aligned with additional tabs
    if blanks:
        names = [name for name in names if name]
    header, mode_at = lines[0].strip(), _mode_at(names)
    last = max((at for at, line in enumerate(lines) if line.strip()), default=0)
    unfinished = last if last == len(lines) - 1 else -1
    decimal_comma = separator != ","
    lengths: list[int] = []
    for at, line in enumerate(lines[1:], start=1):
        shown = line.strip()
        if not shown or shown == header or "\0" in line:
            skipped[ZEROS] += "\0" in line
            if shown == header:
                yield HEADER
            continue
        cells = _row(line, separator)
        if blanks:
            cells = [cell for cell in cells if cell]
        if len(cells) == len(names) + 1 and not cells[-1]:
            cells.pop()
        values: dict[str, float] = {}
        if at == unfinished and (len(cells) < len(names) or _is_truncated(cells[-1], lengths)):
            skipped[TRUNCATED_LINE] += 1
            continue
        if len(cells) == len(names):
            values = {
                name: value
                for name, cell in zip(names, cells, strict=True)
                if (value := number(cell, decimal_comma=decimal_comma)) is not None and name
            }
        elif any(number(cell) is not None for cell in cells):
            skipped[WRONG_WIDTH] += 1
            continue
        if not values and _names(line, separator):
            names = _unique([cell for cell in cells if cell] if blanks else cells)
            header, mode_at, lengths = shown, _mode_at(names), []
            yield HEADER
        elif values:
            lengths = [*lengths[1 - LENGTHS :], len(cells[-1])]
            yield values if mode_at is None else with_mode(values, cells[mode_at])


def without_comparisons(lines: list[str], start: int, separator: str) -> str:
    """Blank the tables from `start` on that compare things, in place; returns what one compares.

    Such a table has a row per model, class or run, and no curve: its rows have a text of their own
    in the first column, and none counts epochs or steps. Other tables of the text are left.
    """
    headers: dict[tuple[str, ...], list[int]] = {}
    rows: dict[tuple[str, ...], dict[str, list[int]]] = {}  # by their text: a table may be repeated
    names: tuple[str, ...] = ()
    for at in range(start, len(lines)):
        line = lines[at]
        if not BEGINS_WITH_TEXT.match(line):
            continue
        cells = _row(line, separator)
        filled = any(number(cell, decimal_comma=separator != ",") is not None for cell in cells)
        if not filled and (at == start or _names(line, separator)):
            names = tuple(_header(line, separator))
            headers.setdefault(names, []).append(at)
        elif filled and len(cells) == len(names):
            rows.setdefault(names, {}).setdefault(line.strip(), []).append(at)
    counted, compared = any(map(_counts, headers)), ""
    for names, found in rows.items():
        labels = [_row(line, separator)[0] for line in found]
        if _counts(names) or len(labels) < (1 if counted else MIN_COMPARED):
            continue
        if _are_names(labels):
            compared = f"its table has a row per {names[0]!r} and counts no epoch or step: no curve"
            for at in (*headers[names], *chain.from_iterable(found.values())):
                lines[at] = ""
    return compared


def _counts(names: Sequence[str]) -> bool:
    """Whether a table says which epoch, step or split a row is of."""
    return _mode_at(names) is not None or any(meaning(name).kind in COUNTS for name in names)


def _are_names(labels: Sequence[str]) -> bool:
    """Whether the texts at the start of rows name different things, and no epoch, time or curve."""
    if len(set(labels)) < len(labels):
        return False
    if any(not label[:1].isalpha() or number(label) is not None for label in labels):
        return False
    if any(meaning(label).kind in CURVES | COUNTS or meaning(label).split for label in labels):
        return False
    if any(TIME_WORDS & set(words_of(label)) for label in labels):
        return False
    counts = [float((DIGITS.findall(label) or ["nan"])[-1]) for label in labels]
    steps = {b - a for a, b in pairwise(counts)}
    alike = len({DIGITS.sub("", label) for label in labels}) == 1
    return not (alike and len(labels) > 1 and len(steps) == 1 and min(steps) > 0)


def _mode_at(names: Sequence[str]) -> int | None:
    """The index of the column that holds the split of a row, if there is one."""
    return next((at for at, name in enumerate(names) if name.lower() in MODES), None)


def tool_of(names: Sequence[str]) -> tuple[str, Literal["train", "val", ""], bool]:
    """The tool that writes such columns, `bare` and `percent` of its records."""
    known = {name.lower() for name in names}
    if any(name.startswith("metrics/") for name in known) and any("train/" in n for n in known):
        return "ultralytics", "val", False
    if "eval_top1" in known:
        return "timm", "", True
    if {"train_loss", "valid_loss", "time"} <= known:
        return "fastai", "val", False
    if {"epoch", "step", "score"} <= known and any(name.startswith("loss ") for name in known):
        return "spacy", "val", False
    if known & {"_step", "_runtime"}:
        return "wandb", "", False
    if {"epoch", "step"} <= known or {"epoch", "created_at"} <= known:
        return "lightning", "", False
    if any(f"val_{name}" in known for name in known):
        return "keras", "train", False
    return "csv", "", False


def _is_wandb_export(names: Sequence[str]) -> bool:
    """A downloaded chart: a column `<run> - <metric>` per run, with its minimum and maximum."""
    return any(" - " in name and name.endswith("__MIN") for name in names)


def _runs_of_export(rows: Sequence[Row], names: Sequence[str], notes: list[str]) -> list[Record]:
    runs: dict[str, dict[str, str]] = {}
    for name in names:
        run, separator, metric = name.rpartition(" - ")
        if separator and not metric.endswith(("__MIN", "__MAX", "_step")):
            runs.setdefault(run, {})[name] = metric
    count = {name: name for name in names if meaning(name).kind in COUNTS and " - " not in name}
    found = []
    for run, columns in runs.items():
        kept = ({new: row[old] for old, new in columns.items() if old in row} for row in rows)
        counted = [
            {new: row[old] for old, new in count.items() if old in row} | values
            for row, values in zip(rows, kept, strict=True)
            if values
        ]
        found += [
            replace(record, part=f"{run} {record.part}".strip())
            for record in records("wandb", counted, notes)
        ]
    return found


def _names(line: str, separator: str, *, alone: bool = False) -> list[str]:
    """The cells of a line if it is a header with a curve, or with a count and other columns."""
    if len(line) > (MAX_WORDS_LENGTH if separator == " " else MAX_HEADER_LENGTH):
        return []
    if separator not in line and not alone:
        return []
    cells = [cell for cell in _header(line, separator) if cell]
    if len(cells) < (1 if alone else 2) or not all(map(_is_name, cells)):
        return []
    if {cell.lower() for cell in cells} >= REPORT:
        return []
    kinds = {meaning(cell).kind for cell in cells}
    return cells if kinds & CURVES or (kinds & COUNTS and separator in ",;\t") else []


def _is_name(cell: str) -> bool:
    return (
        len(cell) <= MAX_NAME_LENGTH
        and any(map(str.isalpha, cell))
        and not cell.endswith(":")
        and ": " not in cell
        and ("=" not in cell or " - " in cell)
        and number(cell) is None
        and PRINTED.search(cell) is None
    )


def _has_numbers(lines: Sequence[str], separator: str, width: int) -> bool:
    """Whether a row of numbers as wide as the header follows soon after it."""
    below = (line for line in lines[: 4 * LOOK_AHEAD] if line.strip())
    for line, _ in zip(below, range(LOOK_AHEAD), strict=False):
        cells = _row(line, separator)
        filled = [cell for cell in cells if cell]
        if width in (len(cells), len(cells) - 1, len(filled), len(filled) - 1) and any(
            number(cell, decimal_comma=separator != ",") is not None for cell in cells
        ):
            return True
    return False


def _columns(lines: Sequence[str], separator: str) -> list[str]:
    """The names in the first line; an index that is written without a name is an empty name."""
    names = _header(lines[0], separator)
    while names and not names[-1]:
        names.pop()
    below = islice((line for line in lines[1:] if line.strip()), LENGTHS)
    cells = [_row(line, separator) for line in below]
    if cells and len(cells[0]) == len(names) + 1 and cells[0][-1] and _have_index(cells, names):
        names.insert(0, "")
    return _unique(names)


def _have_index(rows: Sequence[Sequence[str]], names: Sequence[str]) -> bool:
    """Whether rows that are one cell longer than the header begin with an index, as R writes it.

    An index rises by one, or labels the rows, and next to it every loss, accuracy, learning rate
    and count is a number. In any other table the additional cell may be anywhere.
    """
    rows = [row for row in rows if len(row) == len(names) + 1]
    counts = [number(row[0]) for row in rows]
    labelled = all(count is None and row[0] for count, row in zip(counts, rows, strict=True))
    rising = None not in counts and all((b or 0.0) - (a or 0.0) == 1 for a, b in pairwise(counts))
    known = [at for at, name in enumerate(names, start=1) if meaning(name).kind != "other"]
    return (labelled or rising) and all(
        row[at].lower() in MISSING or number(row[at], decimal_comma=True) is not None
        for row in rows
        for at in known
    )


def _unique(names: Sequence[str]) -> list[str]:
    """The names, with a number after those that are repeated, as in pandas."""
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        unique.append(f"{name}.{seen[name]}" if name and seen[name] else name)
        seen[name] += 1
    return unique


def _header(line: str, separator: str) -> list[str]:
    """The cells of a header; those of its first columns that are short counts in full."""
    cells = _split(line.lstrip("#"), separator)
    for at, cell in enumerate(cells[:MAX_SHORT_COUNTS]):
        cells[at] = SHORT_COUNTS.get(cell.lower(), cell)
    return cells


def _row(line: str, separator: str) -> list[str]:
    """The cells of a row; below names of several words a number may fill its column."""
    return _split(line, " " if separator == BLANKS else separator)


def _split(line: str, separator: str) -> list[str]:
    line = without_time(line)
    if separator == BLANKS:
        return re.split(r" {2,}|\t", line.strip())
    if separator == " ":
        return line.split()
    if separator == "|":
        line = line.strip().strip("|")
    if '"' in line:
        try:
            return [cell.strip() for cell in next(csv.reader([line], delimiter=separator))]
        except (csv.Error, StopIteration):
            return []
    return [cell.strip() for cell in line.split(separator)]


def _is_truncated(cell: str, lengths: Sequence[int]) -> bool:
    """Whether the last cell of a file without a final newline looks truncated."""
    return bool(TRUNCATED.fullmatch(cell)) or (bool(lengths) and len(cell) < min(lengths))
