"""The run folder: what a study and its runs leave on disk, in plain text.

    runs/digits/                 a study
      study.json  recipe.toml    what was asked
      study.db                   Optuna's study
      sanity.json ...            the last result of each step
      trial-0007/                a run
        config.json              written first, never changed
        metrics.csv              append-only, one flushed row an epoch
        checkpoint.pt            the state after the last epoch, while the run is not finished
        summary.json             written last, by rename: without it the run is not finished

Whole files appear by rename, rows by append and flush, so that a killed process leaves either the
old file or the new one, and at worst one torn line, which the reader drops.
"""

import csv
import errno
import fcntl
import json
import math
import os
import platform
import re
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

from cnntune import __version__
from cnntune.errors import StudyError

FORMAT = 1  # of every JSON document that we write
HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)  # what a lock in other hands reads as
FULL = (errno.ENOSPC, errno.EDQUOT)
LIBRARIES = ("torch", "torchvision", "optuna", "numpy")
LOCK = "lock"
RECORD_LOCK = ".study.lock"  # of study.json, which commands write that need no lock on the study
TEST_LOCK = ".test.lock"  # of test.json: a final test waits for another one, and not for a search


class DamagedFileError(StudyError):
    """A file of a study that is there and cannot be read."""


class NoLocksError(StudyError):
    """A folder on a file system without locks."""


@dataclass(frozen=True)
class Epoch:
    """One row of `metrics.csv`, in its column order.

    Losses are mean cross-entropy in nats, accuracies in 0..1, and epochs count from 1. `train_loss`
    and `train_acc` are measured like `val_loss` and `val_acc`, in eval mode and without
    augmentation, on a fixed part of the training images: the two curves can be compared. `lr` is
    that of the last step; `grad_norm` is the mean over steps, before clipping.
    """

    epoch: int
    lr: float
    train_loss: float
    train_acc: float
    val_loss: float
    val_acc: float
    grad_norm: float
    seconds: float

    @property
    def diverged(self) -> bool:
        """Whether a loss is NaN or infinite."""
        return not (math.isfinite(self.train_loss) and math.isfinite(self.val_loss))


COLUMNS = tuple(field.name for field in fields(Epoch))


def best_epoch(rows: list[Epoch]) -> Epoch | None:
    """The epoch whose weights are worth keeping: highest validation accuracy, then lowest loss.

    Epochs of a diverged run do not count: what led there is no result.
    """
    if not rows or rows[-1].diverged:
        return None
    return max(rows, key=lambda row: (row.val_acc, -row.val_loss))


@dataclass(frozen=True)
class Run:
    """The folder of one training run.

    A file of it that is damaged counts as missing: what it held is found elsewhere or trained anew.
    """

    path: Path

    @property
    def name(self) -> str:
        """`trial-0003`, or `refine-1/trial-0003` in a refinement."""
        in_round = self.path.parent.name.startswith("refine-")
        return f"{self.path.parent.name}/{self.path.name}" if in_round else self.path.name

    @property
    def metrics(self) -> Path:
        """The file with a row for each epoch."""
        return self.path / "metrics.csv"

    @property
    def checkpoint(self) -> Path:
        """The file that an interrupted run goes on from; a finished run has none."""
        return self.path / "checkpoint.pt"

    def begin(self, config: Mapping[str, Any]) -> int:
        """Make the folder and write `config.json`, or take up an interrupted run of that config.

        Returns how many epochs are logged there. Rows of a run of another config make way, and so
        does a torn last line.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if self.metrics.exists() and self.config() == json.loads(json.dumps(finite(config))):
            _drop_torn_line(self.metrics)
            if rows := self.rows():
                return len(rows)
        self.checkpoint.unlink(missing_ok=True)
        write_json(self.path / "config.json", config)
        with self.metrics.open("w", newline="") as file:
            csv.writer(file).writerow(COLUMNS)
        return 0

    def log(self, row: Epoch) -> None:
        """Append one row and flush it."""
        with self.metrics.open("a", newline="") as file:
            csv.writer(file).writerow(astuple(row))

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write `summary.json`, which marks the run as finished."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.path / "summary.json", summary)
        self.checkpoint.unlink(missing_ok=True)

    def config(self) -> dict[str, Any]:
        """The recipe of the run, as nested values; empty where there is none.

        Raises:
            StudyError: where a newer cnntune wrote it.
        """
        return _read_whole(self.path / "config.json") or {}

    def summary(self) -> dict[str, Any] | None:
        """What the run came to, or None while it is not finished.

        Raises:
            StudyError: where a newer cnntune wrote it.
        """
        return _read_whole(self.path / "summary.json")

    def rows(self) -> list[Epoch]:
        """The epochs so far; a torn last line is dropped."""
        try:
            return read_metrics(self.metrics)
        except DamagedFileError:
            return []


def read_metrics(path: Path) -> list[Epoch]:
    """The rows of a `metrics.csv`.

    A line is whole when a newline ends it and it has a number in every column; others are dropped,
    since half a number would be a wrong number. An epoch has one row, however often it was written:
    two machines may have trained a trial for a while, where each took the other for dead.

    Raises:
        DamagedFileError: where the columns are not those of a run of ours.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DamagedFileError(f"{path}: cannot be read: {error.strerror}") from None
    if "\n" not in text:  # killed before the header was out
        return []
    header, *lines = text.split("\n")[:-1]
    if tuple(header.strip().split(",")) != COLUMNS:
        raise DamagedFileError(f"{path}: must have the columns {','.join(COLUMNS)}")
    rows = [row for row in map(_parse_row, lines) if row is not None]
    return list({row.epoch: row for row in rows}.values())


