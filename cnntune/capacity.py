"""How many trials fit side by side: `--workers auto`, by measurement, and why in a line."""

from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context

import torch

from cnntune.arithmetic import settle
from cnntune.build import build_model, load_data
from cnntune.device import cores
from cnntune.errors import CnntuneError, StudyError
from cnntune.evaluate import evaluate
from cnntune.recipe import Recipe
from cnntune.space import Choice, Value
from cnntune.train import Learner

# What a process holds on a GPU beside its tensors: 0.3 to 0.6 GiB for torch's kernels and contexts.
# A guess from such reports: the driver's own counts cannot tell it from what others take.
CONTEXT_BYTES = 2**29
MEMORY_SHARE = 0.9  # of what is free: batch size finders of other tools that left none ran out
STEPS = 2  # the optimizer's state is there after the first
GIB = 2**30


@dataclass(frozen=True)
class Measured:
    """What the largest trial takes on a GPU, and what each GPU has free, in bytes."""

    trial: int
    free: tuple[int, ...]


def parse_workers(wanted: str) -> int | None:
    """The number that `--workers` asks for; None for `auto`.

    Raises:
        StudyError: where it is neither.
    """
    if wanted == "auto":
        return None
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    raise StudyError(f"--workers: must be auto or a number >= 1 (got {wanted!r})")


def fitting_workers(recipe: Recipe, device: torch.device) -> tuple[int, str]:
    """How many trials of the recipe's space the machine trains side by side, and why."""
    if device.type == "cuda":
        try:
            measured = _measure(largest(recipe), device)
        except (CnntuneError, torch.OutOfMemoryError, BrokenProcessPool, OSError) as error:
            gpus = 1 if device.index is not None else torch.cuda.device_count()
            cause = str(error).splitlines()[0]
            return gpus, f"one worker a GPU, since a trial could not be tried out: {cause}"
        return on_gpus(measured, cores())
    if device.type == "cpu":
        return on_cores(cores(), recipe.train.threads or 1)
    return 1, f"one worker on {device.type}"


def on_cores(count: int, threads: int) -> tuple[int, str]:
    """Workers for so many CPU cores, where each trial computes with `threads`."""
    workers = max(1, count // threads)
    return workers, f"{_of(workers, 'worker')}: {_of(count, 'CPU core')}, {threads} for each trial"


def on_gpus(measured: Measured, count: int) -> tuple[int, str]:
    """Workers for the memory of the GPUs, as many on each, and a CPU core for every one.

    A GPU without room for a trial has one all the same: the trial says then that memory ran out.
    """
    need = measured.trial + CONTEXT_BYTES
    least = min(measured.free)
    gpus = len(measured.free)
    each = max(1, min(int(least * MEMORY_SHARE) // need, count // gpus))
    memory = f"a trial takes up to {need / GIB:.1f} GiB of {least / GIB:.1f} GiB free"
    workers = _of(each * gpus, "worker")
    return each * gpus, f"{workers}: {each} on each of {_of(gpus, 'GPU')}, since {memory}"


def largest(recipe: Recipe) -> Recipe:
    """The trial that takes most memory: the largest batch and the largest sizes of the model."""
    values: dict[str, Value] = {}
    for key, dimension in recipe.space.items():
        if key != "train.batch_size" and not key.startswith("model."):
            continue
        ends = dimension.options if isinstance(dimension, Choice) else [dimension.at(1.0)]
        if all(isinstance(end, int | float) for end in ends):
            values[key] = max(ends)
    return recipe.for_trial(values)


def _measure(recipe: Recipe, device: torch.device) -> Measured:
    """Try the trial out in a process of its own: what it holds is free again when it ends.

    Raises:
        CnntuneError: where it cannot be trained.
        torch.OutOfMemoryError: where it does not fit at all.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(probe, recipe.model_dump_json(), str(device)).result()


def probe(recipe_json: str, name: str) -> Measured:
    """Train a step or two and validate once; runs in a fresh process, which nothing else fills."""
    recipe, device = Recipe.model_validate_json(recipe_json), torch.device(name)
    gpus = range(torch.cuda.device_count()) if device.index is None else [device.index]
    # The contexts of this very process are in use while it asks, and free when it has ended.
    free = tuple(torch.cuda.mem_get_info(gpu)[0] + CONTEXT_BYTES for gpu in gpus)
    try_out(recipe, device)
    return Measured(torch.cuda.max_memory_reserved(device), free)


def try_out(recipe: Recipe, device: torch.device) -> None:
    """The most that a run of the recipe holds at a time, for a moment."""
    data = load_data(recipe, device)
    recipe = settle(recipe, data, device)
    learner = Learner.of(recipe, build_model(recipe, data), device)
    learner.begin(1)
    size = recipe.train.batch_size
    for _ in range(STEPS):
        inputs, labels = next(data.train.batches(torch.arange(min(size, len(data.train))), size))
        learner.step(inputs, labels)
    evaluate(learner.model, data.val)


def _of(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
