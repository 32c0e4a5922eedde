"""A command that runs to its own end, as one trial of a search, in a folder of its own.

trial-0007/
work/                the working directory of the command
stdout.txt           what it prints
stderr.txt
"""

import ctypes
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cnntune.errors import ScriptError
from cnntune.runs.run import WORK
from cnntune.script.launch import CLOSE_SECONDS, HERE, LAST_LINES, RUN, marked

STDOUT, STDERR = "stdout.txt", "stderr.txt"
OVERRIDES = ".overrides"  # the folder in which a script says that a value of it was replaced
TRACEBACK = "Traceback (most recent call last):"
MAX_TRACEBACK = 60  # lines; of a longer one the middle is left out
TAIL_BYTES = 100_000  # of what was printed, in which the last lines are
SET_PDEATHSIG = 1  # of prctl(2), Linux
LEARNING_RATE = "train.lr"
# What says that a file is missing, in Python, libraries and shells; then what may be its name.
MISSING = re.compile(
    r"no such file|not a directory|unable to (?:find|open)|n[o']t (?:exist|find|found|open)",
    re.IGNORECASE,
)
PATH = re.compile(r"[^\s'\"`:;,()\[\]{}<>=]+")


def absolute(word: str, folder: Path) -> str:
    """A word of a command that names a file there, such as `train.py`, as it is from elsewhere.

    Also what follows the `=` of `--data=data/train.csv`. A word without a suffix or a separator,
    such as `cifar10`, may be a name and no folder: it stays as it is.
    """
    option, equals, value = word.partition("=")
    if equals and option.startswith("-"):
        return f"{option}={absolute(value, folder)}"
    if os.sep not in word and not Path(word).suffix:
        return word
    path = folder / word
    return str(path) if not Path(word).is_absolute() and path.exists() else word


def check_startable(word: str, folder: Path) -> None:
    """Check that the first word of a command is a program, before anything is made for trials.

    Raises:
        ScriptError: where there is none.
    """
    if shutil.which(absolute(word, folder)) is None:
        reason = "cannot be executed" if (folder / word).is_file() else "no such program"
        raise ScriptError(f"{word}: cannot be started: {reason}")


def mark_of(folder: Path) -> str:
    """The mark in the environment of all processes of a trial; it begins with that of its study."""
    return f"{study_mark(folder.parent)}-{_digest(folder)}"


def study_mark(study: Path) -> str:
    """How the marks of all trials directly in a folder begin."""
    return _digest(study)


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]


def end_marked(mark: str) -> None:
    """End all processes with this mark, those first that it finds, and wait until they are gone."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        for pid in marked(mark):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, sign)
        until = time.monotonic() + CLOSE_SECONDS
        while time.monotonic() < until:
            if not marked(mark):
                return
            time.sleep(0.02)


@dataclass
class RunningCommand:
    """A command that was started, and the folder of its trial."""

    process: subprocess.Popen[bytes]
    folder: Path
    begun: float  # seconds, of `time.monotonic`

    @classmethod
    def start(
        cls,
        words: Sequence[str],
        folder: Path,
        *,
        home: Path,
        here: bool,
        device: str,
        overrides: Mapping[str, object],
    ) -> "RunningCommand":
        """Run `words` without a shell in `folder/work`, which is made anew, or in `home` if `here`.

        `home` is where the command was typed: modules are found there too. `device` is as in
        `environment`; `overrides` are set inside the script.

        Raises:
            ScriptError: where it cannot be started.
        """
        end_marked(mark_of(folder))  # of an earlier attempt whose end nobody saw
        work = folder / WORK
        for old in (work, folder / OVERRIDES):
            if old.exists():
                shutil.rmtree(old)
        work.mkdir(parents=True)
        added = environment(os.environ, home=home, device=device)
        added[RUN] = mark_of(folder)
        if overrides:
            (folder / OVERRIDES).mkdir()
            added |= _observed(added, folder / OVERRIDES, overrides)
        with (folder / STDOUT).open("wb") as out, (folder / STDERR).open("wb") as err:
            try:
                process = subprocess.Popen(
                    [absolute(word, home) for word in words],
                    cwd=home if here else work,
                    env={**os.environ, **added},
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,
                    preexec_fn=_end_with_parent
                    if _LIBC is not None
                    else None,  # one thread beside ours, which holds no lock
                )
            except OSError as error:
                raise ScriptError(f"{words[0]}: cannot be started: {error.strerror}") from None
        return cls(process, folder, time.monotonic())

    @property
    def code(self) -> int | None:
        """The exit code; None while it runs."""
        return self.process.poll()

    @property
    def printed(self) -> list[Path]:
        """The files with what it prints."""
        return [self.folder / STDOUT, self.folder / STDERR]

    @property
    def work(self) -> Path:
        """Its working directory."""
        return self.folder / WORK

    @property
    def overridden(self) -> bool:
        """Whether the script had what was to be replaced."""
        return any((self.folder / OVERRIDES).glob("*.txt"))

    def end(self) -> None:
        """End it and all its processes, also those that outlived it."""
        if self.process.poll() is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(CLOSE_SECONDS)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        end_marked(mark_of(self.folder))


def environment(present: Mapping[str, str], *, home: Path, device: str) -> dict[str, str]:
    """What is added to the environment of a command.

    `device` is `gpu:3` for one GPU (an entry of CUDA_VISIBLE_DEVICES), `cpu` for none, and empty
    where the command sees what we see.
    """
    path = present.get("PYTHONPATH")
    added = {
        "PYTHONPATH": os.pathsep.join([str(home), *([path] if path else [])]),
        "PYTHONUNBUFFERED": "1",  # its metrics are read while it runs
    }
    if device == "cpu":
        added["CUDA_VISIBLE_DEVICES"] = ""
    elif device:
        added["CUDA_VISIBLE_DEVICES"] = device.partition(":")[2]
    return added


def _observed(
    added: Mapping[str, str], folder: Path, overrides: Mapping[str, object]
) -> dict[str, str]:
    """What loads `override.py` inside the script's Python."""
    return {
        "PYTHONPATH": os.pathsep.join([str(HERE / "site"), added["PYTHONPATH"]]),
        "CNNTUNE_OBSERVER": str(HERE / "override.py"),
        "CNNTUNE_OUT": str(folder),
        "CNNTUNE_LR": str(overrides[LEARNING_RATE]),
    }


