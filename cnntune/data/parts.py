"""Training, validation and test set as the training loop uses them: labels, and batches of images.

A set that fits in memory is one tensor on the device, and a batch is one gather. A larger one is
streamed (`stream`). Both give the network the same values.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from cnntune.data.copies import send
from cnntune.data.source import Images

MAX_SHOWN = 5  # images that a finding names


@dataclass(frozen=True)
class Names:
    """The names of the images of a set: their files, or the set and their index in it."""

    part: str = ""
    files: Sequence[str] = ()

    def of(self, indices: Iterable[int]) -> str:
        """Up to five of the images, and the number of the others."""
        chosen = [int(index) for index in indices]
        shown = [self.files[k] if self.files else str(k) for k in chosen[:MAX_SHOWN]]
        more = f" and {len(chosen) - MAX_SHOWN} more" if len(chosen) > MAX_SHOWN else ""
        if self.files:
            return ", ".join(shown) + more
        plural = "s" if len(chosen) > 1 else ""
        return f"{self.part} image{plural} {', '.join(shown)}{more}".lstrip()

    def pairs(self, indices: Iterable[int], others: "Names", partners: Iterable[int]) -> str:
        """Up to five pairs of similar images, and the number of the others."""
        both = [(self.of([a]), others.of([b])) for a, b in zip(indices, partners, strict=True)]
        more = f" and {len(both) - MAX_SHOWN} more" if len(both) > MAX_SHOWN else ""
        return ", ".join(f"{first} = {second}" for first, second in both[:MAX_SHOWN]) + more


NAMELESS = Names()


class Part(Protocol):
    """The training, validation or test set."""

    @property
    def names(self) -> Names:
        """The names of the images in findings."""
        ...

    @property
    def labels(self) -> Tensor:
        """Int64 `[N]`, on the CPU."""
        ...

    def __len__(self) -> int: ...

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        ...

    @property
    def waited_seconds(self) -> float:
        """How long `batches` kept its callers waiting for images that were not read yet."""
        ...

    def batches(self, order: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Network inputs float32 `[B, C, H, W]` and labels int64 `[B]` in `order`, on the device.

        The last batch may be smaller.
        """
        ...


@dataclass(frozen=True)
class Normalise:
    """Pixels to network inputs: uint8 to 0..1, minus the mean, divided by the standard deviation.

    `mean` and `std` are float32 `[1, C, 1, 1]`.
    """

    mean: Tensor
    std: Tensor

    def __call__(self, pixels: Tensor) -> Tensor:
        """Float32 `[B, C, H, W]` in channels-last order, the fastest for convolutions.

        Reordered last: before, `mean` and `std` are the same for all values of a channel that lie
        side by side, which takes a CPU half the time.
        """
        scaled = (as_unit(pixels) - self.mean).div_(self.std)
        return scaled.to(memory_format=torch.channels_last)

    def undo(self, inputs: Tensor) -> Tensor:
        """The pixels from which `inputs` were made, in 0..1 where they were bytes."""
        return inputs * self.std + self.mean

    @property
    def black(self) -> Tensor:
        """The normalised value of a pixel of 0, `[1, C, 1, 1]`."""
        return -self.mean / self.std


def as_unit(pixels: Tensor) -> Tensor:
    """Bytes as 0..1; float images unchanged."""
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels.float()


@dataclass(frozen=True)
class ResidentPart:
    """All images on the device; a batch is one gather."""

    images: Images
    labels: Tensor
    normalise: Normalise
    names: Names = NAMELESS

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.images.pixels.shape[-2:]
        return height, width

    @property
    def waited_seconds(self) -> float:
        """0.0: all images are in memory."""
        return 0.0

    def batches(self, order: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and labels in `order`, on the device."""
        for indices in send(order, self.images.labels.device).split(batch_size):
            chosen = self.images.take(indices)
            yield self.normalise(chosen.pixels), chosen.labels


@dataclass(frozen=True)
class Data:
    """Training, validation and test set, ready to train on. `in_shape` is (C, H, W).

    `remarks` say how the samples of a custom data set were converted.
    """

    train: Part
    val: Part
    test: Part | None
    classes: tuple[str, ...]
    in_shape: tuple[int, int, int]
    normalise: Normalise
    remarks: tuple[str, ...] = ()

    @property
    def waited_seconds(self) -> float:
        """How long training and validation have waited for images."""
        return self.train.waited_seconds + self.val.waited_seconds
