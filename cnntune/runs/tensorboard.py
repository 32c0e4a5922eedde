"""A run's curves as TensorBoard event files, beside its `metrics.csv`."""

import math
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from cnntune.errors import DeviceError
from cnntune.runs.run import Run

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

TAGS = {
    "loss/train": "train_loss",
    "loss/val": "val_loss",
    "acc/train": "train_acc",
    "acc/val": "val_acc",
    "lr": "lr",
    "grad_norm": "grad_norm",
}
BEST = "best/val_acc"  # for a script without accuracies, minus its lowest loss
PLAIN = (bool, int, float, str)  # what the HParams table holds


def check_tensorboard() -> None:
    """Check that event files can be written, before anything is trained.

    Raises:
        DeviceError: where the tensorboard package is missing.
    """
    if find_spec("tensorboard") is None:
        raise DeviceError(
            "--tensorboard: needs the tensorboard package: pip install 'cnntune[tensorboard]'"
        )


class EventFiles:
    """The curves of runs as TensorBoard event files in their folders; the step is the epoch.

    A row that is written twice would be a second curve, so the files of an interrupted run are
    replaced.
    """

    def __init__(self) -> None:
        self._open: dict[Run, tuple[SummaryWriter, int]] = {}  # and the last epoch written

    def update(self, run: Run) -> None:
        """Write the rows of `run` that are not in its file yet."""
        rows = run.rows()
        if run not in self._open and rows:
            self._open[run] = _new_writer(run), 0
        if run not in self._open:
            return
        writer, written = self._open[run]
        for row in (row for row in rows if row.epoch > written):
            for tag, column in TAGS.items():
                writer.add_scalar(tag, getattr(row, column), row.epoch)
            written = row.epoch
        writer.flush()
        self._open[run] = writer, written

    def end(self, run: Run, values: Mapping[str, Any], score: float | None) -> None:
        """Write the last rows, and `values` with the best score as a line of the HParams table."""
        self.update(run)
        if run not in self._open:  # it failed before its first epoch
            return
        writer, written = self._open.pop(run)
        if values and score is not None and math.isfinite(score):
            from torch.utils.tensorboard.summary import hparams

            plain = {k: v if isinstance(v, PLAIN) else str(v) for k, v in values.items()}
            for summary in hparams(plain, {BEST: score}):
                writer.file_writer.add_summary(summary)  # type: ignore[attr-defined]
            writer.add_scalar(BEST, score, written)
        writer.close()


def _new_writer(run: Run) -> "SummaryWriter":
    from torch.utils.tensorboard import SummaryWriter

    for earlier in run.path.glob("events.out.tfevents.*"):
        earlier.unlink()
    return SummaryWriter(str(run.path))
