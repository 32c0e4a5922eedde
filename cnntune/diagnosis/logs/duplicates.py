"""The same run in two logs, such as a CSV and an event file, or a scalars.json and its copy."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnntune.diagnosis.curve import MIN_POINTS, Curve

TOLERANCE = 1e-3  # of a value: text logs print four digits, event files hold 32-bit floats
LEVELS = 3  # folders searched upwards: mmengine's text log is two levels above its JSON
KEPT_TWICE = frozenset({"huggingface", "mmengine"})  # tools that write the same file several times
CHECKPOINT = "checkpoint-"


@dataclass(frozen=True)
class Entry:
    """A run with the file that it was read from."""

    path: Path
    format: str
    curve: Curve


def duplicates(entries: Sequence[Entry]) -> dict[int, int]:
    """For each entry that repeats another, the index of the one to keep: the fuller, or the first.

    Compared are logs of different tools in the same folder or just above it, and files that their
    tool is known to write more than once; any other two logs of one format are two runs.
    """
    formats = {entry.format for entry in entries}
    if len(formats) == 1 and not formats & KEPT_TWICE:
        return {}
    order = sorted(range(len(entries)), key=lambda index: _fullness(entries[index]), reverse=True)
    kept: dict[Path, list[int]] = {}
    dropped: dict[int, int] = {}
    for index in order:
        entry = entries[index]
        near = (other for folder in _folders(entry) for other in kept.get(folder, ()))
        same = next((other for other in near if _same_run(entries[other], entry)), None)
        if same is not None:
            dropped[index] = same
            continue
        for folder in _folders(entry):
            kept.setdefault(folder, []).append(index)
    return dropped


def _fullness(entry: Entry) -> tuple[bool, int, int]:
    series = [
        entry.curve.series(name) for name in ("train_loss", "val_loss", "train_acc", "val_acc")
    ]
    return entry.format == "cnntune", sum(map(bool, map(len, series))), sum(map(len, series))


def _folders(entry: Entry) -> Iterator[Path]:
    """The folders in which another log of the same run may have been found."""
    folder = entry.path if entry.format == "cnntune" else entry.path.parent
    yield folder
    if entry.format in ("mmengine", "text", "huggingface"):
        yield from list(folder.parents)[: LEVELS - 1]


def _same_run(kept: Entry, entry: Entry) -> bool:
    if kept.path == entry.path or (kept.format == entry.format and kept.format not in KEPT_TWICE):
        return False
    if kept.format == entry.format == "huggingface" and not any(
        found.path.parent.name.startswith(CHECKPOINT) for found in (kept, entry)
    ):
        return False
    for names in (("val_loss", "val_acc"), ("train_loss", "train_acc")):
        pairs = [
            (kept.curve.series(name).values, entry.curve.series(name).values) for name in names
        ]
        shared = [(a, b) for a, b in pairs if min(len(a), len(b)) >= MIN_POINTS]
        if shared:
            return all(_begin_alike(a, b) for a, b in shared)
    return False


def _begin_alike(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether the longer series starts with the shorter one, as that of an earlier checkpoint."""
    return all(
        abs(a - b) <= TOLERANCE * max(abs(a), abs(b)) for a, b in zip(first, second, strict=False)
    )
