"""Which device computes, and how many CPU threads it may use."""

import os

import torch

from cnntune.data import Data
from cnntune.data.parts import ResidentPart
from cnntune.errors import DeviceError
from cnntune.recipe import Recipe

SMALL_BATCH_PIXELS = 2**15  # 32 images of 32x32: below, two threads gain at most a fifth when the
# machine is idle, and lose tenfold when it is not, since they wait for each other


def resolve(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda`, `cuda:1` or `mps` as a device that is really there.

    `auto` is the first of cuda, mps and cpu that works. A device asked for by name is never
    replaced by another.

    Raises:
        DeviceError: for an unknown name, and for a device that this machine lacks.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, colon, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (colon and not (kind == "cuda" and index.isdigit())):
        raise DeviceError(f"--device: must be auto, cpu, cuda, cuda:N or mps (got {name!r})")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("--device: mps is not available on this machine; allowed: auto, cpu")
    if kind == "cuda":
        _check_cuda(name, int(index or 0))
    return torch.device(name)


def _check_cuda(name: str, index: int) -> None:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index < count:
        return
    there = ", ".join(f"cuda:{i}" for i in range(count)) or "no CUDA device"
    raise DeviceError(f"--device: {name} is not available; this machine has {there}")


def cores() -> int:
    """The CPU cores that this process may use: in a container or a batch job fewer than exist."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processes(device: torch.device, data: Data) -> int:
    """How many runs compute best at the same time: one on a GPU, else one on each core.

    Images that are streamed have processes of their own, so there it is one too.
    """
    return cores() if device.type == "cpu" and isinstance(data.train, ResidentPart) else 1


def use_threads(recipe: Recipe, data: Data) -> None:
    """Compute with the recipe's CPU threads; 0 means one for small batches, else all cores.

    The rule looks at the batch alone: a measurement could choose otherwise in the next run, and
    another number of threads adds floats in another order.
    """
    height, width = data.train.image_size
    small = recipe.train.batch_size * height * width < SMALL_BATCH_PIXELS
    torch.set_num_threads(recipe.train.threads or (1 if small else cores()))
