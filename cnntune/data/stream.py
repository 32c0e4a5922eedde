"""Images that do not fit in memory: read ahead of the device in worker processes."""

import pickle
import random
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from cnntune.data.copies import is_pinned
from cnntune.data.parts import MAX_SHOWN, NAMELESS, Names, Normalise
from cnntune.errors import CnntuneError, DataError
from cnntune.machine.cpus import cores
from cnntune.machine.forks import FORKS, forking
from cnntune.seeds import derive_seed
from cnntune.user_code.borders import explaining

LOADER_WORKERS = min(4, cores())  # processes that decode while the device trains
UNPICKLABLE = ("pickle", "local object")  # words of Python's errors where workers are not forked


@dataclass
class Waiting:
    """A counter that changes although the set itself is frozen."""

    seconds: float = 0.0


@dataclass(frozen=True)
class StreamedPart:
    """Images read batch by batch in worker processes, which live as long as the set.

    Random numbers that a data set draws for an image depend on torch's seed at the call of
    `batches`, not on the number of processes. No numbers are drawn from torch's generator here.
    """

    dataset: Dataset[Any]
    labels: Tensor
    normalise: Normalise
    device: torch.device
    image_size: tuple[int, int]
    names: Names = NAMELESS
    waiting: Waiting = field(default_factory=Waiting)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def bytes_only(self) -> bool:
        """Whether pixels are bytes, which are always finite."""
        return getattr(self.dataset, "bytes_only", False)

    @property
    def waited_seconds(self) -> float:
        """How long `batches` kept its callers waiting for images that were not read yet."""
        return self.waiting.seconds

    def batches(self, order: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and labels in `order`, on the device, read ahead by worker processes."""
        self._plan.batches = _seeded(order, batch_size)
        loaded = self._started()
        while True:
            start = time.perf_counter()
            batch = next(loaded, None)
            self.waiting.seconds += time.perf_counter() - start
            if batch is None:
                return
            if isinstance(batch, CnntuneError):
                raise batch
            pixels, labels = (tensor.to(self.device, non_blocking=self._pinned) for tensor in batch)
            yield self.normalise(pixels), labels

    def _started(self) -> Iterator[Any]:
        """An iterator over the planned batches; the first call starts the processes."""
        try:
            with warnings.catch_warnings(), forking():
                # Torch warns at length, and then raises the same.
                warnings.filterwarnings("ignore", "Got pickle error", UserWarning)
                return iter(self._loader)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            reason = str(error)
            if not any(words in reason for words in UNPICKLABLE):
                raise
            raise DataError(
                "data: the data set cannot be pickled for the worker processes; define its class"
                f" at the top level of a module and open files in __getitem__ ({reason})"
            ) from None

    @property
    def _pinned(self) -> bool:
        """Whether batches are in pinned memory, which asynchronous copies need."""
        return is_pinned(self.device)

    @cached_property
    def _plan(self) -> "_Plan":
        return _Plan()

    @cached_property
    def _loader(self) -> DataLoader[Any]:
        return DataLoader(
            _Caught(self.dataset),
            batch_sampler=self._plan,
            num_workers=LOADER_WORKERS,
            persistent_workers=True,
            pin_memory=self._pinned,
            multiprocessing_context="fork" if FORKS else None,
            collate_fn=_collate,
            generator=torch.Generator(),  # else it would draw from torch's default generator
        )


Seeded = tuple[int, int]  # the index of an image, and the seed for reading it


class _Plan(Sampler[list[Seeded]]):
    """The batches of the next pass."""

    def __init__(self) -> None:
        self.batches: list[list[Seeded]] = []

    def __iter__(self) -> Iterator[list[Seeded]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def _seeded(order: Tensor, batch_size: int) -> list[list[Seeded]]:
    seed = torch.initial_seed()
    seeded = [(index, derive_seed(seed, at)) for at, index in enumerate(order.tolist())]
    return [seeded[at : at + batch_size] for at in range(0, len(seeded), batch_size)]


class _Caught(Dataset[Any]):
    """Returns our errors as values: a `DataLoader` would wrap them in a traceback."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset

    def __getitem__(self, index_and_seed: Seeded) -> Any:
        index, seed = index_and_seed
        torch.default_generator.manual_seed(seed)  # as in `device.seeded`
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            with explaining():
                return self.dataset[index]
        except CnntuneError as error:
            return error


def _collate(samples: Sequence[Any]) -> Any:
    errors = [sample for sample in samples if isinstance(sample, CnntuneError)]
    if errors and not all(isinstance(error, DataError) for error in errors):
        return next(error for error in errors if not isinstance(error, DataError))
    if errors:
        return DataError(line for error in errors[:MAX_SHOWN] for line in error.lines)
    pixels = torch.stack([pixels for pixels, _ in samples])
    return pixels, torch.tensor([label for _, label in samples])
