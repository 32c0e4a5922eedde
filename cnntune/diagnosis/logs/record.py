"""What a log holds, before its columns are interpreted."""

from dataclasses import dataclass
from typing import Literal

# (epoch or step, value): NaN and infinity are values; what was not logged has no point.
Point = tuple[float, float]

MAX_BYTES = 64 * 2**20  # per file; the rest is skipped with a note
MAX_POINTS = 2_000_000  # per file, about 200 MB in memory; the rest is skipped with a note

# What `--map` may name: a curve, an error rate instead of an accuracy, the lr, the epoch.
ROLES = (
    *("train_loss", "val_loss", "train_acc", "val_acc"),
    *("train_err", "val_err", "lr", "epoch"),
)


class UnreadableLogError(Exception):
    """The format is known, but no curve can be read from the file; `str()` is the reason."""


@dataclass(frozen=True)
class Record:
    """One run as its tool logged it.

    `columns` maps the tool's own names to points, in the order in which they were written. `axis`
    says what the first number of a point counts. `part` distinguishes the runs of one file ("2" is
    the second); it is empty where the file holds one run. `notes` say what was skipped or guessed.
    `bare` is the split of a metric whose name has no split word, for tools with such a convention,
    and `percent` says that the tool writes accuracies as percentages, but for those in `fractions`,
    which were written with a percent sign and are fractions already.
    """

    format: str
    columns: dict[str, list[Point]]
    axis: Literal["epoch", "step"] = "epoch"
    part: str = ""
    notes: tuple[str, ...] = ()
    bare: Literal["train", "val", ""] = ""
    percent: bool = False
    fractions: frozenset[str] = frozenset()
