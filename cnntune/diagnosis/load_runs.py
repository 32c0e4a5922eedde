"""From paths to runs with curves: those of cnntune and of other tools, each run once."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from cnntune.diagnosis.curve import MIN_POINTS, Curve
from cnntune.diagnosis.logs.duplicates import Entry, duplicates
from cnntune.diagnosis.logs.find import UNKNOWN_FORMAT, Source, sources
from cnntune.diagnosis.logs.record import Record, UnreadableLogError
from cnntune.errors import DataError, StudyError
from cnntune.runs.chance import Chance
from cnntune.runs.run import COLUMNS, Epoch, NotLogged, Run
from cnntune.runs.summary import RESULTS, Ranked, Summary

CNNTUNE_FORMAT = "cnntune"
KNOWN_FORMATS = (
    "known formats: runs of cnntune, CSV, JSON, notebooks, TensorBoard, W&B, MLflow, DVCLive and"
    " printed lines such as 'epoch 3 loss 0.41 val_loss 0.52'"
)
NO_CURVE = "no column is recognised as a loss or accuracy: name one with --map val_loss=COLUMN"
MAX_HEADER_LENGTH = 1000  # characters; the header of a run of cnntune is shorter

Skipped = dict[str, str]


@dataclass(frozen=True)
class ReadRun:
    """A run with its curve.

    `file` is the path it was read from, `part` which of that file's runs it is. `columns` maps
    each curve to the column that it was taken from. `settings` (flat recipe keys), `rows` and
    `chance`, what guessing gives, are those of a run of cnntune, and None for others; so is
    `status`.
    """

    file: Path
    format: str
    curve: Curve
    part: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    settings: Mapping[str, Any] | None = None
    rows: list[Epoch] | None = None
    chance: Chance | None = None
    status: str | None = None  # of a run of cnntune: `pruned`, `running`, `complete` ...

    @property
    def path(self) -> Path:
        """The file; where it holds several runs, followed by # and `part`."""
        part = self.part.replace("/", "-")
        return self.file.with_name(f"{self.file.name}#{part}") if part else self.file

    @property
    def cut(self) -> str:
        """How a run of cnntune stands that was pruned, or still runs; empty for all others."""
        trained, planned = len(self.curve.epochs), (self.settings or {}).get("train.epochs")
        if self.status not in ("pruned", "running") or not isinstance(planned, int):
            return ""
        at = "pruned at" if self.status == "pruned" else "still running, at"
        return f"{at} epoch {trained} of {planned}" if trained < planned else ""


def read_paths(
    paths: Sequence[Path], mapping: Mapping[str, str] | None = None
) -> tuple[list[ReadRun], list[Skipped]]:
    """Every run at or below `paths`, each once, and the runs of a file in their order.

    `mapping` names the columns of curves, see `record.ROLES`. The second list holds path and reason
    of what looks like a log and was skipped.

    Raises:
        DataError: where a path does not exist, nothing at all can be read, or no log has a column
            that `mapping` names.
    """
    if missing := [path for path in paths if not path.exists()]:
        raise DataError(f"{path}: no such file or folder" for path in missing)
    found = {source.path.resolve(): source for path in paths for source in sources(path, is_ours)}
    ours, records, skipped = _read(found.values())
    if mapping:
        _check(mapping, [record for _, record in records])
    read = [run_of(path, record, mapping) for path, record in records]
    skipped += [
        _skip(run, "; ".join((*run.notes, NO_CURVE))) for run in read if not run.curve.epochs
    ]
    # Two epochs of a trial that was pruned, or still runs, are no short run: there is none yet.
    begun = [run for run in ours if run.cut and len(run.curve.epochs) < MIN_POINTS]
    skipped += [_skip(run, f"{run.cut}, which is too early to judge") for run in begun]
    ours = [run for run in ours if run not in begun]
    runs = ours + _long_enough([run for run in read if run.curve.epochs])
    same = duplicates([Entry(run.file, run.format, run.curve) for run in runs])
    for index, kept in sorted(same.items()):
        skipped.append(_skip(runs[index], f"same run as {runs[kept].path}"))
    if not runs:
        listed = ", ".join(str(path) for path in paths)
        reasons = grouped(skipped) or [f"{listed}: no training log found"]
        if not skipped or any(not source.ours for source in found.values()):
            reasons[-1] += f"; {KNOWN_FORMATS}"
        error = DataError(reasons)
        error.document = {"skipped": skipped}
        raise error
    return [run for index, run in enumerate(runs) if index not in same], skipped


