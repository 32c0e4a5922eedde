"""From paths to judged runs: find them, read their curves, hold each against its study's best."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnntune.curves import Curve
from cnntune.diagnose import Diagnosis, diagnose
from cnntune.errors import DataError, StudyError
from cnntune.findings import Finding, Severity
from cnntune.recipe import flatten
from cnntune.runs import Epoch, best_epoch, find_runs

OWN_FORMAT = "cnntune"

# Worst first: what needs attention stands at the top of the table.
ORDER = ("unstable", "underfitting", "overfitting", "still-improving", "too-short", "converged")


@dataclass(frozen=True)
class JudgedRun:
    """A run with its curve and what the curve says."""

    path: Path
    curve: Curve
    diagnosis: Diagnosis
    best_val_acc: float | None  # 0..1; None where the run diverged

    @property
    def command(self) -> str | None:
        """The command that trains the run again with the first change of the advice."""
        if self.diagnosis.change is None:
            return None
        key, value = self.diagnosis.change
        config = str(self.path / "config.json")
        return shlex.join(["cnntune", "train", config, "--no-test", "--set", f"{key}={value}"])

    def as_json(self) -> dict[str, Any]:
        """The run's entry under `runs` in `diagnose --json`."""
        diagnosis = self.diagnosis
        return {
            "path": str(self.path),
            "format": OWN_FORMAT,
            "label": diagnosis.label,
            "also": diagnosis.also,
            "confidence": diagnosis.confidence,
            "evidence": diagnosis.evidence,
            "advice": diagnosis.advice,
            "epochs": diagnosis.epochs,
            "best_epoch": diagnosis.best_epoch,
            "flags": diagnosis.flags,
            "command": self.command,
        }

    def finding(self) -> Finding:
        """The verdict as a finding; a bad curve only warns, since a search must try bad values."""
        severity: Severity = (
            "warn" if self.diagnosis.severity == "fail" else self.diagnosis.severity
        )
        return Finding(
            self.diagnosis.label,
            severity,
            self.diagnosis.evidence,
            "; ".join(self.diagnosis.advice),
            where=str(self.path),
        )


def judge_paths(paths: Iterable[Path]) -> tuple[list[JudgedRun], list[dict[str, str]]]:
    """Judge every run at or below `paths`, worst label first, each run once.

    Returns the judged runs, and `{"path", "reason"}` for what could not be read.

    Raises:
        DataError: where a path does not exist, or no run is found at all.
    """
    paths = list(paths)
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise DataError(f"{path}: no such file or folder" for path in missing)
    runs = {run.path.resolve(): run for path in paths for run in find_runs(_folder(path))}
    judged, skipped = [], []
    curves: dict[Path, tuple[list[Epoch], dict[str, Any]]] = {}
    for run in runs.values():
        try:
            rows, settings = run.rows(), flatten(run.config())
        except (StudyError, OSError) as error:
            skipped.append({"path": str(run.path), "reason": str(error)})
            continue
        if rows:
            curves[run.path] = (rows, settings)
        else:
            skipped.append({"path": str(run.path), "reason": "has no finished epoch"})
    studies: dict[Path, list[list[Epoch]]] = {}
    for path, (rows, _) in curves.items():
        studies.setdefault(path.parent, []).append(rows)
    best = {folder: _best(siblings) for folder, siblings in studies.items()}
    for path, (rows, settings) in curves.items():
        judged.append(_judge(path, rows, settings, best[path.parent]))
    if not judged and not skipped:
        listed = ", ".join(str(path) for path in paths)
        raise DataError(f"{listed}: holds no run; a run is a folder with a metrics.csv")
    return sorted(judged, key=_worst_first), skipped


def _folder(path: Path) -> Path:
    """A run's `metrics.csv` means the run."""
    return path.parent if path.name == "metrics.csv" else path


def _worst_first(run: JudgedRun) -> tuple[int, str]:
    return ORDER.index(run.diagnosis.label), str(run.path)


def _judge(
    path: Path,
    rows: list[Epoch],
    settings: Mapping[str, Any],
    reference: Sequence[Epoch] | None,
) -> JudgedRun:
    best = best_epoch(rows)
    planned = settings.get("train.epochs")
    diagnosis = diagnose(
        curve_of(rows),
        planned_epochs=planned if isinstance(planned, int) else None,
        reference=curve_of(reference) if reference is not None and reference is not rows else None,
        settings=settings,
    )
    return JudgedRun(path, curve_of(rows), diagnosis, best.val_acc if best else None)


def _best(studies: Sequence[list[Epoch]]) -> list[Epoch] | None:
    """The rows of the run with the highest validation accuracy."""
    bests = [(best.val_acc, rows) for rows in studies if (best := best_epoch(rows))]
    return max(bests, key=lambda pair: pair[0])[1] if bests else None


def curve_of(rows: Sequence[Epoch]) -> Curve:
    """The rows of one of our runs as the curve that the rules judge."""
    return Curve(
        epochs=[row.epoch for row in rows],
        train_loss=[row.train_loss for row in rows],
        val_loss=[row.val_loss for row in rows],
        train_acc=[row.train_acc for row in rows],
        val_acc=[row.val_acc for row in rows],
        lr=[row.lr for row in rows],
    )
