"""From paths to judged runs: find the logs, read their curves, hold our own against their study."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cnntune.curves import MIN_POINTS, Curve
from cnntune.diagnose import Diagnosis, diagnose
from cnntune.errors import DataError, StudyError
from cnntune.findings import Finding, Severity
from cnntune.logs.align import align
from cnntune.logs.choose import choose
from cnntune.logs.find import Source, sources
from cnntune.logs.record import Record, UnreadableLogError
from cnntune.logs.twins import Entry, twins
from cnntune.recipe import flatten
from cnntune.runs import COLUMNS, Epoch, Run, best_epoch

OWN_FORMAT = "cnntune"
NO_CURVE = "no column is known as a loss or an accuracy: name one with --map val_loss=COLUMN"

# Worst first: what needs attention stands at the top of the table.
ORDER = ("unstable", "underfitting", "overfitting", "still-improving", "too-short", "converged")

Settings = Mapping[str, Any]
Skipped = dict[str, str]


@dataclass(frozen=True)
class ReadRun:
    """A run with its curve, not judged yet.

    `file` is where it was read from, and `part` which of that file's runs it is. `columns` tells
    for each curve the column it was taken from; `settings` are known for our own runs alone.
    """

    file: Path
    format: str
    curve: Curve
    part: str = ""
    columns: Mapping[str, str] | None = None
    notes: tuple[str, ...] = ()
    settings: Settings | None = None
    rows: Sequence[Epoch] = ()

    @property
    def path(self) -> Path:
        """The file, and after a # the part where the file holds several runs."""
        part = self.part.replace("/", "-")
        return self.file.with_name(f"{self.file.name}#{part}") if part else self.file


@dataclass(frozen=True)
class JudgedRun:
    """A run with its curve and what the curve says."""

    run: ReadRun
    diagnosis: Diagnosis

    @property
    def path(self) -> Path:
        """Where the run was found."""
        return self.run.path

    @property
    def curve(self) -> Curve:
        """Its losses and accuracies, one entry an epoch."""
        return self.run.curve

    @property
    def best_val_acc(self) -> float | None:
        """The highest validation accuracy, in 0..1; None where none counts: our run diverged."""
        if self.run.settings is not None:
            best = best_epoch(list(self.run.rows))
            return best.val_acc if best else None
        return max(self.curve.series("val_acc").values, default=None)

    @property
    def command(self) -> str | None:
        """The command that trains the run again with the first change of the advice."""
        if self.diagnosis.change is None or self.run.settings is None:
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
            "flags": diagnosis.flags,
            "command": self.command,
            "columns": dict(self.run.columns or {}),
            "notes": list(self.run.notes),
        }

    def finding(self, fail_on: Iterable[str] = ()) -> Finding:
        """The verdict as a finding.

        A bad curve only warns, since a search must try bad values, unless its label is one of those
        that the user asked to fail on.
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
    """Judge every run at or below `paths`, each once: files by their worst run, runs in file order.

    `mapping` names the columns of curves, see `choose.ROLES`. Returns the judged runs, and
    `{"path", "reason"}` for what looks like a log and was not judged.

    Raises:
        DataError: where a path does not exist, nothing at all can be read, or no log has a column
            that `mapping` names.
    """
    paths = list(paths)
    if missing := [path for path in paths if not path.exists()]:
        raise DataError(f"{path}: no such file or folder" for path in missing)
    found = {
        source.path.resolve(): source for path in paths for source in sources(path, is_own_run)
    }
    records, skipped = read_all(found.values())
    if mapping:
        _check(mapping, [record for _, record in records if isinstance(record, Record)])
    runs = []
    for path, record in records:
        run = record if isinstance(record, ReadRun) else read_run(path, record, mapping)
        if run.curve.epochs:
            runs.append(run)
        else:
            skipped.append({"path": str(run.path), "reason": NO_CURVE})
    runs, repeated = _each_once(_long_enough(runs))
    skipped += repeated
    if not runs:
        listed = ", ".join(str(path) for path in paths)
        reasons = [f"{entry['path']}: {entry['reason']}" for entry in skipped]
        raise DataError(reasons or f"{listed}: holds no training log")
    return worst_first(judge_runs(runs)), skipped


def is_own_run(folder: Path) -> bool:
    """Whether a folder with a `metrics.csv` is a run of ours, and not of another tool's logger."""
    try:
        with Run(folder).metrics.open(encoding="utf-8", errors="replace") as file:
            header = file.readline(1000).strip()
    except OSError:
        return False
    return header in ("", ",".join(COLUMNS)) and (header != "" or (folder / "config.json").exists())


