"""YOLO's `results.txt`, which has no header: 15 columns of YOLOv5 before 5.0, YOLOv7 and YOLOv3.

0/59  1.2G  0.1  0.09  0.04  0.23  20  640  0.6  0.7  0.5  0.3  0.09  0.08  0.03
epoch memory box obj cls total labels size  P    R   mAP@.5 mAP@.5:.95 and the losses of validation

The total is the sum of the three losses before it; rows in which it is not have another layout.
"""

import re

from cnntune.diagnosis.logs.cells import number
from cnntune.diagnosis.logs.record import Record, UnreadableLogError
from cnntune.diagnosis.logs.rows import Row, records

ROW = re.compile(r"\s*[0-9]+/[0-9]+\s+[0-9.]+G\s")
# As in the header of the `results.csv` that later versions write.
TRAIN = ("train/box_loss", "train/obj_loss", "train/cls_loss")
METRICS = ("metrics/precision", "metrics/recall", "metrics/mAP_0.5", "metrics/mAP_0.5:0.95")
VAL = ("val/box_loss", "val/obj_loss", "val/cls_loss")
LAYOUT = ("epoch", "", *TRAIN, "", "", "", *METRICS, *VAL)
TOTAL = 5  # the index of the total in `LAYOUT`
TRAIN_WIDTH = 8  # cells of a row without validation
MIN_SHARE = 0.8  # of the lines that are such rows
TOLERANCE = 0.02  # of the total, since values are printed with four digits


def read(text: str) -> list[Record]:
    """The runs in a `results.txt`; an empty list where lines do not begin as YOLO's do.

    Raises:
        UnreadableLogError: where the columns are not those of the known layout.
    """
    if not ROW.match(text.lstrip("\n")):
        return []
    lines = [line for line in text.split("\n") if line.strip()]
    found = [line.split() for line in lines if ROW.match(line)]
    if len(found) < MIN_SHARE * len(lines) or any("%" in cell for cells in found for cell in cells):
        return []
    rows = [row for cells in found if (row := _row(cells))]
    if not rows:
        raise UnreadableLogError(
            "looks like YOLO's results.txt, but its columns are unknown: add a header of names"
        )
    notes = [f"{len(found) - len(rows)} rows with other columns were skipped"]
    return records("yolo", rows, notes if len(rows) < len(found) else ())


def _row(cells: list[str]) -> Row:
    """The values of a row by name; empty where it does not have the known layout."""
    values = [number(cell) for cell in cells[1:]]
    if len(cells) not in (TRAIN_WIDTH, len(LAYOUT)) or None in values[1:]:
        return {}
    parts, total = [value or 0.0 for value in values[1 : TOTAL - 1]], values[TOTAL - 1] or 0.0
    finite = abs(total) < float("inf")  # false for NaN too
    if finite and abs(sum(parts) - total) > TOLERANCE * abs(total):
        return {}
    named = zip(LAYOUT[1:], values, strict=False)
    row = {name: value for name, value in named if name and value is not None}
    return {"epoch": float(cells[0].split("/")[0])} | row
