"""Tables that AllenNLP prints after each epoch: a metric per row, a split per column.

                  Training |  Validation
accuracy       |     0.700  |     0.800
loss           |     2.000  |     2.100

A logger's prefix may stand before each line. Epochs are those of the last `Epoch 3/10` above.
"""

import re

from cnntune.diagnosis.logs.cells import number
from cnntune.diagnosis.logs.names import COUNTS, SPLITS, has_curves, meaning
from cnntune.diagnosis.logs.record import Record
from cnntune.diagnosis.logs.rows import records

HEADER = re.compile(r"(?:^|\s)(?P<first>[A-Za-z]+)\s*\|\s*(?P<second>[A-Za-z]+)\s*\|?\s*$")
ROW = re.compile(
    r"(?:^|\s)(?P<name>[A-Za-z_][\w@./-]*)\s*\|\s*(?P<first>[^\s|]+)\s*\|\s*(?P<second>[^\s|]+)\s*\|?\s*$"
)
EPOCH = re.compile(r"\bepoch:?\s*(?P<epoch>[0-9]+)(?:\s*(?:/|of)\s*[0-9]+)?\s*$", re.IGNORECASE)
MIN_TABLES = 2
MAX_LINE_LENGTH = 2000  # characters; a longer line is not one of such a table


def read(text: str) -> list[Record]:
    """The runs in a text with such tables; an empty list for any other text.

    Without a line that names the epoch before each table, the tables are counted from 1.
    """
    if "|" not in text:
        return []
    rows: list[dict[str, float]] = []
    splits: tuple[str, str] | None = None
    epoch: float | None = None
    for line in text.split("\n"):
        if len(line) > MAX_LINE_LENGTH:
            continue
        if found := EPOCH.search(line):
            epoch, splits = float(found["epoch"]), None
        elif "|" not in line:
            splits = None
        elif (found := HEADER.search(line)) and _are_splits(found["first"], found["second"]):
            splits = found["first"], found["second"]
            rows.append({} if epoch is None else {"epoch": epoch})
            epoch = None
        elif splits and (found := ROW.search(line)) and not _counts(found["name"]):
            for split, cell in zip(splits, (found["first"], found["second"]), strict=True):
                if (value := number(cell)) is not None:
                    rows[-1][f"{split}/{found['name']}"] = value
    if any("epoch" not in row for row in rows):
        rows = [row | {"epoch": float(at)} for at, row in enumerate(rows, start=1)]
    if len(rows) < MIN_TABLES or not has_curves(name for row in rows for name in row):
        return []
    return records("allennlp", rows)


def _counts(name: str) -> bool:
    """Whether a row counts epochs or steps, and is no metric of a split."""
    return meaning(name).kind in COUNTS


def _are_splits(first: str, second: str) -> bool:
    return first.lower() in SPLITS and second.lower() in SPLITS and first != second
