"""The parts of a data set as the training loop sees them: labels at hand, images in batches.

What fits lives as one tensor on the device, and a batch is one gather. What does not fit streams
through `DataLoader` workers. Both give the network the same numbers.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cnntune.data.source import Images
from cnntune.errors import CnntuneError, DataError

LOADER_WORKERS = min(4, os.cpu_count() or 1)  # processes that decode while the device trains


class Part(Protocol):
    """Train, validation or test: labels at hand, images in batches."""

    @property
    def labels(self) -> Tensor:
        """Int64 `[N]`, on the CPU."""
        ...

    def __len__(self) -> int: ...

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        ...

    def batches(self, order: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Network inputs float32 `[B, C, H, W]` and labels int64 `[B]` in `order`, on the device.

        The last batch may be smaller.
        """
        ...


@dataclass(frozen=True)
class Normalise:
    """Pixels to network inputs: uint8 to 0..1, minus the mean, over the standard deviation.

    `mean` and `std` are float32 `[1, C, 1, 1]`.
    """

    mean: Tensor
    std: Tensor

    def __call__(self, pixels: Tensor) -> Tensor:
        """Float32 `[B, C, H, W]` in channels-last order, which convolutions read fastest."""
        scaled = as_unit(pixels).to(memory_format=torch.channels_last)
        return (scaled - self.mean) / self.std

    def undo(self, inputs: Tensor) -> Tensor:
        """The pixels that became `inputs`, 0..1 where they were bytes."""
        return inputs * self.std + self.mean

    @property
    def black(self) -> Tensor:
        """What a pixel of 0 becomes, `[1, C, 1, 1]`."""
        return -self.mean / self.std


def as_unit(pixels: Tensor) -> Tensor:
    """Bytes as 0..1; float images stay as their owner scaled them."""
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels.float()


@dataclass(frozen=True)
class ResidentPart:
    """All images on the device; a batch is one gather."""

    images: Images
    labels: Tensor
    normalise: Normalise

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.images.pixels.shape[-2:]
        return height, width

    def batches(self, order: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and labels in `order`, on the device."""
        for indices in order.to(self.images.labels.device).split(batch_size):
            chosen = self.images.take(indices)
            yield self.normalise(chosen.pixels), chosen.labels


@dataclass(frozen=True)
class StreamedPart:
    """Images read batch by batch in worker processes."""

    dataset: Dataset[Any]
    labels: Tensor
    normalise: Normalise
    device: torch.device
    image_size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, order: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and labels in `order`, on the device, read ahead by worker processes."""
        loader = DataLoader(
            _Caught(self.dataset),
            batch_sampler=[indices.tolist() for indices in order.split(batch_size)],
            num_workers=LOADER_WORKERS,
            pin_memory=self.device.type == "cuda",
            collate_fn=_collate,
        )
        for batch in loader:
            if isinstance(batch, CnntuneError):
                raise batch
            pixels, labels = (tensor.to(self.device, non_blocking=True) for tensor in batch)
            yield self.normalise(pixels), labels


class _Caught(Dataset[Any]):
    """Hands our errors over as values: a `DataLoader` would wrap them in a traceback."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> Any:
        try:
            return sample_at(self.dataset, index)
        except CnntuneError as error:
            return error


def _collate(samples: Sequence[Any]) -> Any:
    for sample in samples:
        if isinstance(sample, CnntuneError):
            return sample
    shapes = sorted({tuple(pixels.shape) for pixels, _ in samples})
    if len(shapes) > 1:
        return DataError(f"data: all images must have one shape (got {shapes[0]}, {shapes[1]})")
    pixels = torch.stack([pixels for pixels, _ in samples])
    return pixels, torch.tensor([label for _, label in samples])


def sample_at(dataset: Any, index: int) -> tuple[Tensor, int]:
    """One image and its label, checked.

    Raises:
        DataError: where the sample is not (image `[C, H, W]`, label).
    """
    sample = dataset[index]
    if not isinstance(sample, tuple | list) or len(sample) != 2:
        raise DataError(f"image {index}: must be (image, label) (got {type(sample).__name__})")
    pixels, label = sample
    if not isinstance(pixels, Tensor) or pixels.ndim != 3:
        shape = list(pixels.shape) if isinstance(pixels, Tensor) else type(pixels).__name__
        raise DataError(f"image {index}: must be a tensor [C, H, W] (got {shape})")
    if pixels.dtype != torch.uint8 and not pixels.is_floating_point():
        raise DataError(f"image {index}: must be uint8 or float (got {pixels.dtype})")
    try:
        number = int(label)
        if number != label:
            raise ValueError
    except (TypeError, ValueError, RuntimeError):
        raise DataError(
            f"image {index}: the label must be a whole number (got {label!r})"
        ) from None
    return pixels, number


@dataclass(frozen=True)
class Data:
    """The parts of a data set, ready to train on. `in_shape` is (C, H, W)."""

    train: Part
    val: Part
    test: Part | None
    classes: tuple[str, ...]
    in_shape: tuple[int, int, int]
    normalise: Normalise
