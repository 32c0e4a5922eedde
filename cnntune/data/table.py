"""Images listed in a table: a CSV file with a file name and a label per row.

`metadata.csv` beside the images is the layout of Hugging Face's `imagefolder`.
"""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field

from cnntune.data.folder import (
    EXTENSIONS,
    TEST_NAMES,
    TRAIN_NAMES,
    VAL_NAMES,
    Colour,
    FolderImages,
    in_class_order,
    split_files,
)
from cnntune.data.parts import MAX_SHOWN
from cnntune.data.source import (
    TEST_FRACTION,
    VAL_FRACTION,
    Fraction,
    ImagePath,
    ImageSide,
    Source,
    check_fractions,
    stratified_split,
)
from cnntune.errors import DataError

METADATA = "metadata.csv"
# Headings, in lower case, that name the column where the recipe does not.
IMAGE_COLUMNS = (
    *("file_name", "filename", "file", "image", "image_path", "filepath", "path", "img"),
    *("image_id", "id"),
)
LABEL_COLUMNS = ("label", "class", "category", "target", "class_name", "labels", "species", "breed")
SET_COLUMNS = ("split", "set", "subset", "partition")
DELIMITERS = ",;\t|"
MAX_CLASSES = 0.5  # by the number of images: more are no classes but numbers or names of images

Column = Annotated[str, Field(description="heading of the column; empty: found by its name")]


def table(
    *,
    path: ImagePath,
    seed: int,
    image_column: Column = "",
    label_column: Column = "",
    set_column: Column = "",
    image_size: ImageSide = 64,
    color: Annotated[Colour, Field(description="channels that are read")] = "rgb",
    val_fraction: Fraction = VAL_FRACTION,
    test_fraction: Fraction = TEST_FRACTION,
) -> Source:
    """A CSV file with a row per image: file name, label, and perhaps the set it belongs to.

    Files are relative to the table's folder, or to the first folder in it that holds the first
    file; a name without an ending is completed. Labels are names or numbers. Sets are train, val
    and test, or other words for them; without such a column the fractions split the images.

    Raises:
        DataError: one line per problem of the table; images are read later.
    """
    file = Path(path).expanduser()
    heading, rows = _read(file)
    images = _column(heading, image_column, IMAGE_COLUMNS, "image_column", file)
    labels = _column(heading, label_column, LABEL_COLUMNS, "label_column", file)
    sets = _perhaps(heading, set_column, SET_COLUMNS)
    if set_column:
        sets = _column(heading, set_column, (), "set_column", file)
    named = [row[images].strip() if images < len(row) else "" for row in rows]
    values = [row[labels].strip() if labels < len(row) else "" for row in rows]
    files = _files(named, values, file)
    classes = _classes(values, heading[labels], file)
    numbers = {name: number for number, name in enumerate(classes)}
    label_of = torch.tensor([numbers[value] for value in values])
    whole = FolderImages(files, label_of, image_size, color, file.parent)
    if sets is None:
        check_fractions(val_fraction, test_fraction)
        return split_files(
            whole, classes, seed=seed, val_fraction=val_fraction, test_fraction=test_fraction
        )
    words = [row[sets].strip().casefold() if sets < len(row) else "" for row in rows]
    return _by_sets(whole, classes, words, file, seed=seed, val_fraction=val_fraction)


def _read(file: Path) -> tuple[list[str], list[list[str]]]:
    """The heading, and all rows that are not empty."""
    if not file.is_file():
        raise DataError(f"data.path: {file}: {'is a folder' if file.exists() else 'no such file'}")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: is not text in UTF-8 (byte {error.start})") from None
    first = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=first.count)
    lines = csv.reader(text.splitlines(), delimiter=delimiter)
    rows = [row for row in lines if any(cell.strip() for cell in row)]
    if len(rows) < 2:
        raise DataError(f"{file}: must have a line of headings, and a row per image")
    return [cell.strip() for cell in rows[0]], rows[1:]


def _column(heading: Sequence[str], asked: str, known: Sequence[str], key: str, file: Path) -> int:
    """The index of a column that has to be there."""
    found = _perhaps(heading, asked, known)
    if found is not None:
        return found
    told = f"has no column {asked!r}" if asked else f"data.{key}: cannot be told from the headings"
    raise DataError(f"{file}: {told}; allowed: {', '.join(heading)}")


