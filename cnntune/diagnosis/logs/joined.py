"""Files of a folder that hold one run together: one file per epoch, per split, or per curve."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from cnntune.diagnosis.logs import catboost, delimited
from cnntune.diagnosis.logs.cells import as_number, decode, number
from cnntune.diagnosis.logs.json_documents import flatten
from cnntune.diagnosis.logs.names import (
    ACCURACY,
    COUNTS,
    CURVES,
    ERROR,
    LOSS,
    SPLITS,
    has_curves,
    meaning,
    words_of,
)
from cnntune.diagnosis.logs.record import MAX_BYTES, Record, UnreadableLogError
from cnntune.diagnosis.logs.rows import records

MIN_FILES = 2
MIN_VALUES = 3
MAX_FILE_BYTES = 2**20  # of a file with one epoch; such files are small
EPOCH_FILE = re.compile(r"(?P<name>.*?)(?P<epoch>\d+)(?P<rest>\D*)\.json", re.IGNORECASE)
TABLES = frozenset({".tsv", ".csv"})
HEADER_BYTES = 20_000
MAX_TABLE_BYTES = 2**24  # of a table of one split; larger ones are read one by one
ONE_NUMBER = "one number per line and no count: each line is taken for one epoch"


@dataclass(frozen=True)
class Group:
    """The names of files that belong together, how they are read, and the path to report."""

    path: Path
    files: frozenset[str]
    read: Callable[[], list[Record]]


def groups(folder: Path, files: Sequence[str]) -> Iterator[Group]:
    """The groups among the files of a folder; a file may be in one group only."""
    yield from _epoch_files(folder, files)
    if catboost.FILE in files and (found := _read_catboost(folder / catboost.FILE)):
        same = frozenset({catboost.FILE, catboost.TIMES, *catboost.TABLES})
        yield Group(folder / catboost.FILE, same, partial(list, found))
    else:
        yield from _split_tables(folder, files)
    yield from _value_files(folder, files)


def _read_catboost(path: Path) -> list[Record]:
    """The run of CatBoost's JSON file, whose numbers are also in `catboost.TABLES`."""
    try:
        with path.open("rb") as stream:
            return catboost.read(decode(stream.read(MAX_BYTES)))
    except OSError:
        return []


def _epoch_files(folder: Path, files: Sequence[str]) -> Iterator[Group]:
    """AllenNLP's `metrics_epoch_0.json`, ...: one JSON object per epoch.

    The number must follow the word epoch or step, or equal the `epoch` in the object: numbers may
    also count runs.
    """
    found: dict[tuple[str, str], dict[int, str]] = {}
    for file in files:
        if match := EPOCH_FILE.fullmatch(file):
            found.setdefault((match["name"], match["rest"]), {})[int(match["epoch"])] = file
    for (name, _), epochs in found.items():
        if len(epochs) < MIN_FILES:
            continue
        objects = {epoch: _object(folder / file) for epoch, file in sorted(epochs.items())}
        named = [word for word in words_of(name) if not word.isdigit()][-1:]
        counted = any(meaning(word).kind in COUNTS for word in named) or all(
            as_number(entry.get("epoch")) == epoch for epoch, entry in objects.items()
        )
        rows = [flatten(entry) | {"epoch": float(epoch)} for epoch, entry in objects.items()]
        if counted and all(objects.values()) and has_curves(key for row in rows for key in row):
            yield Group(folder, frozenset(epochs.values()), partial(records, "json", rows))


