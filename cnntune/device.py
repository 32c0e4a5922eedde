"""Which device computes, how many cores there are, and the random numbers of torch."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from cnntune.errors import DeviceError
from cnntune.seeds import derive_seed

CGROUPS = Path("/sys/fs/cgroup")


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


@contextmanager
def seeded(*parts: int | str, device: torch.device) -> Iterator[None]:
    """Seed torch's own generators for a while, as dropout draws from them, and put them back."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(derive_seed(*parts))
        yield
