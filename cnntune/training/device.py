"""Which device computes, and the random numbers of torch."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cnntune.errors import DeviceError
from cnntune.seeds import derive_seed


def resolve(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda`, `cuda:1` or `mps` as a device that is available.

    `auto` is the first available of cuda, mps and cpu. A device requested by name is never
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


def trial_devices(device: torch.device) -> tuple[str, ...]:
    """The names of the devices that take trials: the one device, or for `cuda` all GPUs."""
    if device.type != "cuda" or device.index is not None:
        return (str(device),)
    return tuple(f"cuda:{gpu}" for gpu in range(torch.cuda.device_count()))


@contextmanager
def seeded(*parts: int | str, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators within the block, as dropout draws from them; restore them."""
    seed = derive_seed(*parts)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), _kept(device):
        if device.type == "cpu":
            # torch.manual_seed would record the stack for each GPU, used or not: 0.7 ms.
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)
        yield


@contextmanager
def _kept(device: torch.device) -> Iterator[None]:
    """Restore the generator of mps, which `fork_rng` does not cover."""
    state = torch.mps.get_rng_state() if device.type == "mps" else None
    try:
        yield
    finally:
        if state is not None:
            torch.mps.set_rng_state(state)
