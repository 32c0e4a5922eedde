"""Random numbers and boxes, one per image, drawn on the CPU from a given generator."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
from torch import Generator, Tensor

from cnntune.data.copies import send

ATTEMPTS = 10  # boxes drawn before giving up, as in torchvision's RandomResizedCrop


@dataclass(frozen=True)
class Draw:
    """What a transform drew for a batch.

    `rows` has tensors with one row per image, which are sent to the device; `sizes` has the numbers
    of images that are treated alike.
    """

    rows: dict[str, Tensor]
    sizes: tuple[tuple[int, ...], ...] = ()


Shape: TypeAlias = tuple[int, int, int]  # of a batch: images, height, width


class Transform(Protocol):
    """A random transform of a batch of images."""

    def draw(self, shape: Shape, generator: Generator) -> Draw:
        """The random numbers for a batch, on the CPU."""
        ...

    def __call__(self, inputs: Tensor, draw: Draw) -> Tensor:
        """Float `[B, C, H, W]` as `draw`, on the same device, says."""
        ...


def send_draws(
    batches: list[list[Draw]], counts: Sequence[int], device: torch.device
) -> list[list[Draw]]:
    """The draws of batches of `counts` images on `device`: one copy for each kind of number."""
    if device.type == "cpu" or not batches:
        return batches
    sent: list[list[Draw]] = [[] for _ in batches]
    for position, first in enumerate(batches[0]):
        columns = {
            name: send(torch.cat([batch[position].rows[name] for batch in batches]), device)
            for name in first.rows
        }
        split = {name: column.split(list(counts)) for name, column in columns.items()}
        for number, batch in enumerate(batches):
            rows = {name: split[name][number] for name in split}
            sent[number].append(Draw(rows, batch[position].sizes))
    return sent


def uniform(low: float, high: float, count: int, generator: Generator) -> Tensor:
    """Float32 `[count]`, uniform between `low` and `high`."""
    return low + (high - low) * torch.rand(count, generator=generator)


def up_to(largest: Tensor, generator: Generator) -> Tensor:
    """Integers 0 ... `largest`, both included, for int64 `largest` of any shape."""
    return (torch.rand(largest.shape, generator=generator) * (largest + 1)).long()


@dataclass(frozen=True)
class Boxes:
    """A rectangle of pixels per image: int64 `[B]` each; an empty one has height 0."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor

    def rows(self) -> dict[str, Tensor]:
        """As the rows of a `Draw`."""
        return {
            "top": self.top,
            "left": self.left,
            "height": self.height,
            "width": self.width,
        }

    @classmethod
    def of(cls, rows: dict[str, Tensor]) -> "Boxes":
        """The boxes among the rows of a `Draw`."""
        return cls(rows["top"], rows["left"], rows["height"], rows["width"])

    def cover(self, size: tuple[int, int]) -> Tensor:
        """Which pixels of images of `size` (height, width) are inside: bool `[B, 1, H, W]`."""
        rows = _between(self.top, self.height, size[0])
        columns = _between(self.left, self.width, size[1])
        return (rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1)


def _between(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Bool `[B, size]`: which indices are in `start` ... `start + length - 1`."""
    start, length = start.view(-1, 1), length.view(-1, 1)
    indices = torch.arange(size, device=start.device)
    return (indices >= start) & (indices < start + length)


def draw_boxes(
    count: int,
    size: tuple[int, int],
    *,
    area: tuple[float, float],
    ratio: tuple[float, float],
    largest: tuple[int, int],
    generator: Generator,
) -> Boxes:
    """A box for each of `count` images of `size` (height, width), as torchvision draws them.

    Its share of the image's area is uniform in the range `area`, the logarithm of width over height
    in that of `ratio`, its position in all that keep it inside the image. A box larger than
    `largest` (height, width) is redrawn, with ten draws in total; where none fits, it is empty.
    """
    height, width = size
    tries = ATTEMPTS * count
    pixels = uniform(*area, tries, generator) * (height * width)
    log_low, log_high = torch.tensor(ratio).log().tolist()
    ratios = uniform(log_low, log_high, tries, generator).exp()
    heights = (pixels / ratios).sqrt().round().long().view(ATTEMPTS, count)
    widths = (pixels * ratios).sqrt().round().long().view(ATTEMPTS, count)
    fits = (heights > 0) & (heights <= largest[0]) & (widths > 0) & (widths <= largest[1])
    first = fits.int().argmax(0, keepdim=True)
    found = fits.any(0)
    box_height = heights.gather(0, first)[0] * found
    box_width = widths.gather(0, first)[0] * found
    top = up_to(height - box_height, generator)
    left = up_to(width - box_width, generator)
    return Boxes(top, left, box_height, box_width)
