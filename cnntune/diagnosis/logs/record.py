"""What a log holds, before anyone asks what its columns mean."""

from dataclasses import dataclass
from typing import Literal

# (epoch or step, value): NaN and infinity are values; what was not logged is not there.
Point = tuple[float, float]

MAX_BYTES = 64 * 2**20  # of a file; what lies beyond is left out with a note
MAX_POINTS = 2_000_000  # of a file, about 200 MB in memory; what lies beyond is left out too


class UnreadableLogError(Exception):
    """The format is known, and yet no curve can be read from the file; `str()` is the reason."""


@dataclass(frozen=True)
class Record:
    """One run as its tool logged it.

    `columns` maps the tool's own names to points, in the order in which they were written. `axis`
    says what the first number of a point counts. `part` tells the runs of one file apart ("2" is
    the second); it is empty where the file holds one run. `notes` say what was left out or guessed.
    `bare` is the split of a metric whose name has no split word, where the tool has such a custom,
    and `percent` says that the tool writes accuracies as percentages.
    """

    format: str
    columns: dict[str, list[Point]]
    axis: Literal["epoch", "step"] = "epoch"
    part: str = ""
    notes: tuple[str, ...] = ()
    bare: Literal["train", "val", ""] = ""
    percent: bool = False
