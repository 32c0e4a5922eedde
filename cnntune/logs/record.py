"""What a log holds, before anyone asks what its columns mean."""

from dataclasses import dataclass, field

# (epoch or step, value): NaN and infinity are values; what was not logged is not there.
Point = tuple[float, float]


class UnreadableLogError(Exception):
    """The format is known, and yet no curve can be read from the file; `str()` is the reason."""


@dataclass(frozen=True)
class Record:
    """One run as its tool logged it.

    `columns` maps the tool's own names to points, in the order in which they were written. `axis`
    says what the first number of a point counts. `part` tells the runs of one file apart ("2" is
    the second); it is empty where the file holds one run. `notes` say what was left out or guessed.
    """

    format: str
    columns: dict[str, list[Point]]
    axis: str = "epoch"  # or "step"
    part: str = ""
    notes: tuple[str, ...] = field(default=())
