"""Trial processes: long-lived, one training run at a time, fed and read over a pipe.

The coordinator alone decides and records; a worker trains, writes the run's folder and sends each
epoch. A worker outlives its trials, since importing torch costs seconds and a trial may not.
"""

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from cnntune.clock import NEVER, Deadline
from cnntune.errors import CnntuneError
from cnntune.lifeline import start
from cnntune.recipe import Recipe
from cnntune.runs import Epoch, Run

SERVE = "cnntune.trainer:serve"  # by name: it imports torch, which only the workers need
DEATHS = 5  # of workers over one trial without a further epoch: then the trial is what kills them
OUT_OF_MEMORY = "out of memory"


@dataclass(frozen=True)
class Job:
    """One training run: what to train, the folder that takes it, and up to which epoch.

    A run that pauses goes on with a further job of the same folder.
    """

    number: int
    recipe: Recipe
    folder: Path
    until: int | None = None  # the end of the run if left out

    @property
    def whole(self) -> bool:
        """Whether the job ends with the run."""
        return self.until is None or self.until >= self.recipe.train.epochs


@dataclass(frozen=True)
class Event:
    """News of a job: that it began, a row after each epoch, and at the end what it came to.

    `epoch` is None in the first and the last event of a job; `summary` is None but in the last. A
    job that ends before its run has a row with `paused` as its last event.
    """

    job: Job
    epoch: Epoch | None = None
    summary: dict[str, Any] | None = None
    paused: bool = False


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    place: str  # the device it computes on
    job: Job | None = None
    held: Path | None = None  # the folder of the paused run that it could go on with at once


def run_jobs(
    next_job: Callable[[], Job | None],
    *,
    workers: int,
    places: Sequence[str],
    deadline: Deadline = NEVER,
) -> Iterator[Event]:
    """Train jobs on `workers` processes and yield what happens, as it happens.

    `places` names the devices, which take the workers in turn.

    `next_job` is asked whenever a worker is free and the caller has seen every event before; None
    means that there is nothing to do until something else happens. The iterator ends when nothing
    is left to happen. A worker that dies is replaced, and its job taken up again where its run
    stopped; a job over which workers die again and again fails. The deadline, and closing the
    iterator, end the workers at once; their unfinished runs have no `summary.json` and go on from
    their last finished epoch when they are given out again.
    """
    pool: list[_Worker] = []
    deaths: dict[Path, int] = {}
    again: list[Job] = []
    try:
        while True:
            while sum(worker.job is not None for worker in pool) < workers:
                job = again.pop() if again else next_job()
                if job is None:
                    break
                _give(job, pool, places)
                yield Event(job)
            busy = {worker.pipe: worker for worker in pool if worker.job}
            if not busy:
                return
            for pipe in connection.wait(list(busy), deadline.seconds_left):
                worker = busy[pipe]  # type: ignore[index]
                job = worker.job
                assert job is not None  # only busy workers are waited for
                event = _receive(worker)
                if event is None:
                    pool.remove(worker)
                    deaths[job.folder] = deaths.get(job.folder, 0) + 1
                    if deaths[job.folder] < DEATHS:
                        again.append(job)
                        continue
                    event = _killed(worker, job)
                elif event.epoch is not None:
                    deaths.pop(job.folder, None)
                yield event
            if deadline.passed:
                return
    finally:
        for worker in pool:
            worker.process.kill()
        for worker in pool:
            worker.process.join()
            worker.pipe.close()


def in_order(jobs: Iterable[Job]) -> Callable[[], Job | None]:
    """Jobs that are known beforehand, as `run_jobs` asks for them."""
    waiting = iter(jobs)
    return lambda: next(waiting, None)


def _give(job: Job, pool: list[_Worker], places: Sequence[str]) -> None:
    """Send the job to the worker that holds its run, to another free one, or to a new one."""
    free = [worker for worker in pool if worker.job is None]
    free.sort(key=lambda worker: (worker.held != job.folder, worker.held is not None))
    if not free:
        place = emptiest(places, [worker.place for worker in pool])
        free = [_Worker(*start(SERVE, place), place)]
        pool.append(free[0])
    free[0].job = job
    with suppress(OSError):  # it died between jobs; reading its pipe will tell
        free[0].pipe.send(job)


def emptiest(places: Sequence[str], taken: Sequence[str]) -> str:
    """The device that fewest workers have taken, the first of several."""
    return min(places, key=taken.count)


def _receive(worker: _Worker) -> Event | None:
    """The next event of a busy worker, or None where it died.

    Raises:
        StudyError: where the worker cannot write.
    """
    try:
        event: Event | CnntuneError = worker.pipe.recv()
    except (EOFError, ConnectionResetError):
        worker.process.join()
        worker.pipe.close()
        return None
    if isinstance(event, CnntuneError):
        raise event
    if event.summary is not None or event.paused:
        worker.job = None
        worker.held = event.job.folder if event.paused else None
    return event


def _killed(worker: _Worker, job: Job) -> Event:
    """The end of a job over which workers died."""
    code = worker.process.exitcode
    error = f"the worker process died {DEATHS} times (exit code {code})"
    if code == -signal.SIGKILL:
        error += "; the system kills processes when memory runs out"
    summary = failure(error)
    Run(job.folder).finish(summary)
    return Event(job, summary=summary)


def failure(error: str) -> dict[str, Any]:
    """The summary of a run that could not be trained."""
    return {"status": "failed", "epochs": 0, "best_epoch": None, "error": error}
