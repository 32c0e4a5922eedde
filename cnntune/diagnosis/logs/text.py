"""Text logs: printed lines that name an epoch and hold numbers after their names.

Epoch: [3][50/391] Time 0.1 (0.1) Loss 0.31 (0.29) Prec@1 89.1 (90.2)     PyTorch's examples
 * Prec@1 84.700
Epoch(val) [4][625]  accuracy_top-1: 80.99                                mmcv
Epoch 3/10 - loss: 0.31 - acc: 0.90 - val_loss: 0.42 - val_acc: 0.85      Keras
epoch 3 | train loss 0.31 | val loss 0.42 | val acc 85.1%                 home-made
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache

from cnntune.diagnosis.logs.cells import NUMBER, percentage, without_time
from cnntune.diagnosis.logs.names import CURVES, SPLITS, has_curves, meaning, words_of
from cnntune.diagnosis.logs.record import MAX_POINTS, Record
from cnntune.diagnosis.logs.rows import records

MAX_LINE_LENGTH = 2000  # characters; a longer line is not one that a person would print
MAX_NAME_LENGTH = 80  # characters before a number in which its name is searched for
MAX_HEADING_LENGTH = 60  # characters; a longer line without a value is prose, not a heading

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x08")
VALUE = re.compile(r"\d|nan|inf", re.IGNORECASE)  # found in every line with a value
BLANKS = re.compile(r"[ \t]{2,}")
EPOCH = re.compile(
    r"(?<!\w)(?P<word>epochs?) ?(?:\( ?(?P<split>[a-z]+) ?\))?"
    r"[\s:#=\[(_-]{0,9}(?P<epoch>[0-9]+(?:\.[0-9]+)?)(?![\w.])(?P<of> ?(?:/|of) ?\d+)?",
    re.IGNORECASE,
)
# mmcv's `Iter [50/20000]`, where no epoch is named; `Iter(val) [50]` is another count
ITERATION = re.compile(
    r"(?<!\w)(?:iter(?:ation)?|step) ?[:#=\[(]{0,3} ?(?P<step>[0-9]+)(?![\w.])", re.IGNORECASE
)
# timm's `Train: 0 [  50/1251 (  4%)]`: the epoch without a name
TIMM_EPOCH = re.compile(r" ?(?P<split>train|test|val|eval)\w*: (?P<epoch>[0-9]+) \[", re.IGNORECASE)
NAMED_VALUE = re.compile(
    rf"(?<=[\s:=(])(?P<value>{NUMBER})"
    rf"(?: ?/ ?(?P<whole>[0-9]+)(?![\w.])|(?![\w./:]|,\d|-\d)(?P<percent> ?%)?"
    rf"(?: ?\( ?(?P<mean>{NUMBER}) ?%? ?\))?)",
    re.IGNORECASE,
)
WORD = r"[A-Za-z(_][\w@()./-]*"
NAME = re.compile(
    rf"(?<![\w./])([A-Za-z_][\w@()./-]*(?:[ \t]{WORD}){{0,3}}) ?[:=]? ?(?:tensor\( ?)?$"
)
FREE_SPLIT = re.compile(
    r"(?<![\w/.-])(" + "|".join(sorted(SPLITS)) + r")(?![\w/=.-])", re.IGNORECASE
)
# Words of sentences about other epochs, not about values of this one.
PROSE = frozenset({"best", "from", "improved", "improve", "resume", "resumed", "resuming", "last"})
PERCENTAGES = re.compile(
    r"(?:acc|prec)@1|top-?1", re.IGNORECASE
)  # logged as percentages in all known examples

COUNTS = {"epoch", "step"}
TRUNCATED_LINE = "the last line may be truncated and was skipped"


@dataclass
class _State:
    """The state of the reader: the present epoch and split, and the rows so far."""

    epoch: float | None = None
    step: float | None = None
    split: str = ""
    rows: list[dict[str, float]] = field(default_factory=list)
    running: dict[str, dict[str, float]] = field(default_factory=dict)


def read(text: str) -> list[Record]:
    """The runs in a text log; an empty list where no line holds a curve."""
    lines = ESCAPES.sub(" ", text).split("\n")
    notes = []
    if lines[-1].rstrip()[-1:] in tuple("0123456789.+-eE"):
        notes.append(TRUNCATED_LINE)
        lines.pop()
    state, points = _State(), 0
    for line in lines:
        if 0 < len(line) <= MAX_LINE_LENGTH:
            points += _read_line(line, state)
        if points > MAX_POINTS:
            notes.append(f"only the first {MAX_POINTS} values were read")
            break
    rows = [row for row in state.rows if set(row) - COUNTS]
    names = {name for row in rows for name in row}
    if not has_curves(names):
        return []
    counted = [row for row in rows if "epoch" in row] or [row for row in rows if "step" in row]
    rows = counted or sorted(_one_row_each(rows), key=lambda row: row["epoch"])
    percent = any(map(PERCENTAGES.search, names))
    return [replace(run, percent=percent) for run in records("text", rows, notes)]


def _read_line(line: str, state: _State) -> int:
    """Update `state` with the epoch, split and values of a line; returns the number of values."""
    line = BLANKS.sub(" ", without_time(line))
    values: list[tuple[str, float, bool]] = []
    if VALUE.search(line):
        if not _read_epoch(line, state):
            return 0
        values, state.split = _values(line, state.split)
    elif len(line) < MAX_HEADING_LENGTH:
        state.split = _free_split(line) or state.split
    row = {} if state.epoch is None else {"epoch": state.epoch}
    if state.epoch is None and state.step is not None:
        row = {"step": state.step}
    for name, value, running in values:
        if running and state.epoch is not None:
            earlier = state.running.get(name, {})
            if earlier.get("epoch") == state.epoch:
                earlier.pop(name, None)
            state.running[name] = row
        row[name] = value
    if values:
        state.rows.append(row)
    return len(values)


def _read_epoch(line: str, state: _State) -> bool:
    """Update `state` with the epoch in a line; False where the line is about another epoch.

    `best epoch: 12, val acc: 0.9` is a summary; `epochs: 100` is a setting.
    """
    found = TIMM_EPOCH.match(line)
    if found is None and (found := EPOCH.search(line)):
        before = line[max(0, found.start() - MAX_NAME_LENGTH) : found.start()].split()
        if before and before[-1].lower() in PROSE:
            return False
        if found["word"].lower() == "epochs" and not found["of"]:
            return True
    if found:
        state.epoch = float(found["epoch"])
        state.split = (found["split"] or "").lower()
    elif state.epoch is None and (step := ITERATION.search(line)):
        state.step, state.split = float(step["step"]), ""
    return True


def _values(line: str, split: str) -> tuple[list[tuple[str, float, bool]], str]:
    """Name and value of each curve in a line, and whether the value is a mean of the epoch so far.

    A name without a split word takes the last separate one before it: `val loss 0.4 acc 0.9`. The
    last such word of a line with values, or of a short line, also applies to the next line.
    """
    values, end, context = [], 0, split
    for found in NAMED_VALUE.finditer(line):
        before = line[max(end, found.start() - MAX_NAME_LENGTH) : found.start()]
        counted, _, before = before.rpartition("]")  # `Test: [50/79]`: differs in every line
        end = found.end()
        context = _free_split(before) or _free_split(counted.partition("[")[0]) or context
        name, wants_split = _name_before(before)
        if not name:
            continue
        value = float(found["mean"] or found["value"])
        if found["whole"] is not None:  # 9826/10000 correct answers; after a loss, a counter
            if float(found["whole"]) == 0 or meaning(name).kind not in ("accuracy", "error"):
                continue
            value = float(found["value"]) / float(found["whole"])
        elif found["percent"]:
            value = percentage(found["value"]) or value / 100
        named = f"{context}/{name}" if context and wants_split else name
        values.append((named, value, bool(found["mean"])))
    if not values and len(line) >= MAX_HEADING_LENGTH:
        return values, split
    return values, _free_split(line[max(end, len(line) - MAX_NAME_LENGTH) :]) or context


@lru_cache(maxsize=4096)  # the same words stand before the numbers of every line
def _name_before(text: str) -> tuple[str, bool]:
    """The name of a curve or learning rate at the end of a text, and whether it lacks a split."""
    found = NAME.search(text)
    if not found or PROSE & set(words_of(found[1])):
        return "", False
    known = meaning(found[1])
    if known.kind not in CURVES and known.kind != "lr":
        return "", False
    return found[1], not known.split and known.kind != "lr"


@lru_cache(maxsize=4096)
def _free_split(text: str) -> str:
    """The last split word in a text that is not part of a longer name."""
    return str((FREE_SPLIT.findall(text) or [""])[-1]).lower()


def _one_row_each(rows: list[dict[str, float]]) -> Iterator[dict[str, float]]:
    """Where no epoch is named, each further value of a name counts as one more epoch."""
    seen: dict[str, int] = {}
    for row in rows:
        for name, value in row.items():
            seen[name] = seen.get(name, 0) + 1
            yield {"epoch": float(seen[name]), name: value}
