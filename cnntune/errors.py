"""The exceptions of cnntune, all of which the user can fix.

CnntuneError              one line per problem, exit code 2
├── RecipeError           a recipe, a --set or an option that cannot be used
├── DataError             images, labels or logs that cannot be read
├── DeviceError           a device or an installation that is missing
├── StudyError            a study folder in the wrong state
├── OutOfMemoryError      not enough memory, on any device
├── ScriptError           a command that cannot be started or observed
└── UserCodeError         an exception in the user's model, data or loss code

`kind` is machine-readable: `error_kind` in the `summary.json` of a trial that failed.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any


class CnntuneError(Exception):
    """One or more problems that the user can fix; `lines` holds one line per problem.

    `document` holds further keys of the command's JSON document.
    """

    kind = "user-error"
    document: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.lines = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.lines))

    def __reduce__(self) -> tuple[type["CnntuneError"], tuple[list[str]]]:
        return type(self), (self.lines,)  # workers send exceptions as pickles


class RecipeError(CnntuneError):
    """A recipe, a `--set` or an option that cannot be used."""

    kind = "recipe"


class DataError(CnntuneError):
    """Images, labels or logs that cannot be read."""

    kind = "data"


class DeviceError(CnntuneError):
    """A device that this machine lacks, or incompatible libraries."""

    kind = "device"


class StudyError(CnntuneError):
    """A study folder that is missing, locked, or holds another recipe."""

    kind = "study"


class ScriptError(CnntuneError):
    """A training script that cannot be started, or in which nothing was seen."""


class OutOfMemoryError(CnntuneError):
    """Not enough memory, on any device."""

    kind = "out-of-memory"


class UserCodeError(CnntuneError):
    """An exception in the user's model, data or loss code."""

    kind = "user-code"