def _drop_torn_line(path: Path) -> None:
    """Cut off what stands after the last newline: the next row must begin a line."""
    with path.open("rb+") as file:
        file.truncate(file.read().rfind(b"\n") + 1)


def _parse_row(line: str) -> Epoch | None:
    try:
        number, *values = (float(cell) for cell in line.strip().split(","))
        return Epoch(int(number), *values)
    except (TypeError, ValueError, OverflowError):
        return None


@dataclass(frozen=True)
class Study:
    """The folder of a study."""

    path: Path

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.resolve().name

    def run(self, label: str) -> Run:
        """The folder of one run, such as `trial-0007`."""
        return Run(self.path / label)

    def trial(self, number: int) -> Run:
        """The folder of trial `number`."""
        return self.run(f"trial-{number:04d}")

    def write(self, step: str, document: Mapping[str, Any]) -> None:
        """Keep the last result of a step, such as `lr-sweep`.

        Raises:
            StudyError: where nothing can be written there.
        """
        with writing_to(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(self.path / f"{step}.json", document)

    def read(self, step: str) -> dict[str, Any] | None:
        """The last result of a step, or None.

        Raises:
            StudyError: where the file is damaged, or a newer cnntune wrote it.
        """
        return read_json(self.path / f"{step}.json")

    def write_text(self, name: str, text: str) -> None:
        """Keep a text, such as a table of the trials.

        Raises:
            StudyError: where nothing can be written there.
        """
        with writing_to(self.path):
            write_by_rename(self.path / name, text)

    def record(
        self,
        recipe_toml: str,
        *,
        device: str,
        code: Path | None = None,
        command: Mapping[str, Any] | None = None,
    ) -> None:
        """Write what was asked into `study.json` and `recipe.toml`; earlier commands are kept."""
        about = {"versions": _versions(), "device": device, "commit": _commit()}
        if code is not None:
            about["code"] = str(code)  # where own modules lie, for whoever reruns a trial
        self._record(command or this_command(), about)
        self.write_text("recipe.toml", recipe_toml)

    def record_command(self, command: Mapping[str, Any]) -> None:
        """Add a command to `study.json` and leave the rest of what was asked as it is."""
        self._record(command, {})

    def _record(self, command: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        """Read, change and write `study.json` as the only one who does.

        A command that is listed already is not listed again. Where there are no locks two commands
        at once may cost one of them its place in the list, and a study on a server needs none.
        """
        with ExitStack() as held:
            with suppress(NoLocksError):
                held.enter_context(locked(self.path, RECORD_LOCK, waiting=lambda: None))
            known = self.read("study") or {"format": FORMAT, "name": self.name}
            commands = known.setdefault("commands", [])
            if not isinstance(commands, list):
                raise DamagedFileError(f"{self.path / 'study.json'}: commands: must be a list")
            if command not in commands:
                commands.append(dict(command))
            self.write("study", {**known, **about})

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only writer. The kernel frees the lock when the process ends, however it ends.

        Raises:
            StudyError: where another process holds it, or there are no locks.
        """
        with locked(self.path) as ours:
            if not ours:
                raise StudyError(
                    f"{self.path}: another cnntune is at work on this study; wait for it, or use"
                    " --study NAME for a study of your own"
                )
            yield


def this_command() -> dict[str, Any]:
    """What was typed, and when, as `study.json` lists it; the `id` tells it from its like."""
    argv = [without_password(word) for word in sys.argv[1:]]
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return {"argv": argv, "at": at, "id": secrets.token_hex(4)}


@contextmanager
def locked(
    folder: Path, name: str = LOCK, *, waiting: Callable[[], None] | None = None
) -> Iterator[bool]:
    """Hold a lock of the folder, or find that another process does; the kernel frees it.

    With `waiting`, which is called where another process holds the lock, wait for that process.

    Raises:
        StudyError: where nothing can be written there.
        NoLocksError: where the file system has no locks.
    """
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / name).open("w")
    with file:
        ours = _take(file, fcntl.LOCK_NB, folder)
        if not ours and waiting is not None:
            waiting()
            ours = _take(file, 0, folder)
        yield ours


def _take(file: IO[str], flags: int, folder: Path) -> bool:
    """Whether the lock could be had; only a lock in other hands is a No."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | flags)
    except OSError as error:
        if error.errno in HELD:
            return False
        raise NoLocksError(
            f"{folder}: its file system gives no locks ({error.strerror}), and two commands at once"
            " would spoil a study; give --runs a folder on a local disk, or search with --storage"
        ) from None
    return True


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Say in a line what keeps us from writing. A full disk stays what it is: others wait for it.

    Raises:
        StudyError: where nothing can be written to the folder.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise
        in_the_way = error.errno in (errno.EEXIST, errno.ENOTDIR)
        reason = "a file is in its place" if in_the_way else error.strerror
        raise StudyError(f"{folder}: cannot be written: {reason}") from None


def home(config: Path) -> Path | None:
    """The study that a run's `config.json` belongs to; for a refinement the study it refines."""
    if config.suffix != ".json":
        return None
    if len(config.parts) < 3 or ".." in config.parts:  # the folders above have no names in it
        config = config.resolve()
    folder = config.parent.parent
    if folder.name.startswith("refine-") and (folder.parent / "study.json").is_file():
        return folder.parent  # a round of `tune` has no study.json of its own
    return folder if (folder / "study.json").is_file() else None


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write strict JSON by rename; NaN and infinity become null."""
    write_by_rename(path, json.dumps(finite(document), indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON document, or None where the file is missing.

    Raises:
        DamagedFileError: where the file holds something else.
        StudyError: where a newer cnntune wrote it.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DamagedFileError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        problem = f"is not JSON: {error}; restore it from a copy, or remove it"
        raise DamagedFileError(f"{path}: {problem}") from None
    if not isinstance(document, dict):
        kind = type(document).__name__
        raise DamagedFileError(f"{path}: must hold a JSON object (got {kind})")
    check_format(document, path)
    return document


def _read_whole(path: Path) -> dict[str, Any] | None:
    """A JSON document, or None where the file is missing or damaged."""
    try:
        return read_json(path)
    except DamagedFileError:
        return None


def check_format(document: Mapping[str, Any], path: Path) -> None:
    """Refuse what a later version wrote: its keys may mean something else.

    Raises:
        StudyError: where the document is of a newer format.
    """
    found = document.get("format", FORMAT)
    if isinstance(found, int) and found > FORMAT:
        raise StudyError(
            f"{path}: a newer cnntune wrote it (format {found}; cnntune {__version__} reads format"
            f" {FORMAT}); install that version, or remove the file"
        )


def finite(value: Any) -> Any:
    """`value` with NaN and infinity as None, at any depth."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return value


def write_by_rename(path: Path, text: str) -> None:
    """The file appears whole or not at all, also after a power cut."""
    draft = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def without_password(text: str) -> str:
    """`text` with `***` for the password of an address in it."""
    text = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", text)
    return re.sub(r"([?&]password=)[^&]*", r"\1***", text)


def _versions() -> dict[str, str]:
    versions = {"cnntune": __version__, "python": platform.python_version()}
    for library in LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            continue
    return versions


def _commit() -> str | None:
    """The commit of the working directory, where the user's own code usually lies."""
    git = shutil.which("git")
    if git is None:
        return None
    answer = subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None
