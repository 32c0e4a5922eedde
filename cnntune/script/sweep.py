"""Has learning rates tried in the loop of a command, which `sweeper.py` does inside its process.

They exchange files in a folder: `ready.json` once the script is at its first step, `try-NAME.json`
for what is to be tried, `curve-NAME.jsonl` and `done-NAME.json` for what came of it.
"""

import json
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cnntune.errors import ScriptError
from cnntune.script import launch
from cnntune.script import record as records
from cnntune.script.launch import Observed

RERUN, REWIND, FORK = "rerun", "rewind", "fork"
POLL_SECONDS = 0.01
SAME_START = 1e-4  # of the loss: the first losses of runs that begin alike differ by less
GONE = "the process ended"
EARLY = 3  # losses; a fork that ends before is one that the script does not survive


@dataclass(frozen=True)
class Asked:
    """A learning rate to try; `repeat` 0 has the script's own seeds, each other one further."""

    lr: float
    repeat: int
    iterations: int


@dataclass(frozen=True)
class Tried:
    """What came of it."""

    asked: Asked
    losses: Sequence[float]  # one per step; the last may be NaN
    end: str  # done, ended (the script), time, `error: ...`, or GONE
    seconds: float = 0.0
    batches: Sequence[Sequence[int]] = ()  # fingerprints per step of what the loaders gave
    inputs: Sequence[Sequence[int]] = ()  # of what entered networks
    draws: Sequence[Sequence[int]] = ()  # and of the probabilities that something was drawn from
    warm_up: bool = False  # the learning rate of the script would have risen
    own_losses: int = 0  # optimizers that step on another loss
    index: int = 0  # in its process


@dataclass(frozen=True)
class Ready:
    """The loop, as its first step showed it."""

    method: str
    why: str  # not a fork
    optimizer: str
    at: str
    lr: float  # the script's own
    has_lr: bool
    framework: str


class NotReadyError(ScriptError):
    """The command ended, or its time was over, before the first step of an optimizer."""

    def __init__(self, observed: Observed, *, torch: bool) -> None:
        super().__init__(["no step of an optimizer"])
        self.observed, self.torch = observed, torch


class Run:
    """One process of the command, which waits at its first step for what is to be tried.

    Raises:
        NotReadyError: where it never comes to that step.
        ScriptError: where it cannot be started, or has no learning rate that can be set.
    """

    def __init__(self, sweep: "Sweep", first: Asked) -> None:
        self.seconds = sweep.seconds
        self.stack = ExitStack()
        folder = tempfile.TemporaryDirectory(prefix="cnntune-", ignore_cleanup_errors=True)
        self.folder = Path(self.stack.enter_context(folder))
        self.asked: list[Asked] = []
        self.heard = time.monotonic()  # of it, for the last time
        try:
            self.command = self.stack.enter_context(
                launch.started(sweep.words, self._settings(sweep, first), sweep.show)
            )
            self.ready = self._ready()
        except BaseException:
            self.close()
            raise

    def _settings(self, sweep: "Sweep", first: Asked) -> dict[str, str]:
        added = launch.settings(
            os.environ,
            self.folder,
            steps=first.iterations,
            timeout=None,
            full=False,
            token=uuid.uuid4().hex,
        )
        return added | {
            "CNNTUNE_OBSERVER": str(launch.HERE / "sweeper.py"),
            "CNNTUNE_REPEAT": str(first.repeat),
            "CNNTUNE_TRY": json.dumps(_document(0, first)),
            "CNNTUNE_SECONDS": str(sweep.seconds),
            "CNNTUNE_PROCESSES": str(sweep.processes),
            "CNNTUNE_METHOD": sweep.method,
            "CNNTUNE_DRIVER": str(os.getpid()),
            "PYTHONHASHSEED": os.environ.get("PYTHONHASHSEED", "0"),
        }

    def _ready(self) -> Ready:
        path = self.folder / "ready.json"
        while not path.exists():
            if self.is_over():
                code = self.command.process.poll()
                torch = any(self.folder.glob("torch-*"))
                pythons, crash = launch.pythons(self.folder), records.crash(self.folder)
                self.close()  # by then its last lines have been read
                lines = self.command.last_lines()
                raise NotReadyError(Observed([], code, lines, pythons, crash), torch=torch)
            time.sleep(POLL_SECONDS)
        document = json.loads(path.read_text(encoding="utf-8"))
        self.heard = time.monotonic()
        if "error" in document:
            raise ScriptError(f"the loop cannot be continued: {document['error']}")
        found = Ready(**document)
        if not found.has_lr:
            raise ScriptError(f"{found.at}: {found.optimizer} has no learning rate `lr` to set")
        return found

    def ask(self, asked: Asked) -> None:
        """Have a learning rate tried, after those that were asked for before."""
        index = len(self.asked)
        self.asked.append(asked)
        path = self.folder / f"try-{index:04d}.json"
        path.with_suffix(".new").write_text(json.dumps(_document(index, asked)), encoding="utf-8")
        path.with_suffix(".new").replace(path)

    def wait_for(self, index: int) -> Tried:
        """What came of the learning rate of this number.

        Raises:
            ScriptError: where its process ended before one step with it.
        """
        path = self.folder / f"done-{index:04d}.json"
        while not path.exists() and not self.is_over():
            time.sleep(POLL_SECONDS)
        self.heard = time.monotonic()
        document: dict[str, Any] = {"end": "time" if self.command.process.poll() is None else GONE}
        if path.exists():
            document = json.loads(path.read_text(encoding="utf-8"))
        found = _read(self.asked[index], self.folder / f"curve-{index:04d}.jsonl", document)
        return replace(found, index=index)

    def is_over(self) -> bool:
        """Whether the process has ended, or was not heard of for longer than a try may take."""
        late = time.monotonic() - self.heard > self.seconds + launch.GRACE_SECONDS
        return late or self.command.process.poll() is not None

    def close(self) -> None:
        """End all its processes."""
        self.stack.close()


