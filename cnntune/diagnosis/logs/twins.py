"""The same run in two logs: beside a CSV lies an event file, beside a scalars.json its copy."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnntune.diagnosis.curve import MIN_POINTS, Curve

TOLERANCE = 1e-3  # of a value: text logs print four digits, event files hold 32-bit floats
LEVELS = 3  # folders up in which a twin is looked for: mmengine's text log lies two above its JSON
KEPT_TWICE = frozenset({"huggingface", "mmengine"})  # tools that write the same file several times
CHECKPOINT = "checkpoint-"


@dataclass(frozen=True)
class Entry:
    """A run with the file that it was read from."""

    path: Path
    format: str
    curve: Curve


def twins(entries: Sequence[Entry]) -> dict[int, int]:
    """For each entry that repeats another, the place of the one to keep: the fuller, or the first.

    Only logs of different tools in the same folder or just above it are compared, and files that
    their tool is known to write more than once: two logs of one format are two runs.
    """
    formats = {entry.format for entry in entries}
    if len(formats) == 1 and not formats & KEPT_TWICE:
        return {}
    order = sorted(range(len(entries)), key=lambda place: _fullness(entries[place]), reverse=True)
    kept: dict[Path, list[int]] = {}
    dropped: dict[int, int] = {}
    for place in order:
        entry = entries[place]
        near = (other for folder in _folders(entry) for other in kept.get(folder, ()))
        twin = next((other for other in near if _are_twins(entries[other], entry)), None)
        if twin is not None:
            dropped[place] = twin
            continue
        for folder in _folders(entry):
            kept.setdefault(folder, []).append(place)
    return dropped


def _fullness(entry: Entry) -> tuple[bool, int, int]:
    series = [
        entry.curve.series(name) for name in ("train_loss", "val_loss", "train_acc", "val_acc")
    ]
    return entry.format == "cnntune", sum(map(bool, map(len, series))), sum(map(len, series))


def _folders(entry: Entry) -> Iterator[Path]:
    """The folders in which a twin of the entry may have been found too."""
    folder = entry.path if entry.format == "cnntune" else entry.path.parent
    yield folder
    if entry.format in ("mmengine", "text", "huggingface"):
        yield from list(folder.parents)[: LEVELS - 1]


def _are_twins(kept: Entry, entry: Entry) -> bool:
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
    """Whether the shorter series is how the longer one begins: an earlier checkpoint's."""
    return all(
        abs(a - b) <= TOLERANCE * max(abs(a), abs(b)) for a, b in zip(first, second, strict=False)
    )