def grouped(skipped: Sequence[Skipped]) -> list[str]:
    """One line per reason: the first path, and how many others have the same."""
    paths: dict[str, list[str]] = {}
    for entry in skipped:
        paths.setdefault(entry["reason"], []).append(entry["path"])
    return [
        f"{found[0]}{f' and {len(found) - 1} more' if found[1:] else ''}: {reason}"
        for reason, found in paths.items()
    ]


def is_ours(folder: Path) -> bool:
    """Whether a folder with a `metrics.csv` is a run of cnntune, not of another tool.

    A run that was killed before its header was written is recognised by its `config.json`, and one
    whose header is torn by the names that are left of it.
    """
    try:
        with Run(folder).metrics.open(encoding="utf-8", errors="replace") as file:
            line = file.readline(MAX_HEADER_LENGTH)
    except OSError:
        return False
    header, whole = line.strip(), ",".join(COLUMNS)
    torn = not line.endswith("\n") and "," in header and whole.startswith(header)
    return header == whole or torn or (not header and (folder / "config.json").exists())


def run_of(path: Path, record: Record, mapping: Mapping[str, str] | None = None) -> ReadRun:
    """The run of a record that another tool logged."""
    from cnntune.diagnosis.logs.align import align  # runs of cnntune need neither
    from cnntune.diagnosis.logs.choose import choose

    aligned = align(record, choose(record, mapping))
    return ReadRun(
        path, record.format, aligned.curve, record.part, aligned.columns, notes=aligned.notes
    )


def curve_of(rows: Sequence[Epoch]) -> Curve:
    """The curve of a run of cnntune from its rows."""
    return Curve(
        epochs=[row.epoch for row in rows],
        train_loss=_column(rows, "train_loss"),
        val_loss=_column(rows, "val_loss"),
        train_acc=_column(rows, "train_acc"),
        val_acc=_column(rows, "val_acc"),
        lr=_column(rows, "lr"),
    )


def _column(rows: Sequence[Epoch], name: str) -> list[float | None]:
    values = map(attrgetter(name), rows)
    return [None if isinstance(value, NotLogged) else value for value in values]


def _read(
    found: Iterable[Source],
) -> tuple[list[ReadRun], list[tuple[Path, Record]], list[Skipped]]:
    """Runs of cnntune, records of other tools with their paths, and what could not be read."""
    ours: list[ReadRun] = []
    records: list[tuple[Path, Record]] = []
    skipped = []
    for source in found:
        reason = UNKNOWN_FORMAT if source.named else ""
        try:
            if source.ours:
                ours.append(_read_ours(source.path))
                continue
            read = source.read()
            records += [(source.path, record) for record in read]
            reason = "" if read else reason
        except (UnreadableLogError, StudyError) as error:
            reason = str(error)
        except OSError as error:
            reason = f"cannot be opened: {error.strerror}"
        if reason:
            skipped.append({"path": str(source.path), "reason": reason})
    return ours, records, skipped


