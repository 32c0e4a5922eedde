"""What failed: the memory, the disk, or neither. Asked of an exception, without loading torch."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from cnntune.errors import OutOfMemoryError, StudyError

DISK_FULL_BYTES = 2**16  # left: less than a checkpoint of the smallest network takes
# How allocators say it in a plain RuntimeError: torch's on the CPU (Linux, Windows, and where the
# size is no number any more), the CUDA driver's, cuBLAS's and that of mps.
NO_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "Storage size calculation overflowed",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "Invalid buffer size",
)
GB = 10**9


def out_of_memory(error: BaseException) -> OutOfMemoryError | None:
    """The error in a line, where it is that memory could not be had, on whatever device."""
    for cause in _with_causes(error):
        text = str(cause)
        # Torch's own class is known by its name: torch may not be loaded.
        typed = isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError"
        if typed or (isinstance(cause, RuntimeError) and any(word in text for word in NO_MEMORY)):
            return cause if isinstance(cause, OutOfMemoryError) else OutOfMemoryError(_said(text))
    return None


def _said(text: str) -> str:
    found = re.search(r"[Tt]ried to allocate (\d[\d.]* ?\w+)", text)
    amount = found[1] if found else ""
    if amount.endswith(" bytes"):
        amount = f"{int(amount.removesuffix(' bytes')) / GB:.3g} GB"
    wanted = f" (tried to allocate {amount})" if amount else ""
    return f"out of memory{wanted}: lower train.batch_size or data.size, or use a smaller model"


def full_disk(error: BaseException, folder: Path | None = None) -> StudyError | None:
    """The error in a line, where it is that a disk is full or the user's share of it.

    SQLite's comes inside of others. Torch reports a file that it cannot write as a RuntimeError
    without a number, so the disk of `folder` itself is asked.
    """
    import sqlite3

    for cause in _with_causes(error):
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return _no_space(str(cause.filename or folder or "disk"))
        if getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            return _no_space("study.db")
    if folder is not None and type(error) is RuntimeError and _is_full(folder):
        return _no_space(str(folder))
    return None


def _no_space(where: str) -> StudyError:
    return StudyError(
        f"{where}: {os.strerror(errno.ENOSPC)}; no results were lost; free disk space and"
        " run the same command to resume"
    )


def _is_full(folder: Path) -> bool:
    """Whether the disk is full that `folder` lies on, or would lie on if it existed."""
    whole = folder.absolute()
    try:
        there = next(place for place in (whole, *whole.parents) if place.exists())
        return shutil.disk_usage(there).free < DISK_FULL_BYTES
    except OSError:  # the question must not hide the error that it is asked about
        return False


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and what it was raised from or during, as a traceback shows it."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
