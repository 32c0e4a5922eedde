"""Run cnntune as its users do: in a process of its own, or, much quicker, in this one."""

import contextlib
import functools
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, Self

import pytest
import torch
import typer

from cnntune import cli
from cnntune.machine.clock import NEVER, Deadline
from cnntune.workers.pool import Event, Job
from cnntune.workers.worker import Trainer

CNNTUNE = (sys.executable, "-W", "error", "-m", "cnntune")  # a warning at run time is a bug
HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
built_once = functools.cache(typer.main.get_command)  # a process of a user builds it once too
PATIENCE_SECONDS = 300  # for a process that hangs; none of them needs a tenth of it


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """All of stdout as one document of strict JSON."""
        document: dict[str, Any] = json.loads(self.out, parse_constant=_refuse)
        return document


def _refuse(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is not JSON")


def run(*words: str, cwd: Path, **environment: str) -> Outcome:
    """`cnntune words...` in a process of its own."""
    done = subprocess.run(
        [*CNNTUNE, *words],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def call(*words: str, cwd: Path) -> Outcome:
    """`cnntune words...` in this process, its trials too: importing torch costs seconds each time.

    What the command changes in the process is put back, and own code in `cwd` is forgotten.
    """
    out, err = io.StringIO(), io.StringIO()
    threads = torch.get_num_threads()
    handlers = {number: signal.getsignal(number) for number in HANDLED}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["cnntune", *words])
        patch.setattr(sys, "path", [*sys.path])
        patch.setattr("typer.main.get_command", built_once)
        patch.setattr("cnntune.study.coordinator.run_jobs", one_after_the_other)
        patch.setattr("cnntune.steps.refine.run_jobs", one_after_the_other)
        patch.setattr("cnntune.steps.prove.run_jobs", one_after_the_other)
        patch.chdir(cwd)
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as end,
        ):
            cli.main()
    torch.set_num_threads(threads)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    inside = str(cwd.resolve())
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(inside):
            del sys.modules[name]
    assert isinstance(end.value.code, int)
    return Outcome(end.value.code, out.getvalue(), err.getvalue())


def one_after_the_other(
    next_job: Callable[[], Job | None],
    *,
    workers: int,
    devices: Sequence[str],
    deadline: Deadline = NEVER,
) -> Iterator[Event]:
    """`run_jobs` without worker processes."""
    trainer = Trainer(torch.device(devices[0]))
    again: list[Job] = []
    while job := (again.pop() if again else next_job()):
        if not job.alone:
            yield Event(job)
        for event in trainer.train(job):
            if event.again:
                again.append(replace(job, alone=True))
            else:
                yield event
            if deadline.passed:
                return


QUICK = ("--set", "data.size=300", "--set", "model.width=8", "--set", "model.depth=2")
COMMANDS = {
    "sanity": ("sanity", *QUICK),
    "lr-sweep": ("lr-sweep", *QUICK),
    "search": ("search", *QUICK, "--budget", "4", "--workers", "2"),
    "refine": ("refine", "--budget", "2", "--epochs", "4", "--seeds", "2", "--workers", "2"),
    "diagnose": ("diagnose", "runs"),
    "train": ("train", "runs/digits/trial-0000/config.json"),
    "report": ("report",),
}


@dataclass(frozen=True)
class Workflow:
    """A folder in which every command has run once, with `--json`."""

    folder: Path
    outcomes: dict[str, Outcome]

    def document(self, command: str) -> dict[str, Any]:
        return self.outcomes[command].document

    def stored(self) -> dict[str, dict[str, Any]]:
        return {name: asdict(outcome) for name, outcome in self.outcomes.items()}

    @classmethod
    def read(cls, folder: Path, stored: dict[str, dict[str, Any]]) -> Self:
        return cls(folder, {name: Outcome(**fields) for name, fields in stored.items()})


def worked_through(folder: Path, go: Callable[..., Outcome]) -> Workflow:
    """Run every command in a new folder: `go` is `call` or `run`."""
    folder.mkdir()
    ended = {name: go(*words, "--json", cwd=folder) for name, words in COMMANDS.items()}
    return Workflow(folder, ended)


def rows(run_folder: Path) -> list[str]:
    """The lines of a run's `metrics.csv` without the seconds, which no seed can fix."""
    lines = (run_folder / "metrics.csv").read_text().splitlines()
    assert lines[0].endswith(",seconds")
    return [line.rpartition(",")[0] for line in lines[1:]]
