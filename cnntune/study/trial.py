"""One trial of a study, and how trials compare."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cnntune.config.space import Value
from cnntune.errors import StudyError
from cnntune.runs.run import Epoch, Run
from cnntune.runs.study import Study
from cnntune.runs.summary import Status, Summary


@dataclass(frozen=True)
class Trial:
    """One trial: its values and its result, `running` without one."""

    number: int
    values: dict[str, Value]
    run: Run
    summary: Summary

    @property
    def status(self) -> Status:
        """Complete, pruned, diverged, failed or running."""
        return self.summary.status

    @property
    def val_acc(self) -> float:
        """Validation accuracy of the best epoch, 0..1; -1 where the trial has none."""
        return -1.0 if self.summary.val_acc is None else float(self.summary.val_acc)

    @property
    def score(self) -> float:
        """What trials are ranked by: the validation accuracy where there is one."""
        return self.summary.score

    @property
    def val_loss(self) -> float:
        """Validation loss of the best epoch, nats; NaN where it is not known."""
        return math.nan if self.summary.val_loss is None else float(self.summary.val_loss)

    @property
    def curve(self) -> list[Epoch]:
        """Its rows; none where the file is missing, or holds fewer epochs than were trained."""
        rows = self.run.rows()
        return rows if len(rows) >= self.summary.epochs else []

    @property
    def accs(self) -> list[float]:
        """The score of each epoch, its validation accuracy, as pruning compares them.

        Of a complete trial whose curve is missing its best one, so that it keeps its rank.
        """
        rows = self.run.rows()
        if self.status == "complete" and len(rows) < self.summary.epochs:
            return [self.score] * int(self.summary.epochs)
        return [row.score for row in rows]

    @property
    def missing(self) -> list[str]:
        """The files of a trial that ended, by name, that are missing, damaged or too new."""
        if self.status == "running":
            return []
        if not self.run.path.is_dir():
            return ["folder"]
        files = {
            "config.json": _has_config(self.run),
            "metrics.csv": bool(self.curve) or not self.summary.epochs,
            "summary.json": Summary.from_json(self.run.summary()) is not None,
        }
        return [name for name, whole in files.items() if not whole]


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The complete trial with the highest validation accuracy, then the lowest loss, if any."""
    complete = [trial for trial in ranked(trials) if trial.status == "complete"]
    return complete[0] if complete else None


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """The trials with an accuracy, best first: those that were trained whole before pruned ones."""
    found = [trial for trial in trials if trial.status in ("complete", "pruned")]
    return sorted(found, key=_rank)


def _rank(trial: Trial) -> tuple[bool, int, float, float]:
    """A pruned trial comes after those that went further, and among its equals by accuracy."""
    pruned = trial.status == "pruned"
    epochs = -trial.summary.epochs if pruned else 0
    loss = trial.val_loss
    return pruned, epochs, -trial.score, math.inf if math.isnan(loss) else loss


def _has_config(run: Run) -> bool:
    try:
        return bool(run.config())
    except StudyError:  # of a newer version: no trial is compared by it
        return False


def begun_precision(study: Study) -> str | None:
    """The precision of the trials of a study and of its refinements; None without a trial.

    In a study that is older than its record of the precision, only each trial's config holds it.
    """
    for path in sorted(study.path.glob("**/trial-*/config.json")):
        config = Run(path.parent).config()
        if found := config.get("train", {}).get("precision"):
            return str(found)
    return None
