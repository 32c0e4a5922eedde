"""Which device computes, and how many CPU threads it may use."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch

from cnntune.data import Data
from cnntune.errors import DeviceError
from cnntune.recipe import Recipe

CGROUPS = Path("/sys/fs/cgroup")
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


def next_place(device: torch.device, taken: Iterable[torch.device]) -> torch.device:
    """Where the next worker computes: on the GPU that fewest have taken, if any will do."""
    if device.type != "cuda" or device.index is not None:
        return device
    workers = Counter(place.index for place in taken)
    gpus = range(torch.cuda.device_count())
    return torch.device("cuda", min(gpus, key=lambda gpu: (workers[gpu], gpu)))


def cores() -> int:
    """The CPU cores that this process may use: in a container or a batch job fewer than exist."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    return min([count, *quotas()])


def quotas(proc: Path = Path("/proc/self/cgroup"), root: Path = CGROUPS) -> list[int]:
    """The whole cores, at least one, that each control group of the process leaves it (Linux).

    `cpu.max` holds microseconds of computing and the period that they are for; "max" is no limit
    (the kernel's cgroup-v2.rst). A container sees its own group as the root.
    """
    try:
        lines = proc.read_text().splitlines()
    except OSError:
        return []
    own = next((line[3:] for line in lines if line.startswith("0::")), "/").lstrip("/")
    found = []
    for group in (root / own, *(root / own).parents):
        limit = _words(group / "cpu.max")
        if len(limit) == 2 and limit[0].isdecimal() and limit[1].isdecimal():
            found.append(max(1, int(limit[0]) // int(limit[1])))
        if group == root:
            break
    return found


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def use_threads(recipe: Recipe, data: Data) -> None:
    """Compute with the recipe's CPU threads; 0 means one for small batches, else all cores.

    The rule looks at the batch alone: a measurement could choose otherwise in the next run, and
    another number of threads adds floats in another order.
    """
    height, width = data.train.image_size
    small = recipe.train.batch_size * height * width < SMALL_BATCH_PIXELS
    torch.set_num_threads(recipe.train.threads or (1 if small else cores()))
