"""The folder of one run: its recipe, a row per epoch, its result.

trial-0007/            a run
config.json          written first, never changed
metrics.csv          append-only, one flushed row per epoch
checkpoint.pt        the state after the last epoch, while the run is not finished
summary.json         written last, by rename: without it the run is not finished
work/                of a command: its working directory; beside it stdout.txt and stderr.txt
"""

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from cnntune.runs.files import DamagedFileError, finite, read_whole_json, write_json

WORK = "work"
ERRORS = "errors.json"  # what the network gets wrong on the validation set


@dataclass(frozen=True)
class Epoch:
    """One row of `metrics.csv`, in its column order.

    Losses are mean cross-entropy in nats, accuracies in 0..1, and epochs count from 1. `train_loss`
    and `train_acc` are measured like `val_loss` and `val_acc`, in eval mode and without
    augmentation, on a fixed part of the training images: the two curves can be compared. `lr` is
    that of the last step; `grad_norm` is the mean over steps, before clipping.

    In a run of a command (`cnntune search SPACE -- COMMAND`) an epoch is one evaluation, the
    numbers are those that the script logged, and `NotLogged` is what it did not log.
    """

    epoch: int
    lr: float
    train_loss: float
    train_acc: float
    val_loss: float
    val_acc: float
    grad_norm: float
    seconds: float

    @property
    def diverged(self) -> bool:
        """Whether a loss is NaN or infinite."""
        losses = (logged(self.train_loss), logged(self.val_loss))
        return not all(math.isfinite(loss) for loss in losses if loss is not None)

    @property
    def score(self) -> float:
        """What epochs and trials are ranked by, see `score_of`."""
        measured = (self.val_acc, self.val_loss, self.train_acc, self.train_loss)
        return score_of(*map(logged, measured))


class NotLogged(float):
    """NaN that stands for what a script did not log, an empty cell: no sign of divergence."""

    def __new__(cls, _: float = math.nan) -> "NotLogged":
        """There is one value."""
        return super().__new__(cls, math.nan)


def logged(value: float) -> float | None:
    """The value, None where it was not logged."""
    return None if isinstance(value, NotLogged) else value


def score_of(
    val_acc: float | None,
    val_loss: float | None,
    train_acc: float | None = None,
    train_loss: float | None = None,
) -> float:
    """The first of these that is known, losses with a minus: more is better.

    A recipe's run always has a validation accuracy. Minus infinity where nothing is known.
    """
    for value, sign in ((val_acc, 1), (val_loss, -1), (train_acc, 1), (train_loss, -1)):
        if value is not None:
            return sign * value if math.isfinite(value) else -math.inf
    return -math.inf


COLUMNS = tuple(field.name for field in fields(Epoch))


def best_epoch(rows: list[Epoch]) -> Epoch | None:
    """The epoch whose weights are worth keeping: highest score, then lowest validation loss.

    Epochs of a diverged run do not count.
    """
    if not rows or rows[-1].diverged:
        return None
    return max(rows, key=lambda row: (row.score, -row.val_loss))


@dataclass(frozen=True)
class Run:
    """The folder of one training run.

    A damaged file counts as missing: its content is found elsewhere or trained again.
    """

    path: Path

    @property
    def name(self) -> str:
        """`trial-0003`, or `refine-1/trial-0003` in a refinement."""
        in_round = self.path.parent.name.startswith("refine-")
        return f"{self.path.parent.name}/{self.path.name}" if in_round else self.path.name

    @property
    def metrics(self) -> Path:
        """The file with a row for each epoch."""
        return self.path / "metrics.csv"

    @property
    def checkpoint(self) -> Path:
        """The file that an interrupted run resumes from; a finished run has none."""
        return self.path / "checkpoint.pt"

    def begin(self, config: Mapping[str, Any]) -> int:
        """Make the folder and write `config.json`, or resume an interrupted run of that config.

        Returns how many epochs are logged there. Rows of a run of another config are removed, and
        so is a torn last line.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if self.metrics.exists() and self.config() == json.loads(json.dumps(finite(config))):
            _drop_torn_line(self.metrics)
            if rows := self.rows():
                return len(rows)
        self.checkpoint.unlink(missing_ok=True)
        write_json(self.path / "config.json", config)
        with self.metrics.open("w", newline="") as file:
            csv.writer(file).writerow(COLUMNS)
        return 0

    def log(self, row: Epoch) -> None:
        """Append one row and flush it."""
        with self.metrics.open("a", newline="") as file:
            cells = ("" if logged(cell) is None else cell for cell in astuple(row))
            csv.writer(file).writerow(cells)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write `summary.json`, which marks the run as finished."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.path / "summary.json", summary)
        self.checkpoint.unlink(missing_ok=True)

    def config(self) -> dict[str, Any]:
        """The recipe of the run, as nested values; empty where there is none.

        Raises:
            StudyError: where a newer cnntune wrote it.
        """
        return read_whole_json(self.path / "config.json") or {}

    def summary(self) -> dict[str, Any] | None:
        """The result, or None while the run is not finished.

        Raises:
            StudyError: where a newer cnntune wrote it.
        """
        return read_whole_json(self.path / "summary.json")

    def errors(self) -> dict[str, Any] | None:
        """What the network gets wrong on the validation set; None where it was not analysed.

        Raises:
            StudyError: where a newer cnntune wrote it.
        """
        return read_whole_json(self.path / ERRORS)

    def rows(self) -> list[Epoch]:
        """The epochs so far; a torn last line is dropped."""
        try:
            return read_metrics(self.metrics)
        except DamagedFileError:
            return []


def read_metrics(path: Path) -> list[Epoch]:
    """The rows of a `metrics.csv`.

    A line is whole when a newline ends it and each cell is a number or, where a script did not log
    one, empty; others are dropped, since half a number would be a wrong number. An epoch has one
    row, however often it was written: two machines may have trained a trial for a while, where
    each took the other for dead.

    Raises:
        DamagedFileError: where the columns are not those of a run of ours.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DamagedFileError(f"{path}: cannot be read: {error.strerror}") from None
    if "\n" not in text:  # killed before the header was out
        return []
    header, *lines = text.split("\n")[:-1]
    if tuple(header.strip().split(",")) != COLUMNS:
        raise DamagedFileError(f"{path}: must have the columns {','.join(COLUMNS)}")
    rows = [row for row in map(_parse_row, lines) if row is not None]
    return list({row.epoch: row for row in rows}.values())


def _drop_torn_line(path: Path) -> None:
    """Cut off what stands after the last newline: the next row must begin a line."""
    with path.open("rb+") as file:
        file.truncate(file.read().rfind(b"\n") + 1)


def _cells(line: str) -> list[float]:
    """The numbers of a row; an empty cell is a result that was not logged."""
    cells = line.strip().split(",")
    try:
        return [float(cell) for cell in cells]
    except ValueError:
        number, *measured, seconds = cells
        values = [float(cell) if cell else NotLogged() for cell in measured]
        return [float(number), *values, float(seconds)]


def _parse_row(line: str) -> Epoch | None:
    try:
        number, *values, seconds = _cells(line)
        return Epoch(int(number), *values, seconds)  # type: ignore[call-arg]  # five
    except (TypeError, ValueError, OverflowError):
        return None
