"""How files are written, locked and read, so that a killed process damages none.

Whole files appear by rename, rows by append and flush: a killed process leaves either the old file
or the new one, and at worst one torn line, which the reader drops.
"""

import errno
import fcntl
import json
import math
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from cnntune import __version__
from cnntune.errors import StudyError

FORMAT = 1  # of every JSON document that we write
HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)  # the lock is held by another process
FULL = (errno.ENOSPC, errno.EDQUOT)
LOCK = "lock"  # of a study: its holder alone writes trials


class DamagedFileError(StudyError):
    """A file of a study that is there and cannot be read."""


class NoLocksError(StudyError):
    """A folder on a file system without locks."""


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
    """Whether the lock was taken; False only where another process holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | flags)
    except OSError as error:
        if error.errno in HELD:
            return False
        raise NoLocksError(
            f"{folder}: its file system has no locks ({error.strerror}), and two commands at once"
            " would corrupt a study; use --runs with a folder on a local disk, or search with"
            " --storage"
        ) from None
    return True


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Report in one line why nothing can be written; a full disk stays an `OSError`.

    Raises:
        StudyError: where nothing can be written to the folder.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise
        in_the_way = error.errno in (errno.EEXIST, errno.ENOTDIR)
        reason = "a file has this path" if in_the_way else error.strerror
        raise StudyError(f"{folder}: cannot be written: {reason}") from None


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


def read_whole_json(path: Path) -> dict[str, Any] | None:
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
            f"{path}: written by a newer cnntune (format {found}; cnntune {__version__} reads"
            f" format {FORMAT}); install that version, or remove the file"
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