def last_lines(folder: Path) -> list[str]:
    """What a command printed last: a traceback from its beginning, else its last lines."""
    for name in (STDERR, STDOUT):
        lines = _lines(folder / name)
        starts = [at for at, line in enumerate(lines) if line.strip().endswith(TRACEBACK)]
        if starts:
            return _without_middle(lines[starts[-1] :])
        if lines:
            return lines[-LAST_LINES:]
    return []


def _lines(path: Path) -> list[str]:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        text = file.read().decode("utf-8", "replace")
    lines = [line.rstrip().split("\r")[-1] for line in text.split("\n")]
    return [line for line in lines if line.strip()]


def _without_middle(lines: list[str]) -> list[str]:
    """The user's own frames are at the beginning of a traceback, the error at its end."""
    if len(lines) <= MAX_TRACEBACK:
        return lines
    half = MAX_TRACEBACK // 2
    left = len(lines) - 2 * half
    return [*lines[:half], f"  ... {left} more lines ...", *lines[-half:]]


def found_at_home(lines: Sequence[str], work: Path, home: Path) -> str | None:
    """A path that a script missed in its working directory `work`, and that `home` has.

    It stands in the lines that it printed last. Where it was about to write `out/model.pt`, it may
    be the folder `out` that is missing.
    """
    for line in lines:
        if MISSING.search(line):
            for named in PATH.findall(line):
                path = Path(named)
                if path.is_absolute() and path.is_relative_to(work):
                    path = path.relative_to(work)
                for one in (path, path.parent):
                    if _only_at_home(one, work, home):
                        return str(one)
    return None


def _only_at_home(path: Path, work: Path, home: Path) -> bool:
    if path.is_absolute() or not path.name or ".." in path.parts:
        return False
    try:
        return (home / path).exists() and not (work / path).exists()
    except OSError:  # no name of a file, such as one that is too long
        return False


def gpus(present: Mapping[str, str]) -> list[str]:
    """The GPUs that a command could use, as entries of CUDA_VISIBLE_DEVICES.

    By the driver's own tool: the script's torch may be another one than ours.
    """
    if "CUDA_VISIBLE_DEVICES" in present:
        return [one for one in present["CUDA_VISIBLE_DEVICES"].split(",") if one.strip()]
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    answer = subprocess.run([tool, "-L"], capture_output=True, text=True, check=False, timeout=30)
    count = sum(line.startswith("GPU ") for line in answer.stdout.splitlines())
    return [str(number) for number in range(count)] if answer.returncode == 0 else []


def _libc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    with suppress(OSError):
        return ctypes.CDLL(None, use_errno=True)
    return None


_LIBC = _libc()  # before a fork, after which nothing may be imported


def _end_with_parent() -> None:
    """In the new process: the kernel kills it when the worker that started it ends."""
    assert _LIBC is not None
    _LIBC.prctl(SET_PDEATHSIG, signal.SIGKILL)