def _read_ours(folder: Path) -> ReadRun:
    from cnntune.config.recipe import (
        flatten,  # loads pydantic, which logs of other tools do not need
    )

    metrics = Run(folder).metrics
    if not metrics.is_file():
        raise UnreadableLogError("its metrics.csv is missing")
    rows = Run(folder).rows()
    document: Mapping[str, Any] = {}
    with suppress(StudyError):  # the curve can be diagnosed without it
        document = Run(folder).summary() or {}
    summary = Summary.from_json(document)
    if not rows:
        raise UnreadableLogError(_without_rows(metrics, summary))
    columns = {name: name for name in ("train_loss", "val_loss", "train_acc", "val_acc", "lr")}
    settings = flatten(Run(folder).config())
    notes = tuple(_about_end(folder, rows, document, summary))
    if ranked := Ranked.read(document.get("ranked")):  # of a command
        role = _role_of_rank(rows)
        columns[role] = ranked.name
        notes = (*notes, *_about_rank(role, ranked))
    found = ReadRun(
        folder,
        CNNTUNE_FORMAT,
        replace(curve_of(rows), one_unit=ranked is None or role.endswith("acc")),
        columns=columns,
        notes=notes,
        settings=settings,
        rows=rows,
        chance=Chance.in_summary(document),
        status=str(document.get("status", "running")),
    )
    return (
        replace(found, notes=(*notes, found.cut))
        if found.cut and found.status == "pruned"
        else found
    )


def _role_of_rank(rows: Sequence[Epoch]) -> str:
    """The curve that ranks the run of a command: the first that it has, see `score_of`."""
    having = (role for role in RESULTS if any(v is not None for v in _column(rows, role)))
    return next(having, "val_loss")


def _about_rank(role: str, ranked: Ranked) -> Iterator[str]:
    """What a curve holds in place of the loss or accuracy that it is called."""
    name = role.replace("_", " ")
    if role.endswith("_acc"):
        unit = f" / {abs(ranked.times):g}" if abs(ranked.times) != 1 else ""
        yield f"{name} is {'1 - ' * (ranked.times < 0)}{ranked.name!r}{unit}"
    elif ranked.times > 0:
        yield f"{name} is {ranked.name!r} with its sign turned: more is better"


def _without_rows(metrics: Path, summary: Summary | None) -> str:
    """Why a run of cnntune has no curve."""
    if summary is not None and summary.error is not None:
        return f"failed before its first epoch: {summary.error.line}"
    header, newline, _ = metrics.read_bytes().partition(b"\n")
    if summary is None and newline and header.strip() == ",".join(COLUMNS).encode():
        return "has no completed epoch: it is running, or was interrupted; its command resumes it"
    size = metrics.stat().st_size
    return (
        f"has no completed epoch: metrics.csv holds {size} bytes and no whole row; train the run"
        " again"
    )


def _about_end(
    folder: Path, rows: Sequence[Epoch], document: Mapping[str, Any], summary: Summary | None
) -> Iterator[str]:
    """How a run ended, where its curve does not show it."""
    trained = document.get("epochs", 0)
    if summary is not None and summary.error is not None:
        yield f"failed after epoch {len(rows)}: {summary.error.line}"
    elif len(rows) < trained:
        yield f"has only {len(rows)} of the run's {trained} epochs"
    elif (folder.parent / "study.db").exists() and not (folder / "summary.json").exists():
        yield "is not finished: it is running, or was interrupted (there is no summary.json)"


def _skip(run: ReadRun, reason: str) -> Skipped:
    return {"path": str(run.path), "reason": reason}


def _long_enough(runs: Sequence[ReadRun]) -> list[ReadRun]:
    """The runs, without short ones that share a file with longer ones."""
    lengths: dict[Path, list[int]] = {}
    for run in runs:
        lengths.setdefault(run.file, []).append(len(run.curve.epochs))
    kept = []
    for run in runs:
        short = sum(length < MIN_POINTS for length in lengths[run.file])
        if not short or short == len(lengths[run.file]):
            kept.append(run)
        elif len(run.curve.epochs) >= MIN_POINTS:
            note = f"skipped {short} other run(s) with fewer than {MIN_POINTS} points in this file"
            kept.append(replace(run, notes=(*run.notes, note)))
    return kept


def _check(mapping: Mapping[str, str], records: Sequence[Record]) -> None:
    """Check that every column in `mapping` is in at least one of the logs.

    Raises:
        DataError: where one is not; it lists the columns found.
    """
    known = list(dict.fromkeys(name for record in records for name in record.columns))
    unknown = [f"{role}={name}" for role, name in mapping.items() if name not in known]
    if unknown:
        raise DataError(
            f"--map {pair}: no such column; found: {', '.join(known)}" for pair in unknown
        )
