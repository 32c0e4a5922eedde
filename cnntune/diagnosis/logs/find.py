"""Find the logs at and below a path, and read each with the reader for its content.

The readers are loaded where the first file asks for one: a run of cnntune needs none of them.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from cnntune.diagnosis.curve import MIN_POINTS
from cnntune.diagnosis.logs.record import MAX_BYTES, Point, Record, UnreadableLogError
from cnntune.runs.run import WORK
from cnntune.runs.study import PROOFS

EMPTY = "holds no text"
UNKNOWN_FORMAT = "not a training log in a known format"
HEAD = 4096  # bytes from which the kind of a file is recognised
MAX_CONTROL_SHARE = 0.02  # of the head; text has none, except what a crash may leave in it
CONTROL = (*range(1, 8), *range(14, 27), *range(28, 32))
MIN_TABLE_VALUES = 0.5  # per line: a table of curves has more
STUDY = "study.json"  # marks a study of cnntune: only its runs are read
METRICS = "metrics.csv"
SUMMARY = "summary.json"  # marks a run of a study that has ended
EVENT_FILE = re.compile(r"events\.out\.tfevents\..*")

COMPRESSED = frozenset({".gz", ".bz2", ".xz", ".zst"})
# Hold other things too: read in a folder only where their text looks like a log.
DOCUMENTS = frozenset({".ipynb", ".md", ".rst", ".yaml", ".yml"})
# Never a training log, so not opened when a folder is searched.
OTHER_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("py", "pyc", "html", "htm", "css", "js", "toml"),
        *("png", "jpg", "jpeg", "gif", "bmp", "webp", "tif", "tiff", "svg", "pdf", "mp4", "ico"),
        *("pt", "pth", "ckpt", "h5", "hdf5", "keras", "onnx", "safetensors", "pb", "bin", "pkl"),
        *("npy", "npz", "parquet", "arrow", "feather", "mat", "zip", "tar"),
        *("so", "o", "c", "h", "cpp", "cu", "sh", "bat", "exe", "dll", "lock", "xml", "joblib"),
    )
)


@dataclass(frozen=True)
class Source:
    """A log: a file, or the files of a folder that belong together.

    `named` says that the user named this file, so that skipping it must be reported. `ours` marks
    the folder of a run of cnntune, which is not read here.
    """

    path: Path
    read: Callable[[], list[Record]]
    named: bool = False
    ours: bool = False


def sources(path: Path, is_ours: Callable[[Path], bool]) -> Iterator[Source]:
    """The logs at or below `path`, by name; hidden folders and links are skipped.

    `is_ours` says whether a folder with a `metrics.csv` is a run of cnntune.
    """
    if not path.is_dir():
        if path.name == METRICS and is_ours(path.parent):
            yield Source(path.parent, list, named=True, ours=True)
        else:
            yield Source(path, partial(read_file, path), named=True)
        return
    events: dict[Path, list[Path]] = {}
    studies: list[Path] = []
    for name, folders, files in os.walk(path):
        folder = Path(name)
        folders[:] = sorted(inner for inner in folders if not inner.startswith("."))
        if STUDY in files:
            studies.append(folder)
            folders[:] = [inner for inner in folders if inner != PROOFS]  # unless it is named
        if METRICS in files and is_ours(folder):
            yield Source(folder, list, ours=True)
            folders[:] = [inner for inner in folders if inner != WORK]  # its metrics are read
            if not (files := [file for file in files if EVENT_FILE.fullmatch(file)]):
                continue
        elif METRICS not in files and SUMMARY in files and _in_study(studies, folder):
            yield Source(folder, list, ours=True)  # reading it reports that the curve is missing
            continue
        elif _in_study(studies, folder):
            continue
        for source in _in_folder(folder, folders, files):
            if EVENT_FILE.fullmatch(source.path.name):
                events.setdefault(folder, []).append(source.path)
            else:
                yield source
    yield from event_sources(events)


def _in_folder(folder: Path, folders: list[str], files: Sequence[str]) -> Iterator[Source]:
    """The logs of other tools in a folder, and each event file; drops what belongs to them.

    `folders` are the names of the inner folders that remain to be searched, changed in place.
    """
    from cnntune.diagnosis.logs import dvclive, joined, mlflow

    if mlflow.is_run_folder(folder):
        folders.clear()
        yield Source(folder, partial(mlflow.read_folder, folder))
        return
    if dvclive.is_run_folder(folder):
        folders[:] = [inner for inner in folders if inner != "plots"]
        yield Source(folder, partial(dvclive.read_folder, folder))
    files = [file for file in sorted(files) if _may_be_log(folder / file)]
    for group in joined.groups(folder, files):
        files = [file for file in files if file not in group.files]
        yield Source(group.path, group.read)
    for file in files:
        at = folder / file
        if EVENT_FILE.fullmatch(file) or at.is_file():
            yield Source(at, partial(read_found_file, at))


def _may_be_log(path: Path) -> bool:
    """Whether a file in a folder is opened; hidden files, links and other files are not."""
    from cnntune.diagnosis.logs import looks

    suffix = path.suffix.lower()
    if path.name.startswith(".") or suffix in OTHER_SUFFIXES or path.is_symlink():
        return False
    return suffix not in COMPRESSED or looks.is_named_as_log(path.with_suffix(""))


def _in_study(studies: Sequence[Path], folder: Path) -> bool:
    """Whether the folder is one of the studies or inside one."""
    return any(study in (folder, *folder.parents) for study in studies)


def event_sources(events: Mapping[Path, Sequence[Path]]) -> Iterator[Source]:
    """Event files as runs: those of one folder, and those of folders named after splits.

    Keras writes `train/` and `validation/`, `add_scalars` writes `loss_train/` and `loss_val/`: the
    split is then in the name of the folder, not in the tags.
    """
    by_parent: dict[Path, list[Path]] = {}
    for folder in events:
        if _split_of(folder) and not _tags_name_splits(events[folder]):
            by_parent.setdefault(folder.parent, []).append(folder)
    joined: set[Path] = set()
    for parent, folders in by_parent.items():
        splits = {_split_of(folder) for folder in folders}
        if "train" in splits and splits & {"val", "test"}:
            files = {folder: events.get(folder, ()) for folder in (parent, *folders)}
            joined |= set(files)
            yield Source(parent, partial(_read_split_folders, files, parent))
    for folder, found in events.items():
        if folder not in joined:
            yield Source(folder if found[1:] else found[0], partial(_read_events, found))


def _split_of(folder: Path) -> str:
    from cnntune.diagnosis.logs.names import SPLITS, words_of

    return next((SPLITS[word] for word in words_of(folder.name) if word in SPLITS), "")


def _tags_name_splits(files: Sequence[Path]) -> bool:
    from cnntune.diagnosis.logs.names import CURVES, meaning

    columns = {tag for record in _read_events(files) for tag in record.columns}
    curves = [known for known in map(meaning, columns) if known.kind in CURVES]
    return any(known.split for known in curves) or not curves


def _read_events(files: Sequence[Path]) -> list[Record]:
    """One run, or several, from the event files of a folder, in the order of their time stamps."""
    from cnntune.diagnosis.logs import tensorboard

    return tensorboard.read([read_bytes(file)[0] for file in sorted(files)])


def _read_split_folders(files: Mapping[Path, Sequence[Path]], parent: Path) -> list[Record]:
    """One run from several folders; the folder's name is put before each tag."""
    columns: dict[str, list[Point]] = {}
    notes: list[str] = []
    for folder, found in files.items():
        for record in _read_events(found)[-1:]:
            prefix = "" if folder == parent else f"{folder.name}/"
            columns |= {prefix + tag: points for tag, points in record.columns.items()}
            notes += record.notes
    return [Record("tensorboard", columns, axis="step", notes=tuple(notes))] if columns else []