def _object(path: Path) -> Mapping[str, object]:
    """The JSON object in a small file; an empty one for anything else."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
        found = json.loads(decode(data)) if len(data) <= MAX_FILE_BYTES else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, Mapping) else {}


def _split_tables(folder: Path, files: Sequence[str]) -> Iterator[Group]:
    """CatBoost's `learn_error.tsv` and `test_error.tsv`: one table per split, with equal headers.

    The header must name a curve and no split, no other word of the file's name may differ, and
    each table must hold one run.
    """
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for file in files:
        path = Path(file)
        if path.suffix.lower() in TABLES and (split := _split_of(path.stem)):
            header = _header(folder / file)
            words = words_of(header)
            if has_curves(re.split(r"[,;\t]", header)) and not any(
                word in SPLITS for word in words
            ):
                key = (path.suffix, header, *_other_words(path.stem))
                found.setdefault(key, {}).setdefault(split, file)
    for by_split in found.values():
        if "train" in by_split and len(by_split) >= MIN_FILES:
            record = _read_tables({split: folder / file for split, file in by_split.items()})
            times = {catboost.TIMES} if record and record.format == "catboost" else set()
            if record is not None:
                yield Group(
                    folder, frozenset({*by_split.values(), *times}), partial(list, [record])
                )


def _header(path: Path) -> str:
    """The first line of a file that is not too large to be read for its group."""
    try:
        if path.stat().st_size > MAX_TABLE_BYTES:
            return ""
        with path.open("rb") as stream:
            return decode(stream.read(HEADER_BYTES)).partition("\n")[0].strip()
    except OSError:
        return ""


def _split_of(stem: str) -> str:
    return next((SPLITS[word] for word in words_of(stem) if word in SPLITS), "")


def _other_words(stem: str) -> list[str]:
    return [word for word in words_of(stem) if word not in SPLITS]


def _read_tables(tables: Mapping[str, Path]) -> Record | None:
    """One run from a table per split, whose name is put before those of the columns.

    None where a table does not hold exactly one run, or the tables count different things.
    """
    parts: dict[str, Record] = {}
    for split, path in tables.items():
        try:
            found = delimited.read(decode(path.read_bytes()))
        except (OSError, UnreadableLogError):
            return None
        if len(found) != 1:
            return None
        parts[split] = found[0]
    axes = {record.axis for record in parts.values()}
    if len(axes) != 1:
        return None
    columns = {
        f"{split}/{name}": points
        for split, record in parts.items()
        for name, points in record.columns.items()
    }
    notes = tuple(note for record in parts.values() for note in record.notes)
    tool = "catboost" if set(catboost.TABLES) == {path.name for path in tables.values()} else "csv"
    return Record(tool, columns, axis=axes.pop(), notes=notes)


def read_values(text: str, name: str) -> list[Record]:
    """The run in a file of one number per line whose name is that of a curve."""
    if meaning(name).kind not in CURVES or len(values := values_in(text)) < MIN_VALUES:
        return []
    points = [(float(at), value) for at, value in enumerate(values, start=1)]
    return [Record("values", {name: points}, notes=(ONE_NUMBER,))]


def values_in(text: str) -> list[float]:
    """The numbers of a text that has one per line; empty for any other text."""
    values = []
    for line in text.split("\n"):
        if line.strip() and not line.startswith("#"):
            if (value := number(line)) is None:
                return []
            values.append(value)
    return values


def _value_files(folder: Path, files: Sequence[str]) -> Iterator[Group]:
    """`train_loss.txt`, `val_loss.txt`, ...: one curve each, of equal length."""
    found: dict[tuple[int, tuple[str, ...]], dict[str, list[float]]] = {}
    names: dict[str, str] = {}
    for file in files:
        stem = Path(file).stem
        if meaning(stem).kind not in CURVES:
            continue
        try:
            with (folder / file).open("rb") as stream:
                values = values_in(decode(stream.read(MAX_FILE_BYTES)))
        except OSError:
            continue
        other = tuple(w for w in _other_words(stem) if w not in LOSS | ACCURACY | ERROR)
        if len(values) >= MIN_VALUES:
            found.setdefault((len(values), other), {})[stem] = values
            names[stem] = file
    for curves in found.values():
        if len(curves) >= MIN_FILES:
            runs = [record for stem, values in curves.items() for record in _record(stem, values)]
            columns = {name: points for run in runs for name, points in run.columns.items()}
            joined = replace(runs[0], columns=columns)
            yield Group(folder, frozenset(names[stem] for stem in curves), partial(list, [joined]))


def _record(stem: str, values: Sequence[float]) -> list[Record]:
    points = [(float(at), value) for at, value in enumerate(values, start=1)]
    return [Record("values", {stem: points}, notes=(ONE_NUMBER,))]
