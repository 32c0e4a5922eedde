"""Darknet's printed lines: `N: loss, average avg loss, rate rate, ...`, and the mAP it computes.

1: 2000.3, 2100.3 avg loss, 0.001 rate, 8.4 seconds, 64 images
mean average precision (mAP@0.50) = 0.7834, or 78.34 %
"""

import re

from cnntune.diagnosis.logs.cells import NUMBER
from cnntune.diagnosis.logs.record import MAX_POINTS, Record
from cnntune.diagnosis.logs.rows import records

ITERATION = re.compile(
    rf"^ *(?P<step>[0-9]+): *(?P<loss>{NUMBER}), *(?P<mean>{NUMBER}) avg(?: loss)?,"
    rf" *(?P<lr>{NUMBER}) rate\b",
    re.IGNORECASE | re.MULTILINE,
)
PRECISION = re.compile(
    rf"mean average precision \((?P<name>mAP@[0-9.]+)\) = (?P<value>{NUMBER})", re.IGNORECASE
)
LOSS, RATE = "avg loss", "learning rate"


def read(text: str) -> list[Record]:
    """The runs in a log of darknet; an empty list for any other text.

    The loss is the running average, since that of one batch is noise. The mAP is that of the
    validation set.
    """
    if " avg" not in text or " rate" not in text:
        return []
    rows: list[dict[str, float]] = []
    for line in text.split("\n"):
        if found := ITERATION.match(line):
            step, mean, lr = (float(found[name]) for name in ("step", "mean", "lr"))
            rows.append({"iteration": step, LOSS: mean, RATE: lr})
        elif rows and (found := PRECISION.search(line)):
            rows[-1][f"val/{found['name']}"] = float(found["value"])
        if 2 * len(rows) > MAX_POINTS:
            break
    return records("darknet", rows)
