"""Diagnose runs: those of cnntune against the best run of their study, others by themselves."""

import math
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from cnntune.diagnosis.curve import MIN_POINTS, Curve
from cnntune.diagnosis.load_runs import ReadRun, Skipped, read_paths, run_of
from cnntune.diagnosis.logs.record import ROLES
from cnntune.diagnosis.proven import Proof, proofs_in, study_of, with_proofs
from cnntune.diagnosis.rules import Diagnosis, Label, diagnose
from cnntune.errors import DataError, RecipeError, StudyError
from cnntune.findings import Finding, Severity
from cnntune.runs.chance import Chance
from cnntune.runs.run import best_epoch, logged

# Worst first: what needs attention is at the top of the table.
ORDER = ("unstable", "underfitting", "overfitting", "still-improving", "too-short", "converged")


@dataclass(frozen=True)
class JudgedRun:
    """A run with its curve and diagnosis."""

    run: ReadRun
    diagnosis: Diagnosis

    @property
    def path(self) -> Path:
        """Where the run was found."""
        return self.run.path

    @property
    def curve(self) -> Curve:
        """Its losses and accuracies, one entry per epoch."""
        return self.run.curve

    @property
    def best_val_acc(self) -> float | None:
        """The highest validation accuracy, in 0..1; None where no epoch has a valid one."""
        if self.run.rows is not None:
            best = best_epoch(self.run.rows)
            return logged(best.val_acc) if best else None
        return max(self.curve.series("val_acc").values, default=None)

    @property
    def command(self) -> str | None:
        """The command that repeats a run of cnntune with the first change of the advice."""
        settings = self.run.settings
        if self.diagnosis.change is None or not settings:  # empty: config.json is missing
            return None
        if "command.words" in settings:  # `cnntune train` trains recipes
            return None
        key, value = self.diagnosis.change
        config = str(self.path / "config.json")
        return shlex.join(["cnntune", "train", config, "--no-test", "--set", f"{key}={value}"])

    def as_json(self) -> dict[str, Any]:
        """The run's entry under `runs` in `diagnose --json`."""
        diagnosis = self.diagnosis
        return {
            "path": str(self.path),
            "format": self.run.format,
            "label": diagnosis.label,
            "also": diagnosis.also,
            "confidence": diagnosis.confidence,
            "evidence": diagnosis.evidence,
            "advice": diagnosis.advice,
            "epochs": diagnosis.epochs,
            "best_epoch": diagnosis.best_epoch,
            "last_epoch": diagnosis.last_epoch,
            "unit": diagnosis.unit,
            "flags": diagnosis.flags,
            "command": self.command,
            "columns": dict(self.run.columns),
            "notes": list(self.run.notes),
        }

    def finding(self, fail_on: Collection[str] = ()) -> Finding:
        """The diagnosis as a finding.

        A bad curve is only a warning, since a search must try bad values, unless its label is in
        `fail_on`.
        """
        severity: Severity = self.diagnosis.severity
        if self.diagnosis.label in fail_on:
            severity = "fail"
        elif severity == "fail":
            severity = "warn"
        return Finding(
            self.diagnosis.label,
            severity,
            self.diagnosis.evidence,
            "; ".join(self.diagnosis.advice),
            where=str(self.path),
        )


def judge_paths(
    paths: Iterable[Path], mapping: Mapping[str, str] | None = None
) -> tuple[list[JudgedRun], list[Skipped]]:
    """Diagnose every run at or below `paths`, worst file first, the runs of a file in order.

    `mapping` names the columns of curves. The second list holds path and reason of what looks like
    a log and was skipped.

    Raises:
        DataError: where a path does not exist, nothing at all can be read, or no log has a column
            that `mapping` names.
    """
    runs, skipped = read_paths(list(paths), mapping)
    return worst_first(judge_runs(runs)), skipped


def judge_runs(runs: Sequence[ReadRun]) -> list[JudgedRun]:
    """Each run with its diagnosis; one of cnntune is compared with the best run of its study."""
    studies: dict[Path, list[ReadRun]] = {}
    for run in runs:
        if run.settings is not None:
            studies.setdefault(run.file.parent, []).append(run)
    best = {folder: _best(siblings) for folder, siblings in studies.items()}
    # A run without a summary does not say what guessing gives; others of its study may.
    chance = {
        folder: next((run.chance for run in siblings if run.chance), None)
        for folder, siblings in studies.items()
    }
    proofs = _proofs_by_folder(studies)
    return [
        JudgedRun(
            run,
            _with_proofs(
                _diagnose(run, best.get(run.file.parent), chance.get(run.file.parent)), run, proofs
            ),
        )
        for run in runs
    ]


def judge_in_study(folder: Path) -> JudgedRun:
    """The diagnosis of one run of cnntune, compared with the other runs in its parent folder.

    Raises:
        DataError: where the folder has no curve.
    """
    judged, skipped = judge_paths([folder.parent])
    here = folder.resolve()
    found = next((one for one in judged if one.path.resolve() == here), None)
    if found is not None:
        return replace(found, run=replace(found.run, file=folder))
    reasons = {Path(entry["path"]).resolve(): entry["reason"] for entry in skipped}
    raise DataError(f"{folder}: cannot be diagnosed: {reasons.get(here, 'it has no curve')}")