def read_found_file(path: Path) -> list[Record]:
    """The runs in a file that was not named but found in a folder, as in `read_file`.

    Raises:
        UnreadableLogError: where it cannot be read, or looks like a log and holds no known format.
        OSError: where the file cannot be opened.
    """
    from cnntune.diagnosis.logs import looks
    from cnntune.diagnosis.logs.cells import decode

    if path.suffix.lower() in COMPRESSED:
        raise UnreadableLogError("compressed: decompress it first")
    document = path.suffix.lower() in DOCUMENTS
    if document and not looks.is_log_in_document(decode(read_bytes(path)[0])):
        return []
    found = read_file(path)
    if not found:
        head = decode(read_head(path, looks.HEAD))
        if document or looks.is_log(path, head):
            raise UnreadableLogError(UNKNOWN_FORMAT if head.strip() else EMPTY)
    return found


def read_head(path: Path, size: int) -> bytes:
    """The first bytes of a file; none where it is not text."""
    with path.open("rb") as stream:
        head = stream.read(size)
    return head if is_text(head[:HEAD]) else b""


def read_file(path: Path) -> list[Record]:
    """The runs in a file, whatever its format; an empty list where it holds no training log.

    Raises:
        UnreadableLogError: where the format is known, but nothing can be read.
        OSError: where the file cannot be opened.
    """
    from cnntune.diagnosis.logs import database, joined, tensorboard, thin, wandb
    from cnntune.diagnosis.logs.cells import decode

    with path.open(
        "rb"
    ) as stream:  # opened once: a pipe such as <(zcat log.gz) cannot be read again
        head = stream.read(HEAD)
        if database.is_database(head):
            from cnntune.diagnosis.logs import mlflow, optuna_study  # both open SQLite

            return mlflow.read_database(path) or optuna_study.read_database(path)
        if not (tensorboard.is_event_file(head) or wandb.is_wandb_file(head) or is_text(head)):
            return []
        if is_text(head) and thin.has_lines(head):
            data, notes = thin.read_lines(head, stream)
        else:
            data, notes = _up_to_limit(head + stream.read(MAX_BYTES + 1 - len(head)))
    found = read_data(data) or joined.read_values(decode(data), path.stem)
    return [replace(run, notes=(*run.notes, *notes)) for run in found]


