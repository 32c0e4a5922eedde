"""What is decided once for all trials of a study: how many side by side, and in what precision.

`--workers auto` is by measurement, with the reason in a line.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cnntune.config.recipe import Recipe
from cnntune.config.space import Choice, Value
from cnntune.errors import StudyError
from cnntune.machine.cpus import cores
from cnntune.machine.memory import fit
from cnntune.workers.processes import call

# What a process holds on a GPU beside its tensors: 0.3 to 0.6 GiB for torch's kernels and contexts.
# A guess from such reports: the driver's own counts cannot separate it from other processes.
CONTEXT_BYTES = 2**29
MEMORY_SHARE = 0.9  # of what is free: batch size finders of other tools that left none ran out
GIB = 2**30


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


@dataclass(frozen=True)
class Found:
    """What a process with torch measured for a study.

    `free` are the bytes of each GPU, `trial` those that the largest trial needed on one; `problem`
    is why they could not be measured.
    """

    precision: str
    image_bytes: int
    free: tuple[int, ...] = ()
    trial: int | None = None
    problem: str = ""


@dataclass(frozen=True)
class Plan:
    """What all trials of a study share, and how many of them are trained side by side here.

    `precision` is that of the study's recipe as it stands, whatever its space is over. With
    `stream` images are read batch by batch, since the workers cannot all hold them; that changes no
    number, so it is decided anew for the machine and the memory that a command finds.
    """

    workers: int
    precision: str
    image_bytes: int
    stream: bool
    reasons: tuple[str, ...]  # a line each


def plan(
    recipe: Recipe,
    devices: Sequence[str],
    *,
    asked: int | None = None,
    image_bytes: int | None = None,
) -> Plan:
    """Decide once for all trials, before the first; `asked` is the number of workers, if given.

    What is known of the study already, a precision in the recipe and `image_bytes`, stays.

    Raises:
        CnntuneError: where data or network cannot be used, or memory runs out.
    """
    cuda = devices[0].startswith("cuda")
    known = recipe.train.precision != "auto" and image_bytes is not None
    if known and not cuda:
        found = Found(recipe.train.precision, image_bytes or 0)
    else:
        found = call(
            "cnntune.workers.memory_probe:measure", recipe, devices, cuda and asked is None
        )
    workers, reason = (asked, "") if asked else _fitting_workers(recipe, devices, found)
    # The measured trial includes its images, and as many of those as were counted fit on a GPU.
    on_a_gpu = 1 if found.trial is not None else math.ceil(workers / len(devices))
    fits = fit(found.image_bytes, workers)
    if found.free:
        fits = fits and fit(found.image_bytes, on_a_gpu, min(found.free))
    reasons = [reason] if reason else []
    if not fits and not recipe.data.stream:
        size = found.image_bytes / GIB
        reasons.append(f"images are streamed: {_of(workers, 'worker')} cannot hold {size:.1f} GiB")
    stream = recipe.data.stream or not fits
    return Plan(workers, found.precision, found.image_bytes, stream, tuple(reasons))


def _fitting_workers(recipe: Recipe, devices: Sequence[str], found: Found) -> tuple[int, str]:
    """How many trials of the recipe's space the machine trains side by side, and why."""
    kind = devices[0].partition(":")[0]
    if found.problem:
        reason = f"one worker per GPU: the memory of a trial could not be measured: {found.problem}"
        return len(devices), reason
    if found.trial is not None:
        return on_gpus(found.trial, found.free, cores())
    if kind == "cpu":
        return on_cores(cores(), recipe.train.threads or 1)
    return 1, f"one worker on {kind}"


def on_cores(count: int, threads: int) -> tuple[int, str]:
    """Workers for so many CPU cores, where each trial computes with `threads`."""
    workers = max(1, count // threads)
    return workers, f"{_of(workers, 'worker')}: {_of(count, 'CPU core')}, {threads} per trial"


def on_gpus(trial: int, free: Sequence[int], count: int) -> tuple[int, str]:
    """Workers for the bytes that GPUs have free, as many on each, and a CPU core for every one.

    A GPU without memory for a trial gets one worker too: the trial then fails with out-of-memory.
    """
    need = trial + CONTEXT_BYTES
    min_free = min(free)
    gpus = len(free)
    each = max(1, min(int(min_free * MEMORY_SHARE) // need, count // gpus))
    memory = f"one trial needs up to {need / GIB:.1f} GiB; {min_free / GIB:.1f} GiB are free"
    workers = _of(each * gpus, "worker")
    return each * gpus, f"{workers}: {each} on each of {_of(gpus, 'GPU')}: {memory}"


def largest(recipe: Recipe) -> Recipe:
    """The trial that takes most memory: the largest batch, images, and sizes of the model."""
    values: dict[str, Value] = {}
    for key, dimension in recipe.space.items():
        if key != "train.batch_size" and not key.startswith(("data.", "model.")):
            continue
        ends = dimension.options if isinstance(dimension, Choice) else [dimension.at(1.0)]
        if all(isinstance(end, int | float) for end in ends):
            values[key] = max(ends)
    return recipe.for_trial(values)


def _of(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