def _proofs_by_folder(studies: Mapping[Path, list[ReadRun]]) -> dict[Path, list[Proof]]:
    """What was proven in the study that the runs of each folder belong to."""
    found = {}
    for folder, siblings in studies.items():
        with suppress(StudyError):  # a newer cnntune wrote it: the curves are judged without it
            found[folder] = proofs_in(study_of(siblings[0].file))
    return found


def _with_proofs(
    diagnosis: Diagnosis, run: ReadRun, proofs: Mapping[Path, list[Proof]]
) -> Diagnosis:
    known = proofs.get(run.file.parent) if run.settings is not None else None
    return with_proofs(diagnosis, run.file, known) if known else diagnosis


def judge_history(history: Any) -> JudgedRun:
    """Diagnose the learning curves of one run, given as Python values.

    `history` is a dict of lists (`{"loss": [...], "val_loss": [...]}`), a list of dicts with one
    dict per epoch, a Keras History, or a pandas DataFrame with one row per epoch. Columns are
    recognised by name as in `cnntune diagnose`; of several consecutive runs the last is diagnosed.

    Raises:
        DataError: where no column is a loss or an accuracy.
    """
    from cnntune.diagnosis.logs.history import records_of

    read = [run_of(Path("history"), record) for record in records_of(history)]
    runs = [run for run in read if run.curve.epochs]
    if not runs:
        raise DataError(
            "history: must hold one loss or accuracy per epoch, as a dict of lists, a list of"
            " dicts, a DataFrame, or the history of Keras, Lightning, Transformers, skorch or"
            f" fastai (got {_shown(history)})"
        )
    long = [run for run in runs if len(run.curve.epochs) >= MIN_POINTS]
    last = replace((long or runs)[-1], part="")
    return JudgedRun(last, diagnose(last.curve))


def worst_first(judged: Sequence[JudgedRun]) -> list[JudgedRun]:
    """Sort files by the label of their worst run; the runs of one file stay together, in order."""
    worst: dict[Path, int] = {}
    for one in judged:
        rank = ORDER.index(one.diagnosis.label)
        worst[one.run.file] = min(rank, worst.get(one.run.file, rank))
    return sorted(judged, key=lambda one: (worst[one.run.file], str(one.run.file)))


def remarks(judged: Iterable[JudgedRun]) -> list[str]:
    """The notes on what was skipped or guessed while reading the logs, each one once."""
    paths: dict[str, list[Path]] = {}
    for one in judged:
        for note in one.run.notes:
            paths.setdefault(note, []).append(one.path)
    return [
        f"{found[0]}{f' and {len(found) - 1} more' if found[1:] else ''}: {note}"
        for note, found in paths.items()
    ]


def parse_mapping(pairs: Iterable[str]) -> dict[str, str]:
    """From the options `--map val_loss=COLUMN` to a dict of columns by curve.

    Raises:
        RecipeError: where a pair has no `=`, or an unknown curve.
    """
    mapping, problems = {}, []
    for pair in pairs:
        role, equals, column = pair.partition("=")
        if not equals or not column:
            problems.append(f"--map {pair}: must be CURVE=COLUMN, such as val_loss=my_column")
        elif role not in ROLES:
            problems.append(f"--map {pair}: {role!r} must be one of {', '.join(ROLES)}")
        mapping[role] = column
    if problems:
        raise RecipeError(problems)
    return mapping


def parse_labels(texts: str | Iterable[str]) -> frozenset[str]:
    """The labels in `--fail-on LABEL,...`, or in several such texts.

    Raises:
        RecipeError: where one of them is not a label.
    """
    text = texts if isinstance(texts, str) else ",".join(texts)
    labels = frozenset(filter(None, map(str.strip, text.split(","))))
    if unknown := sorted(labels - set(get_args(Label))):
        allowed = ", ".join(get_args(Label))
        raise RecipeError(f"--fail-on {label}: must be one of {allowed}" for label in unknown)
    return labels


def _diagnose(run: ReadRun, reference: ReadRun | None, chance: Chance | None) -> Diagnosis:
    if run.settings is None:
        return diagnose(run.curve)
    planned = run.settings.get("train.epochs")
    found = diagnose(
        run.curve,
        planned_epochs=planned if isinstance(planned, int) else None,
        reference=reference.curve if reference is not None and reference is not run else None,
        settings=run.settings,
        chance=run.chance or chance,
    )
    if run.status == "pruned" and "stopped-early" in found.flags:
        return replace(found, advice=[])  # others of its search were better at that epoch
    return found


def _best(siblings: Sequence[ReadRun]) -> ReadRun | None:
    """The run with the highest score."""
    bests = [(score, run) for run in siblings if (score := _best_score(run)) is not None]
    return max(bests, key=lambda pair: pair[0])[1] if bests else None


def _best_score(run: ReadRun) -> float | None:
    """The score of the best epoch; None for a run that diverged."""
    accs, losses = run.curve.val_acc, (run.curve.train_loss, run.curve.val_loss)
    if accs and None not in accs and all(loss[-1] is not None for loss in losses):
        if not all(math.isfinite(loss[-1] or 0.0) for loss in losses):
            return None
        return max(acc if acc is not None and math.isfinite(acc) else -math.inf for acc in accs)
    best = best_epoch(run.rows or [])
    return best.score if best else None


def _shown(history: Any) -> str:
    names = list(history)[:8] if isinstance(history, Mapping) else []
    listed = f" with {', '.join(map(str, names))}" if names else ""
    return f"{type(history).__name__}{listed}"