def _up_to_limit(data: bytes) -> tuple[bytes, tuple[str, ...]]:
    """The first `MAX_BYTES` of a file, and a note where there are more."""
    if len(data) <= MAX_BYTES:
        return data, ()
    return data[:MAX_BYTES], (f"only the first {MAX_BYTES // 2**20} MB were read",)


def read_data(data: bytes) -> list[Record]:
    """The runs in the bytes of a file that is not a database.

    Raises:
        UnreadableLogError: where the format is known, but nothing can be read.
    """
    from cnntune.diagnosis.logs import tensorboard, wandb
    from cnntune.diagnosis.logs.cells import decode

    if tensorboard.is_event_file(data):
        return tensorboard.read([data])
    return wandb.read(data) if wandb.is_wandb_file(data) else read_text(decode(data))


def read_text(content: str) -> list[Record]:
    """The runs in a text; where few lines are rows of a table, it may be a log of printed lines.

    Raises:
        UnreadableLogError: where the format is known, but nothing can be read.
    """
    from cnntune.diagnosis.logs import (
        catboost,
        darknet,
        delimited,
        json_documents,
        json_lines,
        long_tables,
        named_lists,
        notebook,
        optuna_study,
        split_table,
        text,
        yolo,
    )
    from cnntune.diagnosis.logs.cells import with_e_exponents

    content = with_e_exponents(content)
    if notebook.is_notebook(content):
        return notebook.read(content, read_text)
    for read in (
        *(catboost.read, json_documents.read, optuna_study.read_journal, json_lines.read),
        *(yolo.read, darknet.read, split_table.read, long_tables.read),
    ):
        if found := read(content):
            return found
    reason = ""
    try:
        table = delimited.read(content)
    except UnreadableLogError as error:
        table, reason = [], str(error)
    if table and _values(table) >= content.count("\n") * MIN_TABLE_VALUES:
        return table
    document = json_documents.is_document(content)
    printed = [] if document else text.read(content)
    found = max(table, printed, key=_values)
    if not document and not any(map(_has_shape, found)):
        found = max(found, named_lists.read(content), key=_values)
    if document and not found and json_documents.is_broken(content):
        reason = "incomplete JSON"
    if not found and reason:
        raise UnreadableLogError(reason)
    return found


def read_bytes(path: Path) -> tuple[bytes, bool]:
    """The bytes of a file up to `MAX_BYTES`, and whether there are more."""
    with path.open("rb") as stream:
        data = stream.read(MAX_BYTES + 1)
    return data[:MAX_BYTES], len(data) > MAX_BYTES


def is_text(head: bytes) -> bool:
    """Whether the beginning of a file is text; zero bytes may be UTF-16, or left by a crash."""
    strange = sum(head.count(byte) for byte in CONTROL)
    return strange <= MAX_CONTROL_SHARE * len(head)


def _has_shape(record: Record) -> bool:
    """Whether one of the curves of a record has enough values for a shape."""
    from cnntune.diagnosis.logs.names import CURVES, meaning

    return any(
        len({at for at, _ in points}) >= MIN_POINTS
        for name, points in record.columns.items()
        if meaning(name).kind in CURVES
    )


def _values(records: Sequence[Record]) -> int:
    """The number of values in all curves."""
    from cnntune.diagnosis.logs.names import CURVES, meaning

    return sum(
        len(points)
        for record in records
        for name, points in record.columns.items()
        if meaning(name).kind in CURVES
    )
