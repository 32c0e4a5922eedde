"""Text logs: lines for people, in which an epoch is named and numbers stand behind their names.

Epoch: [3][50/391] Time 0.1 (0.1) Loss 0.31 (0.29) Prec@1 89.1 (90.2)     PyTorch's examples
 * Prec@1 84.700
Epoch(val) [4][625]  accuracy_top-1: 80.99                                mmcv
Epoch 3/10 - loss: 0.31 - acc: 0.90 - val_loss: 0.42 - val_acc: 0.85      Keras
epoch 3 | train loss 0.31 | val loss 0.42 | val acc 85.1%                 home-made
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from cnntune.logs.cells import NUMBER, percentage
from cnntune.logs.json_documents import has_curves
from cnntune.logs.names import CURVES, SPLITS, meaning, words_of
from cnntune.logs.record import MAX_POINTS, Record
from cnntune.logs.rows import records

TORN_LINE = "the last line may be torn and is left out"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x08")
# A line without any of these holds nothing for us; cheap to ask before the costly patterns.
HINT = re.compile(
    r"epoch|loss|acc|err|prec|top|lr|rate|train|val|test|eval|f1|auc|iou|dice|map|score|recall",
    re.IGNORECASE,
)
EPOCH = re.compile(
    r"(?P<before>[A-Za-z]*)[^\w\n]*(?<!\w)epochs?\s*(?:\(\s*(?P<split>[a-z]+)\s*\))?"
    r"[\s:#=\[(]*(?P<epoch>\d+(?:\.\d+)?)(?![\w.])(?P<of>\s*(?:/|of)\s*\d+)?",
    re.IGNORECASE,
)
# timm's `Train: 0 [  50/1251 (  4%)]`: the epoch has no name
TIMM_EPOCH = re.compile(
    r"\s*(?P<split>train|test|val|eval)\w*:\s*(?P<epoch>\d+)\s+\[", re.IGNORECASE
)
NAME = r"[A-Za-z_][\w@./-]*(?:\([\w.@-]*\))?(?:[ \t][A-Za-z(][\w@()./-]*){0,3}"
PAIR = re.compile(
    rf"(?P<name>{NAME}?)(?:\s*[:=]\s*|\s+)(?:tensor\(\s*)?(?P<value>{NUMBER})"
    rf"(?:\s*/\s*(?P<whole>\d+)(?![\w.])|(?![\w./:]|,\d|-\d)(?P<percent>\s?%)?"
    rf"(?:\s*\(\s*(?P<mean>{NUMBER})\s*%?\s*\))?)",
    re.IGNORECASE,
)
FREE_SPLIT = re.compile(
    r"(?<![\w/.-])(" + "|".join(sorted(SPLITS)) + r")(?![\w/=.-])", re.IGNORECASE
)
# Words of sentences about epochs and values, not of the values of this epoch.
PROSE = frozenset({"best", "from", "improved", "improve", "resume", "resumed", "resuming", "last"})
PERCENTAGES = re.compile(
    r"(?:acc|prec)@1|top-?1", re.IGNORECASE
)  # so in every example that has them
HEADING = 60  # characters; longer lines without a value are prose


@dataclass
class _Place:
    """Where the reader is in the log: in which epoch, and in which split's part of it."""

    epoch: float | None = None
    split: str = ""
    rows: list[dict[str, float]] = field(default_factory=list)
    running: dict[str, dict[str, float]] = field(default_factory=dict)


def read(text: str) -> list[Record]:
    """The runs in a text log; an empty list where no line of it holds a curve."""
    place = _Place()
    points = 0
    lines = text.split("\n")
    notes = []
    if lines[-1].strip() and lines[-1].rstrip()[-1] in "0123456789.+-eE":
        notes.append(TORN_LINE)
        lines.pop()
    for line in lines:
        if not line.strip():
            place.split = ""
        elif HINT.search(line):
            points += _read_line(ESCAPES.sub("", line), place)
        if points > MAX_POINTS:
            notes.append(f"only the first {MAX_POINTS} values were read")
            break
    rows = [row for row in place.rows if len(row) > ("epoch" in row)]
    if not has_curves(name for row in rows for name in row):
        return []
    counted = [row for row in rows if "epoch" in row]
    rows = counted or sorted(_one_row_each(rows), key=lambda row: row["epoch"])
    percent = any(PERCENTAGES.search(name) for row in rows for name in row)
    return [replace(run, percent=percent) for run in records("text", rows, notes)]


def _read_line(line: str, place: _Place) -> int:
    """Take up the epoch, the split and the values of a line; how many values there were."""
    if found := TIMM_EPOCH.match(line) or EPOCH.search(line):
        words = {word.lower() for word in (found.groupdict().get("before") or "",) if word}
        plural = "epochs" in found[0].lower() and not found.groupdict().get("of")
        if not words & PROSE and not plural:
            place.epoch = float(found["epoch"])
            place.split = (found["split"] or "").lower()
    row = {} if place.epoch is None else {"epoch": place.epoch}
    values = list(_pairs(line, place.split))
    for name, value, running in values:
        earlier = place.running.get(name)
        if running and earlier is not None and earlier.get("epoch") == place.epoch:
            earlier.pop(name, None)
        if running:
            place.running[name] = row
        row[name] = value
    if values:
        place.rows.append(row)
    if (splits := FREE_SPLIT.findall(line)) and (values or len(line) < HEADING):
        place.split = splits[-1].lower()
    return len(values)


def _pairs(line: str, split: str) -> Iterator[tuple[str, float, bool]]:
    """Name and value of each curve in a line, and whether the value is a mean of the epoch so far.

    A name without a split word belongs to the free one before it: `val loss 0.4 acc 0.9`.
    """
    frees = [(found.start(), found[1].lower()) for found in FREE_SPLIT.finditer(line)]
    for pair in PAIR.finditer(line):
        name = pair["name"].strip()
        found = meaning(name)
        if found.kind not in CURVES | {"lr"} or PROSE & set(words_of(name)):
            continue
        if not found.split and found.kind != "lr":
            before = [word for at, word in frees if at < pair.start("value")]
            context = before[-1] if before else split
            name = f"{context}/{name}" if context else name
        value = float(pair["mean"] or pair["value"])
        if pair["whole"] is not None:
            if float(pair["whole"]) == 0 or found.kind not in CURVES - {"loss"}:
                continue
            value = float(pair["value"]) / float(pair["whole"])
        if pair["percent"]:
            value = percentage(pair["value"]) or value / 100
        yield name, value, pair["mean"] is not None


def _one_row_each(rows: list[dict[str, float]]) -> Iterator[dict[str, float]]:
    """Where no epoch is named, each value of a name is one epoch further."""
    seen: dict[str, int] = {}
    for row in rows:
        for name, value in row.items():
            seen[name] = seen.get(name, 0) + 1
            yield {"epoch": float(seen[name]), name: value}
