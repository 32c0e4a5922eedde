"""Lines of the user's code, and what a script raises."""

from __future__ import annotations

import functools
import json
import os
import sys
import traceback
import zlib
from typing import Any

from .seen import SEEN

MAX_FRAMES = 10  # of the user's, above an exception
FRAMEWORKS = {  # part of a path: name
    "/pytorch_lightning/": "lightning",
    "/lightning/pytorch/": "lightning",
    "/lightning/fabric/": "lightning-fabric",
    "/transformers/trainer": "transformers",
    "/ultralytics/": "ultralytics",
    "/fastai/": "fastai",
    "/accelerate/optimizer": "accelerate",
}
SITE_PACKAGES = ("site-packages", "dist-packages")
STDLIB = os.path.dirname(os.__file__) + os.sep
HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
PACKAGE = os.path.dirname(os.path.dirname(HERE[:-1])) + os.sep  # cnntune itself
_theirs: dict[str, bool] = {}


def is_theirs(path: str) -> bool:
    """Whether a file is the user's, and not Python's, a library's or this one."""
    known = _theirs.get(path)
    if known is None:
        known = not (
            any(word in path for word in SITE_PACKAGES)
            or path.startswith((STDLIB, "<", PACKAGE))
            or os.path.basename(path) in ("torchrun", "accelerate")
        )
        _theirs[path] = known
    return known


def place() -> str:
    """`train.py:57`: the innermost line of the user's that leads here, below the current folder."""
    frame = sys._getframe(1)
    while frame is not None:
        if is_theirs(frame.f_code.co_filename):
            return f"{short(frame.f_code.co_filename)}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


def caller() -> str:
    """The line that called the module or function, whoever wrote it."""
    frame = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if not path.startswith(HERE) and f"{os.sep}torch{os.sep}" not in path:
            return f"{os.path.basename(path)}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


def route() -> int:
    """A number for all lines of the user's that lead here."""
    frame, lines = sys._getframe(1), []
    while frame is not None:
        if is_theirs(frame.f_code.co_filename):
            lines.append(f"{frame.f_code.co_filename}:{frame.f_lineno}")
        frame = frame.f_back  # type: ignore[assignment]
    return zlib.crc32("\n".join(lines).encode())


@functools.cache
def short(path: str) -> str:
    """A path as the user would type it."""
    try:
        inside = os.path.relpath(path)
    except (ValueError, OSError):
        return os.path.basename(path)
    return os.path.basename(path) if inside.startswith("..") else inside


def framework() -> str:
    """The framework whose loop leads here; empty for a loop of the user's own."""
    frame = sys._getframe(1)
    found = ""
    while frame is not None:
        path = frame.f_code.co_filename.replace(os.sep, "/")
        for part, name in FRAMEWORKS.items():
            if part in path:
                found = name
        frame = frame.f_back  # type: ignore[assignment]
    return found


def crash(kind: Any, error: Any, trace: Any) -> dict[str, Any]:
    """The user's lines that an exception passed, and what it says."""
    frames = [
        f"{short(frame.filename)}:{frame.lineno}: {frame.line}".rstrip(": ")
        for frame in traceback.extract_tb(trace)
        if frame.filename == "<string>" or is_theirs(frame.filename)
    ]
    return {
        "frames": frames[-MAX_FRAMES:],
        "error": "".join(traceback.format_exception_only(kind, error)).rstrip(),
    }


def note_crash(kind: Any, error: Any, trace: Any) -> None:
    """Write down what ends the script."""
    if issubclass(kind, Exception):
        path = os.path.join(SEEN.folder, f"crash-{os.getpid()}.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(crash(kind, error, trace), file)
