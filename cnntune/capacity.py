"""How many trials fit side by side: `--workers auto`, by measurement, and why in a line."""

from collections.abc import Sequence

from cnntune.cores import cores
from cnntune.errors import CnntuneError, StudyError
from cnntune.lifeline import call
from cnntune.recipe import Recipe
from cnntune.space import Choice, Value

# What a process holds on a GPU beside its tensors: 0.3 to 0.6 GiB for torch's kernels and contexts.
# A guess from such reports: the driver's own counts cannot tell it from what others take.
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


def fitting_workers(recipe: Recipe, places: Sequence[str]) -> tuple[int, str]:
    """How many trials of the recipe's space the machine trains side by side, and why."""
    kind = places[0].partition(":")[0]
    if kind == "cuda":
        try:
            trial, free = call("cnntune.probe:probe", largest(recipe), places)
        except CnntuneError as error:
            cause = error.lines[0]
            return len(places), f"one worker a GPU, since a trial could not be tried out: {cause}"
        return on_gpus(trial, free, cores())
    if kind == "cpu":
        return on_cores(cores(), recipe.train.threads or 1)
    return 1, f"one worker on {kind}"


def on_cores(count: int, threads: int) -> tuple[int, str]:
    """Workers for so many CPU cores, where each trial computes with `threads`."""
    workers = max(1, count // threads)
    return workers, f"{_of(workers, 'worker')}: {_of(count, 'CPU core')}, {threads} for each trial"


def on_gpus(trial: int, free: Sequence[int], count: int) -> tuple[int, str]:
    """Workers for the bytes that GPUs have free, as many on each, and a CPU core for every one.

    A GPU without room for a trial has one all the same: the trial says then that memory ran out.
    """
    need = trial + CONTEXT_BYTES
    least = min(free)
    gpus = len(free)
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


def _of(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