def _document(index: int, asked: Asked) -> dict[str, Any]:
    return {"name": f"{index:04d}", "lr": asked.lr, "iterations": asked.iterations}


def _read(asked: Asked, curve: Path, document: Mapping[str, Any]) -> Tried:
    """A try from its files; a last line that was cut off is dropped."""
    lines = []
    for text in curve.read_text(encoding="utf-8").splitlines() if curve.exists() else ():
        with suppress(ValueError):
            lines.append(json.loads(text))
    return Tried(
        asked,
        [line["loss"] for line in lines],
        document["end"],
        seconds=document.get("seconds", 0.0),
        batches=[line["batches"] for line in lines],
        inputs=[line["inputs"] for line in lines],
        draws=[line["draws"] for line in lines],
        warm_up=document.get("warm_up", False),
        own_losses=document.get("own_losses", 0),
    )


class Sweep:
    """A command whose loop is run once per learning rate; leaves no process behind.

    `seconds` is the time of a learning rate, and of the script until its first step; `processes`
    how many are tried at a time where they can be; `method` one that is required.
    """

    def __init__(
        self,
        words: Sequence[str],
        *,
        seconds: float,
        processes: int,
        show: Callable[[bytes], object],
        method: str = "",
    ) -> None:
        self.words, self.seconds, self.processes = words, seconds, processes
        self.show, self.method = show, method
        self.ready: Ready | None = None  # as the first process was
        self.survived = False  # one fork has worked
        self.waiting: dict[int, Run] = {}  # repeat: its process

    def __enter__(self) -> "Sweep":
        return self

    def __exit__(self, *_error: object) -> None:
        for repeat in list(self.waiting):
            self._drop(repeat)

    def tried(self, asked: Sequence[Asked]) -> Iterator[Tried]:
        """Try several learning rates; those of one repeat come together, and in order.

        Raises:
            NotReadyError: where the script never comes to a first step.
            ScriptError: where its process ends without a step.
        """
        for repeat in dict.fromkeys(one.repeat for one in asked):
            todo = [one for one in asked if one.repeat == repeat]
            while todo:
                for found in self._together(todo):
                    todo.remove(found.asked)
                    yield found

    def _together(self, todo: Sequence[Asked]) -> Iterator[Tried]:
        """As many of them as one process can try."""
        repeat = todo[0].repeat
        run = self.waiting.get(repeat)
        if run is None:
            run = self.waiting[repeat] = Run(self, todo[0])
        self.ready = self.ready or run.ready
        batch = todo[:1] if run.ready.method == RERUN else todo
        start = len(run.asked)
        for one in batch:
            run.ask(one)
        for index in range(start, len(run.asked)):
            found = run.wait_for(index)
            if self._does_not_survive(run, found):
                break
            if run.ready.method == REWIND and found.end in (GONE, "ended") and index:
                break  # the script was over: what is left is tried in a new process
            if not found.losses and found.end == GONE:
                code = run.command.process.poll()
                raise ScriptError(f"the script ended with exit code {code} during the sweep")
            yield found
        if run.ready.method == RERUN or run.is_over():
            self._drop(repeat)

    def _does_not_survive(self, run: Run, found: Tried) -> bool:
        """Whether the first fork failed at once; the script is then started for each try."""
        if run.ready.method != FORK or self.survived:
            return False
        self.survived = len(found.losses) >= EARLY or found.end == "done"
        if self.survived:
            return False
        why = f"the fork ended after {len(found.losses)} steps ({found.end})"
        self.method = RERUN
        self.ready = replace(run.ready, method=RERUN, why=why)
        self._drop(found.asked.repeat)
        return True

    def _drop(self, repeat: int) -> None:
        run = self.waiting.pop(repeat, None)
        if run is not None:
            run.close()


def same_start(tried: Sequence[Tried], method: str) -> bool:
    """Whether the tries began alike: those of one repeat whose first losses were on one batch."""
    for repeat in {one.asked.repeat for one in tried}:
        firsts = [
            one.losses[0]
            for one in tried
            if one.asked.repeat == repeat and one.losses and (method != REWIND or one.index == 0)
        ]
        if firsts and max(firsts) - min(firsts) > SAME_START * abs(firsts[0]):
            return False
    return True
