"""Random numbers and boxes, one per image, drawn on the CPU from a given generator."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

ATTEMPTS = 10  # boxes drawn before giving up, as in torchvision's RandomResizedCrop


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

    def cover(self, size: tuple[int, int], device: torch.device) -> Tensor:
        """Which pixels of images of `size` (height, width) are inside: bool `[B, 1, H, W]`."""
        rows = _between(self.top, self.height, size[0], device)
        columns = _between(self.left, self.width, size[1], device)
        return (rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1)


def _between(start: Tensor, length: Tensor, size: int, device: torch.device) -> Tensor:
    """Bool `[B, size]`: which indices are in `start` ... `start + length - 1`."""
    start, length = start.to(device).view(-1, 1), length.to(device).view(-1, 1)
    indices = torch.arange(size, device=device)
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
