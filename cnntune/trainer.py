"""What a worker process does: train one run after the other, each into its folder."""

import errno
import os
import shutil
import traceback
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from cnntune.arithmetic import settle, use
from cnntune.build import build_model, load_data, with_defaults
from cnntune.chance import Chance
from cnntune.data import Data
from cnntune.device import out_of_memory
from cnntune.errors import CnntuneError, StudyError, UserCodeError
from cnntune.own_code import user_code
from cnntune.recipe import Recipe
from cnntune.runs import Epoch, Run, summarise
from cnntune.train import train
from cnntune.workers import OUT_OF_MEMORY, Event, Job, failure

DISK_FULL_BYTES = 2**16  # left: less than a checkpoint of the smallest network takes
GO_ON = "nothing is lost: free some space, and the same command goes on"


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
        chance = Chance.of(data.val.labels.tolist())
        summary = summarise(rows, chance) | {
            "parameters": sum(p.numel() for p in model.parameters()),
            **chance.as_json(),
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
    """The job's recipe in the precision that its run began with, perhaps on another machine.

    The study decides for all its trials. One that is older than such decisions may have begun a
    trial in another precision.
    """
    begun = run.config().get("train", {}).get("precision")
    recipe = job.recipe
    if begun and recipe.train.precision != begun:
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
    """The images, read once for all trials that share them; who planned them decided on memory."""
    found = Recipe.model_validate_json(recipe)
    return load_data(found, device, stream=found.data.stream)
