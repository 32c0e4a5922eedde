"""Trial processes: long-lived, one training run at a time, fed and read over a pipe.

The coordinator alone decides and records; a worker trains, writes the run's folder and sends each
epoch. A worker outlives its trials, since importing torch costs seconds and a trial may not.
"""

import errno
import os
import shutil
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from cnntune.arithmetic import settle, use
from cnntune.build import build_model, load_data, with_defaults
from cnntune.data import Data
from cnntune.device import next_place
from cnntune.errors import CnntuneError, StudyError, UserCodeError
from cnntune.lifeline import start
from cnntune.own_code import user_code
from cnntune.recipe import Recipe
from cnntune.runs import Epoch, Run, best_epoch
from cnntune.train import train

DEATHS = 5  # of workers over one trial without a further epoch: then the trial is what kills them
OUT_OF_MEMORY = "out of memory"
DISK_FULL_BYTES = 2**16  # left: less than a checkpoint of the smallest network takes
GO_ON = "nothing is lost: free some space, and the same command goes on"


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
    device: torch.device
    job: Job | None = None
    held: Path | None = None  # the folder of the paused run that it could go on with at once


def run_jobs(
    next_job: Callable[[], Job | None], *, workers: int, device: torch.device
) -> Iterator[Event]:
    """Train jobs on `workers` processes and yield what happens, as it happens.

    `next_job` is asked whenever a worker is free and the caller has seen every event before; None
    means that there is nothing to do until something else happens. The iterator ends when nothing
    is left to happen. A worker that dies is replaced, and its job taken up again where its run
    stopped; a job over which workers die again and again fails. Closing the iterator ends the
    workers at once; their unfinished runs have no `summary.json`.
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
                _give(job, pool, device)
                yield Event(job)
            busy = {worker.pipe: worker for worker in pool if worker.job}
            if not busy:
                return
            for pipe in connection.wait(list(busy)):
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


def _give(job: Job, pool: list[_Worker], device: torch.device) -> None:
    """Send the job to the worker that holds its run, to another free one, or to a new one."""
    free = [worker for worker in pool if worker.job is None]
    free.sort(key=lambda worker: (worker.held != job.folder, worker.held is not None))
    if not free:
        place = next_place(device, [worker.device for worker in pool])
        free = [_Worker(*start(__name__, str(place)), place)]
        pool.append(free[0])
    free[0].job = job
    with suppress(OSError):  # it died between jobs; reading its pipe will tell
        free[0].pipe.send(job)


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


def serve(pipe: Connection, device: str) -> None:
    """A worker's life: train what comes through the pipe until the pipe closes."""
    place = torch.device(device)
    if place.type == "cuda":
        torch.cuda.set_device(place)  # or the first GPU would hold a context of each worker
    trainer = Trainer(place)
    while True:
        try:
            job: Job = pipe.recv()
        except EOFError:
            return
        try:
            for event in trainer.train(job):
                pipe.send(event)
        except OSError as error:
            pipe.send(StudyError(f"{job.folder}: {error.strerror}; {GO_ON}"))


class Trainer:
    """Trains one job after the other, each up to its epoch.

    The run that paused last stays at hand; a checkpoint keeps the others.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._held: Path | None = None
        self._events: Iterator[Event] = iter(())

    def train(self, job: Job) -> Iterator[Event]:
        """What happens until the job ends; `OSError` where the disk is full."""
        if job.folder != self._held:
            self._events = run_job(job, self.device)
        self._held = None
        for event in self._events:
            row = event.epoch
            paused = not job.whole and row is not None and row.epoch == job.until
            if paused:
                self._held = job.folder
            yield replace(event, job=job, paused=paused)
            if paused:
                return


def run_job(job: Job, device: torch.device) -> Iterator[Event]:
    """Train one job into its folder; the last event carries the summary.

    Errors of recipe, data and own code fail the job, and so do bugs: the search goes on.

    Raises:
        OSError: where the disk is full. That is not the trial's fault, which waits unfinished.
    """
    run = Run(job.folder)
    rows: list[Epoch] = []
    try:
        data = _data(job.recipe.for_data().model_dump_json(), device)
        waited = data.waited_seconds
        recipe = _settled(job, run, data, device)
        use(recipe)
        logged = run.begin(with_defaults(recipe).as_values())
        with user_code("training"):
            model = build_model(recipe, data)
            for row in train(recipe, data, device, model=model, saved=run.checkpoint):
                if row.epoch > logged:
                    run.log(row)
                rows.append(row)
                yield Event(job, epoch=row)
        summary = summarise(rows) | {
            "parameters": sum(p.numel() for p in model.parameters()),
            "val_images": len(data.val),
            "waited_seconds": data.waited_seconds - waited,
        }
    except Exception as error:
        raise_if_disk_full(error, job.folder)
        summary = failure(_in_words(error))
        if not run.config():
            run.begin(job.recipe.as_values())
    summary["seconds"] = sum(row.seconds for row in rows)
    run.finish(summary)
    yield Event(job, summary=summary)


def _settled(job: Job, run: Run, data: Data, device: torch.device) -> Recipe:
    """The job's recipe in the precision that its run began with, perhaps on another machine."""
    begun = run.config().get("train", {}).get("precision")
    recipe = job.recipe
    if begun and recipe.train.precision == "auto":
        recipe = recipe.with_values({"train.precision": begun})
    with user_code("the first batch"):
        return settle(recipe, data, device)


def raise_if_disk_full(error: Exception, folder: Path) -> None:
    """Torch reports a full disk as a RuntimeError without a number, so the disk itself is asked.

    Raises:
        OSError: where the disk is full, with its number and the folder.
    """
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or shutil.disk_usage(folder).free < DISK_FULL_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error


def _in_words(error: Exception) -> str:
    """What failed a job: memory, one of our own errors, or a bug with its traceback."""
    cause = error.__cause__ if isinstance(error, UserCodeError) else error
    if out_of_memory(cause):
        return f"{OUT_OF_MEMORY}: {cause}"
    if isinstance(error, CnntuneError):
        return "\n".join(error.lines)
    return "".join(traceback.format_exception(error))


@lru_cache(maxsize=1)
def _data(recipe: str, device: torch.device) -> Data:
    """The images, read once for all trials that share them."""
    return load_data(Recipe.model_validate_json(recipe), device)


def summarise(rows: list[Epoch]) -> dict[str, Any]:
    """What a run came to: its best epoch, or that it diverged."""
    best = best_epoch(rows)
    if best is None:
        return {"status": "diverged", "epochs": len(rows), "best_epoch": None}
    return {
        "status": "complete",
        "epochs": len(rows),
        "best_epoch": best.epoch,
        "train_loss": best.train_loss,
        "train_acc": best.train_acc,
        "val_loss": best.val_loss,
        "val_acc": best.val_acc,
    }


def out_of_memory(error: BaseException | None) -> bool:
    """Whether memory could not be had; from torch on the CPU that is a plain RuntimeError."""
    on_cpu = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    return on_cpu or isinstance(error, torch.OutOfMemoryError | MemoryError)


def failure(error: str) -> dict[str, Any]:
    """The summary of a run that could not be trained."""
    return {"status": "failed", "epochs": 0, "best_epoch": None, "error": error}
