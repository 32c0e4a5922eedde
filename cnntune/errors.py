"""What can go wrong, as seen by the person at the terminal.

CnntuneError              one line a problem, exit code 2
├── RecipeError           a recipe, a --set or an option that cannot be used
├── DataError             images, labels or logs that cannot be read
├── DeviceError           a device or an installation that is not there
├── StudyError            a study folder in the wrong state
├── OutOfMemoryError      memory that could not be had, on any device
└── UserCodeError         an exception inside the user's own model, data or loss

`kind` is a word for programs: `error_kind` in the `summary.json` of a trial that failed.
"""

from collections.abc import Iterable


class CnntuneError(Exception):
    """A problem that the user can mend. `lines` holds one line for each."""

    kind = "user-error"

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.lines = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.lines))

    def __reduce__(self) -> tuple[type["CnntuneError"], tuple[list[str]]]:
        return type(self), (self.lines,)  # as it is sent from a worker


class RecipeError(CnntuneError):
    """A recipe, a `--set` or an option that cannot be used."""

    kind = "recipe"


class DataError(CnntuneError):
    """Images, labels or logs that cannot be read."""

    kind = "data"


class DeviceError(CnntuneError):
    """A device that this machine lacks, or libraries that do not fit each other."""

    kind = "device"


class StudyError(CnntuneError):
    """A study folder that is missing, busy, or holds another recipe."""

    kind = "study"


class OutOfMemoryError(CnntuneError):
    """Memory that could not be had, on any device."""

    kind = "out-of-memory"


class UserCodeError(CnntuneError):
    """An exception inside the user's own model, data or loss code."""

    kind = "user-code"
