"""What a worker process does: train one run after the other, each into its folder."""

import gc
import shutil
import traceback
from collections.abc import Generator, Iterator
from dataclasses import replace
from functools import lru_cache
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from cnntune.config.recipe import Recipe
from cnntune.data import Data
from cnntune.data.augment.check import check_augment
from cnntune.errors import CnntuneError, StudyError
from cnntune.runs.chance import Chance
from cnntune.runs.run import Epoch, Run
from cnntune.runs.summary import Summary, summarise
from cnntune.training.build import build_model, load_data, with_defaults
from cnntune.training.loop import train
from cnntune.training.precision import apply, with_threads
from cnntune.user_code.borders import explained, explaining
from cnntune.user_code.failures import full_disk
from cnntune.workers.pool import Event, Job


def serve(pipe: Connection, device: str) -> None:
    """Train the jobs that arrive through the pipe until it closes.

    It ends by itself after a job that broke its device: an accelerator that reports an illegal
    access or a failed assertion reports it again for whatever this process asks of it next.
    """
    own = torch.device(device)
    if own.type == "cuda":
        torch.cuda.set_device(own)  # or the first GPU would hold a context of each worker
    trainer = Trainer(own)
    while True:
        try:
            job: Job = pipe.recv()
        except EOFError:
            return
        try:
            for event in trainer.train(job):
                broken = _failed(event) and not still_works(own)
                pipe.send(replace(event, last=broken))
                if broken:
                    return
        except CnntuneError as error:
            pipe.send(error)
        except OSError as error:  # of the study's own files: no trial could be recorded
            pipe.send(StudyError(f"{job.folder}: {error}"))


def _failed(event: Event) -> bool:
    return event.again or (event.summary is not None and event.summary.status == "failed")


def still_works(device: torch.device) -> bool:
    """Whether the device works after a job that failed; frees what the job had of its memory."""
    if device.type == "cpu":
        return True
    gc.collect()
    try:
        torch.accelerator.synchronize(device)
        torch.accelerator.empty_cache()
    except RuntimeError:  # what a device reports in this way stays with the process
        return False
    return True


class Trainer:
    """Trains one job after the other, each up to its epoch.

    The run that paused last stays in memory; the others have a checkpoint.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._held: Path | None = None
        self._events: Iterator[Event] = iter(())

    def train(self, job: Job) -> Iterator[Event]:
        """What happens until the job ends.

        Raises:
            StudyError: where the disk is full.
            CnntuneError: where the job is to read the data and they cannot be read.
        """
        if job.check:
            read_data(job.recipe, self.device)
            yield Event(job, summary=Summary("complete"))
            return
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


def read_data(recipe: Recipe, device: torch.device) -> Data:
    """The images, read once for all trials that share them; who planned them decided on memory.

    Raises:
        CnntuneError: where they cannot be read, or user code that reads them raises.
        RecipeError: where `[augment]` of this very trial asks for what they lack.
    """
    with explaining():
        data = _data(recipe.for_data().model_dump_json(), device)
        check_augment(recipe, data)
    return data


def run_job(job: Job, device: torch.device) -> Iterator[Event]:
    """Train one job into its folder; the last event carries the summary.

    Errors of recipe, data and user code fail the job, and so do bugs: the search continues. A job
    that runs out of memory has no summary unless it was alone on its device.

    Raises:
        StudyError: where the disk is full. That is not the trial's fault, which waits unfinished.
    """
    run = Run(job.folder)
    rows: list[Epoch] = []
    try:
        summary = yield from _trained(job, run, rows, device)
    except (Exception, SystemExit) as error:
        if full := full_disk(error, job.folder):
            raise full from error
        summary = _in_words(error)
    if summary.error and summary.error.kind == "out-of-memory" and not job.alone:
        yield Event(job, again=True)
        return
    if not run.config():
        run.begin(job.recipe.as_values())
    summary = replace(summary, seconds=sum(row.seconds for row in rows))
    run.finish(summary.to_json())
    yield Event(job, summary=summary)


def _trained(
    job: Job, run: Run, rows: list[Epoch], device: torch.device
) -> Generator[Event, None, Summary]:
    """Train, add to `rows`, and return the result; data and network are freed where it raises."""
    data = read_data(job.recipe, device)
    waited = data.waited_seconds
    recipe = _resolved(job, run, data)
    apply(recipe)
    logged = run.begin(with_defaults(recipe).as_values())
    if job.continues and not logged:
        shutil.copyfile(job.continues, run.checkpoint)
    model = build_model(recipe, data)
    for row in train(recipe, data, device, model=model, saved=run.checkpoint):
        if row.epoch > logged:
            run.log(row)
        rows.append(row)
        yield Event(job, epoch=row)
    chance = Chance.of(data.val.labels.tolist())
    return replace(
        summarise(rows, chance),
        parameters=sum(p.numel() for p in model.parameters()),
        **chance.as_json(),
        waited_seconds=data.waited_seconds - waited,
    )


def _resolved(job: Job, run: Run, data: Data) -> Recipe:
    """The job's recipe in the precision that its run began with, perhaps on another machine.

    The study decides for all its trials. One that is older than such decisions may have begun a
    trial in another precision.
    """
    begun = run.config().get("train", {}).get("precision")
    recipe = job.recipe
    if begun and recipe.train.precision != begun:
        recipe = recipe.with_values({"train.precision": begun})
    return with_threads(recipe, data)


def _in_words(error: BaseException) -> Summary:
    """The summary of a job that failed: one line where it is no bug, else the traceback."""
    told = explained(error)
    if told is not None:
        return Summary.failed(told.kind, "\n".join(told.lines))
    return Summary.failed("bug", "".join(traceback.format_exception(error)))


@lru_cache(maxsize=1)
def _data(recipe: str, device: torch.device) -> Data:
    found = Recipe.model_validate_json(recipe)
    return load_data(found, device, stream=found.data.stream)
