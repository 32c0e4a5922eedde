"""DVCLive's folder: one small table per metric; subfolders are part of the metric's name."""

import math
from pathlib import Path

from cnntune.diagnosis.logs.cells import decode, number
from cnntune.diagnosis.logs.record import MAX_BYTES, Point, Record, UnreadableLogError

METRICS = Path("plots", "metrics")


def is_run_folder(folder: Path) -> bool:
    """Whether a folder is a run of DVCLive."""
    return (folder / METRICS).is_dir()


def read_folder(folder: Path) -> list[Record]:
    """The run in a DVCLive folder.

    Raises:
        UnreadableLogError: where no metric can be read.
    """
    columns = {}
    for file in sorted((folder / METRICS).rglob("*.tsv")):
        if file.is_file() and not file.is_symlink():
            with file.open("rb") as stream:
                points = read_metric(decode(stream.read(MAX_BYTES)))
            if points:
                name = file.relative_to(folder / METRICS).with_suffix("").as_posix()
                columns[name] = points
    if not columns:
        raise UnreadableLogError("holds no metric that can be read")
    return [Record("dvclive", columns, axis="step")]


def read_metric(text: str) -> list[Point]:
    """The points of one metric: a table whose last column is the value, with `step` before it."""
    header, *lines = text.split("\n")[:-1] or [""]
    names = header.split("\t")
    if "step" not in names:
        return []
    points: dict[float, float] = {}
    for line in lines:
        cells = line.split("\t")
        if len(cells) == len(names):
            step, value = number(cells[names.index("step")]), number(cells[-1])
            if step is not None and math.isfinite(step) and value is not None:
                points[step] = value
    return sorted(points.items())