def _perhaps(heading: Sequence[str], asked: str, known: Sequence[str]) -> int | None:
    """The index of the column that is asked for, or has one of the known names."""
    names = [name.casefold() for name in heading]
    wanted = [asked.casefold()] if asked else known
    return next((names.index(name) for name in wanted if name in names), None)


def _files(named: Sequence[str], values: Sequence[str], file: Path) -> list[Path]:
    """The image of each row."""
    problems = []
    for what, cells in (("file name", named), ("label", values)):
        if empty := [number for number, cell in enumerate(cells, 2) if not cell]:
            problems.append(f"{file}: {_rows(empty)}: no {what}")
    known: dict[str, str] = {}
    for name, value in zip(named, values, strict=True):
        if known.setdefault(name, value) != value:
            problems.append(f"{file}: {name}: has the labels {known[name]} and {value}")
    if len(known) < len(named) and not problems:
        problems.append(f"{file}: lists {len(named) - len(known)} files twice; remove these rows")
    if problems:
        raise DataError(problems[:MAX_SHOWN])
    folder = _folder(named[0], file.parent)
    found = [_existing(folder, name) for name in named]
    if missing := [name for name, path in zip(named, found, strict=True) if path is None]:
        more = f" and {len(missing) - MAX_SHOWN} more" if len(missing) > MAX_SHOWN else ""
        shown = ", ".join(missing[:MAX_SHOWN])
        raise DataError(f"{file}: {len(missing)} files are not in {folder}: {shown}{more}")
    return [path for path in found if path is not None]


def _rows(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:MAX_SHOWN]))
    more = f" and {len(numbers) - MAX_SHOWN} more" if len(numbers) > MAX_SHOWN else ""
    return f"row{'s' if len(numbers) > 1 else ''} {shown}{more}"


def _folder(first: str, root: Path) -> Path:
    """The folder that file names are relative to: the table's own, or one in it."""
    inside = sorted(path for path in root.iterdir() if path.is_dir())
    candidates = (path for path in (root, *inside) if _existing(path, first))
    return next(candidates, root)


def _existing(folder: Path, name: str) -> Path | None:
    """The file of that name, which may lack its ending."""
    path = folder / name
    if path.is_file():
        return path
    if path.suffix.lower() in EXTENSIONS:
        return None
    endings = (path.with_name(path.name + ending) for ending in EXTENSIONS)
    return next((found for found in endings if found.is_file()), None)


def _classes(values: Sequence[str], heading: str, file: Path) -> tuple[str, ...]:
    classes = tuple(in_class_order(set(values)))
    if len(classes) < 2:
        raise DataError(f"{file}: {heading}: needs at least two classes (got {classes[0]} alone)")
    if len(classes) > math.ceil(MAX_CLASSES * len(values)):
        raise DataError(
            f"{file}: {heading}: has {len(classes)} different values for {len(values)} images;"
            " a class needs several images (another column: data.label_column)"
        )
    return classes


def _by_sets(
    whole: FolderImages,
    classes: tuple[str, ...],
    words: Sequence[str],
    file: Path,
    *,
    seed: int,
    val_fraction: float,
) -> Source:
    """The sets that a column names; the validation set is drawn from training if it has none."""
    known = {"train": TRAIN_NAMES, "val": VAL_NAMES, "test": TEST_NAMES}
    indices = {
        name: torch.tensor([at for at, word in enumerate(words) if word in group])
        for name, group in known.items()
    }
    allowed = [name for group in known.values() for name in group]
    if wrong := sorted(set(words) - set(allowed)):
        raise DataError(f"{file}: sets must be {', '.join(allowed)} (got {wrong[0]!r})")
    if not len(indices["train"]):
        raise DataError(f"{file}: no row is of the training set")
    train = whole.take(indices["train"])
    test = whole.take(indices["test"]) if len(indices["test"]) else None
    if len(indices["val"]):
        return Source(train=train, val=whole.take(indices["val"]), test=test, classes=classes)
    chosen, rest = stratified_split(train.labels, (val_fraction,), seed=seed)
    return Source(train=train.take(rest), val=train.take(chosen), test=test, classes=classes)
