"""Trial processes: long-lived, one training run at a time, fed and read over a pipe.

The coordinator alone decides and records; a worker trains, writes the run's folder and sends each
epoch. A worker outlives its trials, since importing torch costs seconds and a trial may not.
"""

import os
import signal
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from cnntune.build import build_model, load_data, with_defaults
from cnntune.data import Data
from cnntune.errors import CnntuneError, StudyError
from cnntune.own_code import user_code
from cnntune.recipe import Recipe
from cnntune.runs import Epoch, Run, best_epoch
from cnntune.train import train


@dataclass(frozen=True)
class Job:
    """One training run: what to train and the folder that takes it."""

    number: int
    recipe: Recipe
    folder: Path


@dataclass(frozen=True)
class Event:
    """News of a job: a row after each epoch, and at the end what it came to.

    `epoch` is None in the first and the last event of a job; `summary` is None but in the last.
    """

    job: Job
    epoch: Epoch | None = None
    summary: dict[str, Any] | None = None


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    job: Job | None = field(default=None)


def count(wanted: str, device: torch.device) -> int:
    """How many workers `--workers` means; `auto` is one a core on the CPU, one on a GPU.

    Raises:
        StudyError: where it is no positive number.
    """
    if wanted == "auto":
        return (os.cpu_count() or 1) if device.type == "cpu" else 1
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    raise StudyError(f"--workers: must be auto or a number >= 1 (got {wanted!r})")


def run_jobs(jobs: Iterable[Job], *, workers: int, device: torch.device) -> Iterator[Event]:
    """Train `jobs` on `workers` processes and yield what happens, as it happens.

    A job is taken from `jobs` only when a worker is free for it, and after the caller has seen
    every event before. A worker that dies fails its job and is replaced. Closing the iterator ends
    the workers at once; their unfinished runs have no `summary.json`.
    """
    waiting = iter(jobs)
    pool: list[_Worker] = []
    try:
        while True:
            while len([w for w in pool if w.job]) < workers:
                job = next(waiting, None)
                if job is None:
                    break
                worker = next((w for w in pool if w.job is None), None)
                if worker is None:
                    worker = _start(device)
                    pool.append(worker)
                worker.job = job
                with suppress(OSError):  # it died between jobs; reading its pipe will tell
                    worker.pipe.send(job)
                yield Event(job)
            busy = [worker for worker in pool if worker.job]
            if not busy:
                return
            for pipe in connection.wait([worker.pipe for worker in busy]):
                worker = next(w for w in busy if w.pipe is pipe)
                event = _receive(worker, pool)
                yield event
    finally:
        for worker in pool:
            worker.process.kill()
        for worker in pool:
            worker.process.join()
            worker.pipe.close()


def _receive(worker: _Worker, pool: list[_Worker]) -> Event:
    job = worker.job
    assert job is not None  # only busy workers are waited for
    try:
        event: Event = worker.pipe.recv()
    except (EOFError, ConnectionResetError):
        pool.remove(worker)
        worker.process.join()
        worker.pipe.close()
        code = worker.process.exitcode
        error = f"the worker process died (exit code {code})"
        if code == -signal.SIGKILL:
            error += "; the system kills processes when memory runs out"
        summary = failure(error)
        Run(job.folder).finish(summary)
        return Event(job, summary=summary)
    if event.summary is not None:
        worker.job = None
    return event


def _start(device: torch.device) -> _Worker:
    """Start a worker with a fresh interpreter: a forked one may not use a GPU."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, str(device)))
    with _inherited(threads="1"):
        process.start()
    theirs.close()
    return _Worker(process, ours)


@contextmanager
def _inherited(*, threads: str) -> Iterator[None]:
    """What a worker takes from us at its start: no SIGINT, and the threads that torch loads with.

    Ctrl-C reaches every process of the terminal, and it is the coordinator's to handle.
    """
    main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = threads
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
        if main:
            signal.signal(signal.SIGINT, handler)


def _serve(pipe: Connection, device_name: str) -> None:
    """The worker's life: train what comes through the pipe until the pipe closes."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    device = torch.device(device_name)
    while True:
        try:
            job: Job = pipe.recv()
        except EOFError:
            return
        for event in run_job(job, device):
            pipe.send(event)


def _die_with_parent() -> None:
    """A killed coordinator leaves no orphans behind."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def run_job(job: Job, device: torch.device) -> Iterator[Event]:
    """Train one job into its folder; the last event carries the summary.

    Errors of recipe, data and own code fail the job, and so do bugs: the search goes on.
    """
    run = Run(job.folder)
    rows: list[Epoch] = []
    start = time.perf_counter()
    try:
        run.begin(with_defaults(job.recipe).as_values())
        torch.set_num_threads(job.recipe.train.threads)
        data = _data(job.recipe.for_data().model_dump_json(), device)
        with user_code("training"):
            model = build_model(job.recipe, data)
            for row in train(job.recipe, data, device, model=model):
                run.log(row)
                rows.append(row)
                yield Event(job, epoch=row)
        summary = summarise(rows) | {
            "parameters": sum(p.numel() for p in model.parameters()),
            "val_images": len(data.val),
        }
    except CnntuneError as error:
        summary = failure("\n".join(error.lines))
    except torch.OutOfMemoryError as error:
        summary = failure(f"out of memory: {error}")
    except Exception:
        summary = failure(traceback.format_exc())
    summary["seconds"] = time.perf_counter() - start
    run.finish(summary)
    yield Event(job, summary=summary)


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


def failure(error: str) -> dict[str, Any]:
    """The summary of a run that could not be trained."""
    return {"status": "failed", "epochs": 0, "best_epoch": None, "error": error}
