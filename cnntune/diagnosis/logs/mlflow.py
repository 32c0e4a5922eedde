"""MLflow's tracking stores: the SQLite database, and the older folder of plain files."""

import math
from pathlib import Path

from cnntune.diagnosis.logs import database
from cnntune.diagnosis.logs.cells import decode, number
from cnntune.diagnosis.logs.record import MAX_BYTES, Point, Record, UnreadableLogError

MAX_DOUBLE = 1.7976931348623157e308  # what MLflow stores for infinity
QUERY = """
    SELECT m.run_uuid, coalesce(r.name, ''), m.key, m.value, m.step, m.is_nan
    FROM metrics AS m JOIN runs AS r ON r.run_uuid = m.run_uuid
    WHERE coalesce(r.lifecycle_stage, 'active') != 'deleted'
    ORDER BY r.start_time, m.run_uuid, m.key, m.timestamp, m.step
"""
TABLES = ("metrics", "runs")

META, METRICS = "meta.yaml", "metrics"

Columns = dict[str, list[Point]]


def read_database(path: Path) -> list[Record]:
    """The runs in a `mlflow.db`, in the order of their start; empty for any other database.

    The file is opened read-only. MLflow stores NaN as 0 with a separate flag.

    Raises:
        UnreadableLogError: where the database is damaged.
    """
    rows = database.rows(path, TABLES, QUERY) or []
    runs: dict[str, tuple[str, Columns]] = {}
    for run, name, key, value, step, is_nan in rows:
        columns = runs.setdefault(str(run), (str(name), {}))[1]
        if (point := _point(step, value, is_nan)) is not None:
            columns.setdefault(str(key), []).append(point)
    names = [name for name, _ in runs.values()]
    return [
        _record(columns, name if name and names.count(name) == 1 else f"{name} {run[:8]}".strip())
        for run, (name, columns) in runs.items()
    ]


def is_run_folder(folder: Path) -> bool:
    """Whether a folder is a run in MLflow's store of plain files."""
    return (folder / META).is_file() and (folder / METRICS).is_dir()


def read_folder(folder: Path) -> list[Record]:
    """The run in a folder with `meta.yaml` and one file per metric; empty for a deleted run.

    A line holds a time in milliseconds, the value and the step. Folders below `metrics` are part of
    a metric's name.

    Raises:
        UnreadableLogError: where no metric can be read.
    """
    if "lifecycle_stage: deleted" in (folder / META).read_text(errors="replace"):
        return []
    columns: Columns = {}
    for file in sorted((folder / METRICS).rglob("*")):
        if file.is_file() and not file.is_symlink():
            with file.open("rb") as stream:
                text = decode(stream.read(MAX_BYTES))
            name = file.relative_to(folder / METRICS).as_posix()
            if points := read_metric(text):
                columns[name] = points
    if not columns:
        raise UnreadableLogError("holds no metric that can be read")
    return [_record(columns, "")]


def read_metric(text: str) -> list[Point]:
    """The points in the file of one metric; a truncated last line is skipped."""
    points = []
    for line in text.split("\n")[:-1]:
        cells = [number(cell) for cell in line.split()]
        if len(cells) in (2, 3) and None not in cells:
            _, value, *step = cells
            if (point := _point(step[0] if step else 0, value, 0)) is not None:
                points.append(point)
    return points


def _point(step: object, value: object, is_nan: object) -> Point | None:
    if not isinstance(step, int | float) or not isinstance(value, int | float):
        return None
    if not math.isfinite(step):
        return None
    if is_nan:
        return float(step), math.nan
    return float(step), math.copysign(math.inf, value) if abs(value) >= MAX_DOUBLE else float(value)


def _record(columns: Columns, part: str) -> Record:
    """For each step the last value; metrics logged without a step are numbered from 1."""
    ordered = {}
    for name, points in columns.items():
        if len(points) > 1 and all(step == 0 for step, _ in points):
            points = [(float(count), value) for count, (_, value) in enumerate(points, start=1)]
        ordered[name] = sorted(dict(points).items())
    return Record("mlflow", ordered, axis="step", part=part)
