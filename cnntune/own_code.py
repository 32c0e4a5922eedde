"""The user's own models, data and losses: found by import string, blamed for what they raise."""

import importlib
import inspect
import os
import re
import sys
import sysconfig
import traceback
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cnntune.errors import CnntuneError, RecipeError, UserCodeError
from cnntune.problems import did_you_mean
from cnntune.runs import read_json

LIBRARIES = ("<", str(Path(__file__).parent) + os.sep, sysconfig.get_paths()["stdlib"])


def code_folder(path: Path) -> Path:
    """Where the own modules of a recipe lie: beside it, or where its study remembers they did."""
    folder = path.resolve().parent
    about = read_json(folder.parent / "study.json") if path.suffix == ".json" else None
    return Path((about or {}).get("code", folder))


def add_code_folders(code: Path) -> None:
    """Let import strings find modules here and in `code`, after everything that is installed."""
    for folder in (Path.cwd(), code):
        if str(folder) not in sys.path:
            sys.path.append(str(folder))


def import_string(name: str) -> Callable[..., Any]:
    """The function that `"my_pkg.models:build"` names.

    Raises:
        RecipeError: where module or function do not exist.
        UserCodeError: where the module raises while it is imported.
    """
    module_name, colon, attribute = name.partition(":")
    if re.search(r"[/\\]|\.py$", module_name):
        dotted = re.sub(r"[/\\]+", ".", re.sub(r"\.py$", "", module_name)).strip(".")
        meant = f"; did you mean '{dotted}:{attribute or 'build'}'?"
        raise RecipeError(f"must be 'module:function', not a file (got {name!r}{meant})")
    if not (colon and module_name and attribute) or module_name.startswith("."):
        raise RecipeError(f"must be 'module:function' (got {name!r})")
    with user_code(f"importing {module_name}"):
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not module_name.startswith(error.name):
                raise
            raise RecipeError(
                f"no module {module_name!r} in the working directory or beside the recipe"
            ) from None
    function = getattr(module, attribute, None)
    if not _has_signature(function):
        public = [key for key, value in vars(module).items() if callable(value)]
        raise RecipeError(
            f"{module_name!r} has no function {attribute!r}{did_you_mean(attribute, public)}"
        )
    return typing.cast(Callable[..., Any], function)


def _has_signature(function: Any) -> bool:
    """Whether `function` can be called and says with what; some built-in types do not say."""
    try:
        return callable(function) and inspect.signature(function) is not None
    except ValueError:
        return False


@contextmanager
def user_code(doing: str) -> Iterator[None]:
    """Turn an exception that passed through own code into a traceback of the user's frames alone.

    Raises:
        UserCodeError: in place of what was raised, where a frame of it is the user's. An exception
            without such a frame is a bug of ours, and passes unchanged, as our own errors do.
    """
    try:
        yield
    except CnntuneError:
        raise
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if not _is_library(frame.filename)]
        if isinstance(error, SyntaxError) and error.filename and not _is_library(error.filename):
            own.append(traceback.FrameSummary(error.filename, error.lineno, "<module>"))
        own += _frames_of_worker(error)
        if not own:
            raise
        summary = _summary(error)
        lines = [f"{doing}: {type(error).__name__}: {summary}"]
        lines += [
            f"  {frame.filename}:{frame.lineno} in {frame.name}: {frame.line}" for frame in own
        ]
        raise UserCodeError(lines) from error


def _frames_of_worker(error: BaseException) -> list[traceback.FrameSummary]:
    """The user's frames in what a `DataLoader` worker raised: it sends its traceback as text."""
    if " in DataLoader worker process " not in str(error):
        return []
    found = re.findall(r'File "(.+)", line (\d+), in (\w+|<\w+>)', str(error))
    return [
        traceback.FrameSummary(file, int(line), name)
        for file, line, name in found
        if not _is_library(file)
    ]


def _summary(error: BaseException) -> str:
    """The first line of the message; of a worker's the last, as the first names the worker."""
    lines = str(error).splitlines() or [""]
    if " in DataLoader worker process " in lines[0]:
        return lines[-1].partition(": ")[2]
    return lines[0]


def _is_library(filename: str) -> bool:
    return filename.startswith(LIBRARIES) or "site-packages" in filename
