"""`log.txt` of a study: what its commands did and when, for the morning after."""

import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cnntune.runs.study import without_password

LOG = "log.txt"
MAX_PENDING = 1000  # lines that are kept while they cannot be written


@dataclass
class EventLog:
    """One appended line per event: time, process, device, and what happened.

    It never makes a command fail and never makes a folder: what cannot be written now is written
    with the next event. `show` receives each line too.
    """

    show: Callable[[str], None] | None = None
    path: Path | None = None
    device: str = "-"
    pending: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_PENDING))

    def open(self, study: Path, device: str) -> None:
        """Begin to write to the log of a study; events before that are dropped."""
        self.path, self.device = study / LOG, device

    def write(self, event: str) -> None:
        """Append an event, on one line whatever it contains."""
        if self.path is None:
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        text = " | ".join(filter(None, map(str.strip, without_password(event).splitlines())))
        line = f"{now}  pid {os.getpid()}  {self.device}  {text}"
        if self.show is not None:
            self.show(line)
        self.pending.append(f"{line}\n")
        lines = "".join(self.pending).encode(errors="backslashreplace")
        try:  # in one call, since the commands of several processes append here
            file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                os.write(file, lines)
            finally:
                os.close(file)
        except OSError:
            return
        self.pending.clear()
