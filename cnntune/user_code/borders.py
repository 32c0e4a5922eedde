"""Where cnntune calls user code, and how an exception from there is reported.

A border is a call of the user's code: a module imported, a builder called, an image read, a forward
pass, a loss, a backward pass. An exception that crosses one is the user's, whichever frames it
passed through; its frames only show where. What crosses none is a bug in cnntune.
"""

import os
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from cnntune.errors import CnntuneError, UserCodeError
from cnntune.user_code.failures import advice_on, full_disk, out_of_memory

MAX_MESSAGE = 300  # characters of an exception's message that are shown
UNNAMED = "your code"  # where nothing more is known
CROSSED = "_cnntune_border"  # the attribute of an exception that names the border it crossed
MADE = "_cnntune_made"  # and of one that a layer raised: the user's line that made the layer
INSTALLED = ("site-packages", "dist-packages")  # the second on Debian and Ubuntu
LIBRARIES = ("<", str(Path(__file__).parents[1]) + os.sep, sysconfig.get_paths()["stdlib"])
KNOWN = (
    "cnntune",
    "numpy",
    "timm",
    "torch",
    "torchvision",
)  # not the user's, even where a recipe names it
named: set[str] = set()  # the top-level packages that import strings named: the user's


@contextmanager
def border(what: str | None) -> Iterator[None]:
    """Whatever is raised inside was raised by `what`; of several borders the innermost counts.

    The exception itself passes unchanged, so that a caller may expect some. None is no border.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        if what is not None:
            mark(error, what)
        raise


def mark(error: BaseException, what: str, made: str | None = None) -> None:
    """Name the border that an exception crosses, unless it crossed one before.

    `made` is the user's line that made the layer that raised it.
    """
    if not isinstance(error, CnntuneError) and not hasattr(error, CROSSED):
        setattr(error, CROSSED, what)
        setattr(error, MADE, made)


@contextmanager
def explaining() -> Iterator[None]:
    """Raise `explained(error)` in place of an exception that has an explanation."""
    try:
        yield
    except (Exception, SystemExit) as error:
        explanation = explained(error)
        if explanation is None or explanation is error:
            raise
        raise explanation from error


@contextmanager
def user_code(what: str) -> Iterator[None]:
    """A border whose exceptions are explained at once.

    Raises:
        UserCodeError: in place of what was raised, except for cnntune's own errors.
        OutOfMemoryError: where memory ran out.
    """
    with explaining(), border(what):
        yield


def explained(error: BaseException) -> CnntuneError | None:
    """An exception as the user reads it; None for a bug in cnntune.

    Explained are cnntune's own errors, memory or disk that ran out, and what crossed a border: the
    exception in a line, then the user's frames, innermost last. cnntune raises no SystemExit where
    this is asked, so that is the user's wherever it was raised.
    """
    if isinstance(error, CnntuneError):
        return error
    known = out_of_memory(error) or full_disk(error)
    if known is not None:
        return known
    what = getattr(error, CROSSED, UNNAMED if isinstance(error, SystemExit) else None)
    if what is None:
        return None
    lines = [f"{what}: {_in_a_line(error)}"]
    lines += [f"  {_shown(frame)}" for frame in _own_frames(error)]
    if advice := advice_on(str(error)):
        lines.append(f"  {advice}")
    made = getattr(error, MADE, None)
    if made is not None:
        lines.append(f"  the layer is made at {made}")
    return UserCodeError(lines)


def own_line(frame: FrameType | None) -> str | None:
    """The innermost line of the user's code that is being run, as errors show it, if any."""
    while frame is not None:
        if _is_own(frame):
            code = frame.f_code
            return _shown(traceback.FrameSummary(code.co_filename, frame.f_lineno, code.co_name))
        frame = frame.f_back
    return None


def _shown(frame: traceback.FrameSummary) -> str:
    return f"{frame.filename}:{frame.lineno} in {frame.name}: {frame.line}"


def _in_a_line(error: BaseException) -> str:
    message = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    if len(message) > MAX_MESSAGE:
        message = f"{message[:MAX_MESSAGE]} ..."
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _own_frames(error: BaseException) -> list[traceback.FrameSummary]:
    found = [
        traceback.FrameSummary(frame.f_code.co_filename, line, frame.f_code.co_name)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if _is_own(frame)
    ]
    if isinstance(error, SyntaxError) and error.filename and not _is_library(error.filename):
        found.append(traceback.FrameSummary(error.filename, error.lineno, "<module>"))
    return found


def _is_own(frame: FrameType) -> bool:
    """Whether the user wrote the code: a package that the recipe names, or nothing installed."""
    package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    if package in KNOWN:
        return False
    return package in named or not _is_library(frame.f_code.co_filename)


def _is_library(filename: str) -> bool:
    return filename.startswith(LIBRARIES) or any(folder in filename for folder in INSTALLED)
