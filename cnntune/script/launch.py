"""Starts a command so that it is observed, and leaves nothing of it behind."""

import os
import signal
import subprocess
import tempfile
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from cnntune.errors import ScriptError
from cnntune.script import record as records
from cnntune.script.record import Crash, Record

HERE = Path(__file__).parent
LAST_LINES = 20  # of what the command printed, where it ended too early
GRACE_SECONDS = 10.0  # after the time limit, for a process that is in none of our hooks
CLOSE_SECONDS = 2.0  # for processes that were asked to end, before they are killed
RUN = "CNNTUNE_RUN"  # marks the processes of a command, also those in a session of their own
TRACKERS = {  # no observed run is uploaded or logged
    "WANDB_MODE": "disabled",
    "NEPTUNE_MODE": "debug",
    "CLEARML_OFFLINE_MODE": "1",
    "COMET_START_MODE": "offline",
}


@dataclass(frozen=True)
class Observed:
    """A command that was run."""

    records: Sequence[Record]
    code: int | None  # its exit code; None where the time was over
    tail: Sequence[str]  # its last lines
    pythons: int  # processes of Python that could have been observed
    crash: Crash | None = None  # what ended it


def run(
    words: Sequence[str],
    *,
    steps: int,
    timeout: float | None,
    full: bool,
    show: Callable[[bytes], object],
) -> Observed:
    """Run a command without a shell, and read what was seen in its processes.

    `show` gets what the command prints, stdout and stderr together. `timeout` is in seconds.

    Raises:
        ScriptError: where it cannot be started.
    """
    with tempfile.TemporaryDirectory(prefix="cnntune-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        token = uuid.uuid4().hex
        added = settings(os.environ, folder, steps=steps, timeout=timeout, full=full, token=token)
        code = None
        with started(words, added, show) as command, suppress(subprocess.TimeoutExpired):
            code = command.process.wait(None if timeout is None else timeout + GRACE_SECONDS)
        return Observed(
            records.read(folder), code, command.last_lines(), pythons(folder), records.crash(folder)
        )


@dataclass(frozen=True)
class Started:
    """A command that runs, or has run."""

    process: subprocess.Popen[bytes]
    tail: deque[bytes]

    def last_lines(self) -> list[str]:
        """The last lines that it printed."""
        return [line.decode("utf-8", "replace").rstrip() for line in list(self.tail)]


@contextmanager
def started(
    words: Sequence[str], added: Mapping[str, str], show: Callable[[bytes], object]
) -> Iterator[Started]:
    """Start a command with some settings; all its processes end with the block.

    Raises:
        ScriptError: where it cannot be started.
    """
    process = _start(words, {**os.environ, **added})
    tail: deque[bytes] = deque(maxlen=LAST_LINES)
    assert process.stdout is not None
    reader = threading.Thread(
        target=_read, args=(process.stdout, show, tail), name="output", daemon=True
    )
    reader.start()
    try:
        yield Started(process, tail)
    finally:
        _end(process, added[RUN])
        reader.join(CLOSE_SECONDS)  # a process that left us may hold the pipe open


def pythons(folder: Path) -> int:
    """How many processes of Python could have been observed."""
    return len(list(folder.glob("python-*")))


def settings(
    environment: Mapping[str, str],
    folder: Path,
    *,
    steps: int,
    timeout: float | None,
    full: bool,
    token: str,
) -> dict[str, str]:
    """What is added to the environment of the command."""
    path = environment.get("PYTHONPATH")
    added = {
        "PYTHONPATH": os.pathsep.join([str(HERE / "site"), *([path] if path else [])]),
        "PYTHONUNBUFFERED": "1",
        "TORCHDYNAMO_DISABLE": "1",  # compiled functions have no hooks
        "CNNTUNE_OBSERVER": str(HERE / "observer" / "__init__.py"),
        "CNNTUNE_OUT": str(folder),
        "CNNTUNE_STEPS": str(steps),
        RUN: token,
    }
    if timeout is not None:
        added["CNNTUNE_DEADLINE"] = str(time.time() + timeout)
    if full:
        added["CNNTUNE_FULL"] = "1"
    else:
        added |= TRACKERS
        added["MLFLOW_TRACKING_URI"] = (folder / "mlflow").as_uri()
    return added


def _start(words: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(words),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise ScriptError(f"{words[0]}: cannot be started: {error.strerror}") from None


def _read(stream: IO[bytes], show: Callable[[bytes], object], tail: deque[bytes]) -> None:
    """Pass on what the command prints, line by line; bars that are drawn over each other too."""
    for line in stream:
        tail.append(line.split(b"\r")[-1] if line.rstrip() else line)
        with suppress(OSError, ValueError):  # nobody reads it any more
            show(line)


def _end(process: subprocess.Popen[bytes], token: str) -> None:
    """End all processes of the command, also those that outlived it."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        _send(process, token, sign)
        until = time.monotonic() + CLOSE_SECONDS
        while time.monotonic() < until and (process.poll() is None or marked(token)):
            time.sleep(0.02)
        if process.poll() is not None and not marked(token):
            return


def _send(process: subprocess.Popen[bytes], token: str, sign: signal.Signals) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, sign)
    for pid in marked(token):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, sign)


def marked(token: str) -> list[int]:
    """The processes of a run, by their environment; only Linux tells it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if f"{RUN}={token}".encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found
