"""How much time is left: one deadline for all that a command does."""

import time
from dataclasses import dataclass


class OutOfTimeError(Exception):
    """Work stopped at a deadline; the code that set the deadline catches it."""


@dataclass(frozen=True)
class Deadline:
    """A moment after which nothing is trained, in seconds of `time.monotonic`; None: never.

    The clock is that of the machine, so a deadline may be sent to another process on it.
    """

    at: float | None = None

    @classmethod
    def after(cls, seconds: float | None) -> "Deadline":
        """`seconds` from now."""
        return cls(None if seconds is None else time.monotonic() + seconds)

    @property
    def seconds_left(self) -> float | None:
        """Never below 0; None without a limit."""
        return None if self.at is None else max(0.0, self.at - time.monotonic())

    @property
    def passed(self) -> bool:
        """Whether it has passed."""
        return self.at is not None and time.monotonic() >= self.at

    def before(self, seconds: float) -> "Deadline":
        """One that is so many seconds earlier."""
        return self if self.at is None else Deadline(self.at - seconds)

    def share(self, part: float) -> "Deadline":
        """An earlier one, after `part` (0..1) of the time that is left."""
        left = self.seconds_left
        return self if left is None else Deadline.after(part * left)


NEVER = Deadline()
