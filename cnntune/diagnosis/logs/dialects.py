"""Habits of printed logs that are not names: decimal commas, pairs, and splits without a metric.

perdita 0,41                                      decimal commas
Loss (train/val): 0.41 / 0.52                     a pair of splits before a pair of values
[Epoch 3] train=0.81 val=0.74                     values of which only the split is named
    accuracy          0.85    1000                a report of scikit-learn
valid loss 0.52                                   values before the line that ends their epoch
Epoch 3 finished
|    loss        | 0.52     |                      one value per line of a frame
(:epoch, 3, :trnloss, 0.52)                       symbols of Julia
fit progress: (3, 0.52, {'accuracy': 0.8}, 12.5)  the rounds of Flower: evaluated centrally
"""

import math
import re
from collections.abc import Collection, Mapping, Sequence

from cnntune.diagnosis.curve import MIN_POINTS
from cnntune.diagnosis.logs.cells import NUMBER
from cnntune.diagnosis.logs.names import COUNTS, SPLITS

Rows = list[dict[str, float]]

COMMA_VALUE = re.compile(r"(?<=[\s:=(])([-+]?[0-9]+),([0-9]+)(?=%|[\s;|)]|$)", re.MULTILINE)
POINT_VALUE = re.compile(r"[\s:=(][-+]?[0-9]+\.[0-9]")
MIN_COMMAS = 3  # values with a decimal comma, in a log without any decimal point

_SPLIT = "|".join(sorted(set(SPLITS) - {"te", "vl"}, key=len, reverse=True))
_WORD = r"[A-Za-z][\w@-]{0,40}"  # bounded, so that a line is read in linear time
_PAIRED = rf"\(?\b(?P<first>{_SPLIT}) ?[/|&,] ?(?P<second>{_SPLIT})\b\)?"
_VALUES = rf" ?[:=] ?[(\[]?(?P<x>{NUMBER})(?P<px> ?%)? ?[/|&,] ?(?P<y>{NUMBER})(?P<py> ?%)?[)\]]?"
PAIR = re.compile(
    rf"(?P<before>(?:\b{_WORD} )?(?:\b{_WORD} ?)?){_PAIRED}(?P<after>(?: {_WORD}){{0,2}})"
    rf"{_VALUES}(?![\w./])",
    re.IGNORECASE,
)
PAIR_SIGN = re.compile(rf"\b(?:{_SPLIT}) ?[/|&,] ?(?:{_SPLIT})\b", re.IGNORECASE)

# The header of scikit-learn's classification_report, and its other lines: a class or an average
REPORT = re.compile(r"\s*precision +recall +f1-score +support\s*", re.IGNORECASE)
REPORT_LINE = re.compile(r"[^:=]{0,200}? +(?:[01]\.[0-9]+ +){1,3}[0-9]+(?:\.[0-9]+)?\s*")
MAX_REPORT_LINE = 300  # characters; a longer line is not one of a report

FRAMED = re.compile(
    rf"\s*\|\s*(?P<name>[A-Za-z][\w/ ]{{0,40}}?)\s*\|\s*(?P<value>{NUMBER})\s*\|\s*"
)
SYMBOL = re.compile(rf"(?<=[(, ]):(?P<name>[A-Za-z]\w{{0,40}}), ?(?P<value>{NUMBER})(?=[,)])")
ROUND = re.compile(
    rf"progress: ?\((?P<round>[0-9]+), ?(?P<loss>{NUMBER}), ?\{{(?P<scores>[^{{}}]{{0,300}})\}}"
)
SCORE = re.compile(rf"['\"](?P<name>\w{{1,40}})['\"]: ?(?P<value>{NUMBER})")

# `[NeMo I 2024-01-02 10:00:00 wer:170]`: a line of code, no value
LOCATION = re.compile(r"(?<=\d\d:\d\d:\d\d) \w{1,40}:\d+(?=\])")

BARE = frozenset({"train", "val", "test"})  # names of values of which only the split is known
MAX_PERCENTAGE = 100.1  # up to rounding
MIN_TREND = 0.25  # of the range of the values, between their first and last third


def with_decimal_points(text: str) -> str:
    """The text with decimal points, where every number in it has a decimal comma."""
    if "," not in text or POINT_VALUE.search(text):
        return text
    if sum(1 for _ in COMMA_VALUE.finditer(text)) < MIN_COMMAS:
        return text
    return COMMA_VALUE.sub(r"\1.\2", text)


