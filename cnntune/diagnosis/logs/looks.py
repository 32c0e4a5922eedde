"""Whether a file that could not be read looks like a log, so that skipping it is reported."""

import re
from itertools import pairwise
from pathlib import Path

from cnntune.diagnosis.logs.names import CURVES, has_curves, meaning, words_of

HEAD = 2**18  # bytes from which this is decided
MIN_LINES = 3  # with a count or a curve and a number; fewer may be prose
SUFFIXES = frozenset({".log", ".out", ".err"})
WORDS = frozenset(
    (
        *("log", "logs", "logger", "train", "training", "trainer", "result", "results", "metric"),
        *("metrics", "history", "histories", "scalar", "scalars", "progress", "stdout", "output"),
        *("nohup", "slurm"),
    )
)
COUNTED = re.compile(r"\b(?:epochs?|steps?|iter|iterations?)\b[\s:#=\[(/|>]{0,9}\d", re.IGNORECASE)
CURVE = re.compile(
    r"(?:loss|accuracy|\b(?:acc|val|valid|train|error|err|miou|map)\b)[^\n]{0,30}?\d", re.IGNORECASE
)
NUMBERS = re.compile(r"[\s,;|]*[-+]?(?:\d|nan\b|inf\b)[-+\d.,;|:/%eEGMKnaif\s]*", re.IGNORECASE)
# A header of a table that fastai prints, without lines between its cells
COUNT_HEADER = re.compile(r"[>#\s]*(?:epoch|step|iter(?:ation)?)s?(?:\t| {2,})", re.IGNORECASE)
DECIMAL = re.compile(r"[a-z][ :=]{1,3}[0-9]*\.[0-9]", re.IGNORECASE)  # a value after its name
MIN_PAIR = 2  # such values in a line below a count
CELLS = re.compile(r"\t| {2,}")
MIN_VALUES = 3  # such values in a line that is no prose
COUNT_CELL = re.compile(r"\|\s*(?:epoch|step|iter(?:ation)?)s?\s*\|", re.IGNORECASE)


def is_named_as_log(path: Path) -> bool:
    """Whether the name of a file is one that logs have: `train.log`, `results`, `val_loss.txt`."""
    words = set(words_of(path.stem))
    return (
        path.suffix.lower() in SUFFIXES or bool(words & WORDS) or meaning(path.stem).kind in CURVES
    )


def is_log(path: Path, text: str) -> bool:
    """Whether a file looks like a log of curves.

    Its extension is that of a log, its lines name a curve and hold a number, or its name is that of
    a log and its lines are numbers. A JSON document may be a setting, so it needs the name of a
    log.
    """
    lines = text.split("\n")
    named = is_named_as_log(path)
    if path.suffix.lower() in SUFFIXES:
        return True
    if path.suffix.lower() == ".json" and not named:
        return False
    if sum(map(_names_curve, lines)) >= MIN_LINES:
        return True
    filled = [line for line in lines if line.strip()]
    numbers = sum(NUMBERS.fullmatch(line) is not None for line in filled)
    return named and numbers >= max(MIN_LINES, len(filled) / 2)


def is_log_in_document(text: str) -> bool:
    """Whether a document such as a README holds printed lines or a table that count epochs."""
    lines = text.split("\n")
    counted = [line for line in lines if COUNTED.search(line) and CURVE.search(line)]
    if len(counted) >= MIN_LINES or any(COUNT_CELL.search(line) for line in lines):
        return True
    if any(len(DECIMAL.findall(line)) >= MIN_VALUES for line in counted):
        return True
    above = [line for line, below in pairwise(lines) if COUNTED.search(line) and _has_values(below)]
    if len(above) >= MIN_LINES:  # `Epoch 1/10`, and its values in the line below
        return True
    if any(COUNT_HEADER.match(line) and has_curves(CELLS.split(line)) for line in lines):
        return True
    return '"cell_type"' in text and ("<th>epoch" in text or _counts_in_one_line(text))


def _has_values(line: str) -> bool:
    return CURVE.search(line) is not None and len(DECIMAL.findall(line)) >= MIN_PAIR


def _names_curve(line: str) -> bool:
    return CURVE.search(line) is not None


def _counts_in_one_line(text: str) -> bool:
    """Whether a notebook that is one line of JSON holds printed lines that count epochs."""
    return len(COUNTED.findall(text)) >= MIN_LINES and CURVE.search(text) is not None