def read_all(found: Iterable[Source]) -> tuple[list[tuple[Path, Record | ReadRun]], list[Skipped]]:
    """What the sources hold, and why some of them hold nothing."""
    records: list[tuple[Path, Record | ReadRun]] = []
    skipped = []
    for source in found:
        reason = "holds no training log of a known format" if source.named else ""
        read: Sequence[Record | ReadRun] = ()
        try:
            read = [read_own(source.path)] if source.own else source.read()
        except (UnreadableLogError, StudyError) as error:
            reason = str(error)
        except OSError as error:
            reason = f"cannot be opened: {error.strerror}"
        records += [(source.path, record) for record in read]
        if not read and reason:
            skipped.append({"path": str(source.path), "reason": reason})
    return records, skipped


def read_own(folder: Path) -> ReadRun:
    """The run of ours in a folder.

    Raises:
        StudyError: where its files hold something else.
        UnreadableLogError: where it has no finished epoch.
    """
    rows = Run(folder).rows()
    if not rows:
        raise UnreadableLogError("has no finished epoch")
    settings = flatten(Run(folder).config())
    columns = {name: name for name in ("train_loss", "val_loss", "train_acc", "val_acc", "lr")}
    return ReadRun(
        folder, OWN_FORMAT, curve_of(rows), columns=columns, settings=settings, rows=rows
    )


def read_run(path: Path, record: Record, mapping: Mapping[str, str] | None = None) -> ReadRun:
    """A record of another tool as a run with a curve."""
    aligned = align(record, choose(record, mapping))
    return ReadRun(
        path, record.format, aligned.curve, record.part, aligned.columns, notes=aligned.notes
    )


def judge_runs(runs: Sequence[ReadRun]) -> list[JudgedRun]:
    """Each run with its diagnosis; one of ours beside its study's best run."""
    studies: dict[Path, list[ReadRun]] = {}
    for run in runs:
        if run.settings is not None:
            studies.setdefault(run.file.parent, []).append(run)
    best = {folder: _best(siblings) for folder, siblings in studies.items()}
    return [JudgedRun(run, _diagnose(run, best.get(run.file.parent))) for run in runs]


def worst_first(judged: Sequence[JudgedRun]) -> list[JudgedRun]:
    """The files by the label of their worst run; the runs of one file stay together, in order."""
    worst: dict[Path, int] = {}
    for run in judged:
        place = ORDER.index(run.diagnosis.label)
        worst[run.run.file] = min(place, worst.get(run.run.file, place))
    return sorted(judged, key=lambda run: (worst[run.run.file], str(run.run.file)))


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


def _diagnose(run: ReadRun, reference: ReadRun | None) -> Diagnosis:
    if run.settings is None:
        return diagnose(run.curve)
    planned = run.settings.get("train.epochs")
    return diagnose(
        run.curve,
        planned_epochs=planned if isinstance(planned, int) else None,
        reference=reference.curve if reference is not None and reference is not run else None,
        settings=run.settings,
    )


def _best(siblings: Sequence[ReadRun]) -> ReadRun | None:
    """The run with the highest validation accuracy."""
    bests = [(best.val_acc, run) for run in siblings if (best := best_epoch(list(run.rows)))]
    return max(bests, key=lambda pair: pair[0])[1] if bests else None


def _long_enough(runs: Sequence[ReadRun]) -> list[ReadRun]:
    """The runs without those of a few points that stand in one file with longer ones."""
    longest: dict[Path, int] = {}
    for run in runs:
        longest[run.file] = max(longest.get(run.file, 0), len(run.curve.epochs))
    short: dict[Path, int] = {}
    for run in runs:
        short[run.file] = short.get(run.file, 0) + (len(run.curve.epochs) < MIN_POINTS)
    kept = []
    for run in runs:
        if longest[run.file] >= MIN_POINTS > len(run.curve.epochs):
            continue
        note = f"{short[run.file]} runs of fewer than {MIN_POINTS} points in the file are left out"
        told = short[run.file] and longest[run.file] >= MIN_POINTS
        kept.append(replace(run, notes=(*run.notes, note)) if told else run)
    return kept


def _each_once(runs: Sequence[ReadRun]) -> tuple[list[ReadRun], list[Skipped]]:
    """The runs without those that another log holds as well."""
    same = twins([Entry(run.file, run.format, run.curve) for run in runs])
    skipped = [
        {"path": str(runs[place].path), "reason": f"same run as {runs[kept].path}"}
        for place, kept in sorted(same.items())
    ]
    return [run for place, run in enumerate(runs) if place not in same], skipped


def _check(mapping: Mapping[str, str], records: Sequence[Record]) -> None:
    """Every column that the user names has to be in one of the logs at least.

    Raises:
        DataError: naming the columns that there are.
    """
    known = list(dict.fromkeys(name for record in records for name in record.columns))
    unknown = [f"{role}={name}" for role, name in mapping.items() if name not in known]
    if unknown:
        raise DataError(
            f"--map {pair}: no such column; there are: {', '.join(known)}" for pair in unknown
        )