def with_names(line: str) -> str:
    """The line with each name before its value, where a frame, symbols or a tuple hold them."""
    line = LOCATION.sub("", line) if line.startswith("[") else line
    if "|" in line and (found := FRAMED.fullmatch(line)):
        return f"{found['name']}: {found['value']}"
    if "progress:" in line and (found := ROUND.search(line)):
        scores = "".join(f", val {one['name']}: {one['value']}" for one in SCORE.finditer(found[0]))
        return f"epoch {found['round']}, val loss: {found['loss']}{scores}"
    return SYMBOL.sub(r"\g<name>: \g<value>", line) if "(:" in line else line


def without_pairs(line: str) -> str:
    """The line with a name before each of two values: `train loss: 0.41 val loss: 0.52`.

    The two splits must differ; any other pair stays as it is.
    """
    if not PAIR_SIGN.search(line):
        return line
    return PAIR.sub(_each_named, line)


def _each_named(found: re.Match[str]) -> str:
    first, second = found["first"], found["second"]
    if SPLITS[first.lower()] == SPLITS[second.lower()]:
        return found[0]
    name = f"{found['before']} {found['after']}".strip()
    one = f"{first} {name}: {found['x']}{found['px'] or ''}"
    return f" {one}, {second} {name}: {found['y']}{found['py'] or ''}"


def without_reports(lines: Sequence[str]) -> list[str]:
    """The lines without the reports of scikit-learn: nothing in these says the split or epoch."""
    kept, inside = [], False
    for line in lines:
        if "recall" in line and len(line) <= MAX_REPORT_LINE and REPORT.fullmatch(line):
            inside = True
        elif inside and line.strip() and not _is_in_report(line):
            inside = False
        if not inside:
            kept.append(line)
    return kept


def _is_in_report(line: str) -> bool:
    return len(line) <= MAX_REPORT_LINE and REPORT_LINE.fullmatch(line) is not None


def names_two_splits(name: str) -> bool:
    """Whether a name is that of two splits at once, so that its value belongs to neither."""
    return PAIR_SIGN.search(name.replace("_", " _")) is not None and not name.count("_")


def epochs_after(rows: Rows, marks: Sequence[tuple[int, float]]) -> Rows:
    """The rows with their epochs, where the line that names an epoch stands after its values.

    `marks` are the lines that name an epoch: the number of rows before each, and the epoch. That is
    so where values stand before the first of them and none after the last one.
    """
    if len(marks) < MIN_POINTS or not rows or marks[-1][0] != len(rows) or COUNTS & set(rows[0]):
        return rows
    moved, at = [], 0
    for index, row in enumerate(rows):
        while marks[at][0] <= index:
            at += 1
        moved.append({"epoch": marks[at][1]} | {k: v for k, v in row.items() if k not in COUNTS})
    return moved


def name_by_trend(rows: Rows, named: Collection[str]) -> str:
    """Name the values of which only the split is known, in place; returns a note on it, or nothing.

    In the rows these have the keys `train`, `val` and `test`; `named` are the splits that have a
    curve of another name, and need no further one. What falls in training is a loss; what rises
    there, and is a fraction or a percentage throughout, is an accuracy. Without values of training,
    only what falls is known. Anything else is dropped.
    """
    columns: dict[str, list[float]] = {}
    for row in rows:
        for split in BARE & set(row):
            columns.setdefault(split, []).append(row[split])
    columns = {
        split: values
        for split, values in columns.items()
        if len(values) >= MIN_POINTS and split not in named
    }
    kind = _kind_by_trend(columns) if columns else ""
    for row in rows:
        for split in BARE & set(row):
            value = row.pop(split)
            if kind and split in columns:
                row[f"{split}/{kind}"] = value
    listed = ", ".join(map(repr, sorted(columns)))
    if kind:
        return f"what is printed as {listed} is taken for the {kind}, from its trend"
    return f"not used, since nothing says whether it is a loss or an accuracy: {listed}" * bool(
        columns
    )


def _kind_by_trend(columns: Mapping[str, Sequence[float]]) -> str:
    decides = "train" if "train" in columns else min(columns)
    trend = _trend(columns[decides])
    finite = [value for values in columns.values() for value in values if math.isfinite(value)]
    if trend < 0:
        return "loss"
    is_score = bool(finite) and min(finite) >= 0 and max(finite) <= MAX_PERCENTAGE
    return "accuracy" if trend > 0 and is_score and decides == "train" else ""


def _trend(values: Sequence[float]) -> int:
    """1 where the last third of the values is clearly above the first, -1 below, 0 for neither."""
    finite = [value for value in values if math.isfinite(value)]
    third = len(finite) // 3
    if not third:
        return 0
    change = (sum(finite[-third:]) - sum(finite[:third])) / third
    spread = max(finite) - min(finite)
    return 0 if abs(change) <= MIN_TREND * spread else int(math.copysign(1, change))
