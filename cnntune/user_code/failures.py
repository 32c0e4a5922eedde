"""Whether an exception means that memory or disk ran out, found without loading torch."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from cnntune.errors import OutOfMemoryError, StudyError

DISK_FULL_BYTES = 2**16  # left: less than a checkpoint of the smallest network takes
# What allocators write into a plain RuntimeError: torch's on the CPU (Linux, Windows, and where the
# size overflows), the CUDA driver's, cuBLAS's and that of mps.
NO_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "Storage size calculation overflowed",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "Invalid buffer size",
)
GB = 10**9
# What cross-entropy raises for a label that no output is for, on the CPU and on a GPU.
NO_SUCH_CLASS = re.compile(r"Target -?\d+ is out of bounds|t >= 0 && t < n_classes")


def out_of_memory(error: BaseException) -> OutOfMemoryError | None:
    """The error in a line, where memory ran out, on whatever device."""
    for cause in _with_causes(error):
        text = str(cause)
        # Torch's class is found by its name: torch may not be loaded.
        typed = isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError"
        if typed or (isinstance(cause, RuntimeError) and any(word in text for word in NO_MEMORY)):
            return (
                cause if isinstance(cause, OutOfMemoryError) else OutOfMemoryError(_message(text))
            )
    return None


def advice_on(message: str) -> str:
    """What to do about an exception of PyTorch that does not say it; empty for any other."""
    if NO_SUCH_CLASS.search(message):
        return "labels must be 0 to C - 1 where there are C outputs: if they run from 1, subtract 1"
    return ""


def _message(text: str) -> str:
    found = re.search(r"[Tt]ried to allocate (\d[\d.]* ?\w+)", text)
    amount = found[1] if found else ""
    if amount.endswith(" bytes"):
        amount = f"{int(amount.removesuffix(' bytes')) / GB:.3g} GB"
    wanted = f" (tried to allocate {amount})" if amount else ""
    return f"out of memory{wanted}: lower train.batch_size or data.size, or use a smaller model"


def full_disk(error: BaseException, folder: Path | None = None) -> StudyError | None:
    """The error in a line, where a disk or the user's quota on it is full.

    SQLite's is the cause of others. Torch reports a file that it cannot write as a RuntimeError
    without a number, so the free space of `folder` is checked.
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
        f"{where}: {os.strerror(errno.ENOSPC)}; no results were lost; free disk space and run"
        " the same command to resume"
    )


def _is_full(folder: Path) -> bool:
    """Whether the disk is full that `folder` lies on, or would lie on if it existed."""
    whole = folder.absolute()
    try:
        there = next(place for place in (whole, *whole.parents) if place.exists())
        return shutil.disk_usage(there).free < DISK_FULL_BYTES
    except OSError:  # a failed check must not hide the error
        return False


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and what it was raised from or during, as a traceback shows it."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
