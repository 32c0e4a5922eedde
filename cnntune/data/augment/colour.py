"""Colour transforms: brightness, contrast, saturation and hue, as in torchvision's ColorJitter.

`pixels` are float `[B, C, H, W]` in 0..1, changed in place; `factors` are float `[B]`, one per
image.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Generator, Tensor

from cnntune.data.augment.draws import Draw, Shape, uniform
from cnntune.data.copies import send
from cnntune.data.parts import Normalise

LUMA = (0.2989, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601, as in torchvision


@dataclass(frozen=True)
class Jitter:
    """Change the colours of each image, in random order per image.

    `strengths` maps the names of changes to the ranges of their factors: 1 - s ... 1 + s, but not
    below 0, and for the hue -s ... s of a full turn. Images are arranged so that those with one
    change are neighbors: it is applied to a slice, and each position takes one gather.
    """

    strengths: dict[str, float]
    normalise: Normalise

    def draw(self, shape: Shape, generator: Generator) -> Draw:
        """Per position in the order: where each image comes from, its factor, images per change.

        `from` is int64 `[B, changes + 1]`: the last column puts the images back in their places.
        """
        count = shape[0]
        drawn = [_factors(name, s, count, generator) for name, s in self.strengths.items()]
        changes, factors = len(self.strengths), torch.stack(drawn, dim=1)
        order = torch.rand(count, changes, generator=generator).argsort(1)
        arranged, change = order.sort(dim=0, stable=True)[::-1]
        places = arranged.argsort(0)  # of each image, per position
        gathers = [arranged[:, 0]]
        gathers += [places[:, k - 1][arranged[:, k]] for k in range(1, changes)]
        rows = {
            "from": torch.stack([*gathers, places[:, -1]], dim=1),
            "factor": factors[arranged, change],
        }
        sizes = [torch.bincount(row, minlength=changes).tolist() for row in change.T]
        return Draw(rows, tuple(tuple(row) for row in sizes))

    def __call__(self, inputs: Tensor, draw: Draw) -> Tensor:
        """The images in changed colours."""
        # Channel by channel, so that a factor is constant over many values that lie side by side.
        pixels = self.normalise.undo(inputs.contiguous())
        gathers, factors = draw.rows["from"].unbind(1), draw.rows["factor"].unbind(1)
        for gather, factor, sizes in zip(gathers, factors, draw.sizes, strict=False):
            pixels = pixels.index_select(0, gather)
            slices = zip(self.strengths, pixels.split(sizes), factor.split(sizes), strict=True)
            for name, images, each in slices:
                CHANGES[name](images, each)
        return self.normalise(pixels.index_select(0, gathers[-1]))


def _factors(name: str, strength: float, count: int, generator: Generator) -> Tensor:
    if name == "hue":
        return uniform(-strength, strength, count, generator)
    return uniform(max(0.0, 1 - strength), 1 + strength, count, generator)


def brightness(pixels: Tensor, factors: Tensor) -> None:
    """Scale all values: 0 is black, 1 changes nothing."""
    pixels.mul_(factors.view(-1, 1, 1, 1)).clamp_(0, 1)


def contrast(pixels: Tensor, factors: Tensor) -> None:
    """Move all values away from the mean grey of the image, or (below 1) towards it."""
    _move_from(_grey(pixels).mean((1, 2, 3), keepdim=True), pixels, factors)


def saturation(pixels: Tensor, factors: Tensor) -> None:
    """Move each colour of `[B, 3, H, W]` away from its grey, or (below 1) towards it."""
    _move_from(_grey(pixels), pixels, factors)


def hue(pixels: Tensor, factors: Tensor) -> None:
    """Rotate the hue of `[B, 3, H, W]`; 1 is a full turn.

    Value and saturation, as defined in HSV, do not change (Smith 1978).
    """
    value, brightest = pixels.max(1)
    chroma = value - pixels.amin(1)
    red, green, blue = pixels.unbind(1)
    # Sixths of a turn from the hue of the brightest channel, which is 0, 2 or 4 sixths.
    behind = torch.stack([green - blue, blue - red, red - green]).gather(0, brightest[None])[0]
    sixths = behind / chroma.clamp(min=torch.finfo(chroma.dtype).tiny) + 2 * brightest
    sixths = sixths + 6 * factors.view(-1, 1, 1)
    # Each channel is lower than the value, by up to the chroma, the further away its hue is.
    away = torch.stack([sixths + 5, sixths + 3, sixths + 1], dim=1) % 6
    share = torch.minimum(away, 4 - away).clamp(0, 1)
    torch.sub(value.unsqueeze(1), chroma.unsqueeze(1) * share, out=pixels)


CHANGES: dict[str, Callable[[Tensor, Tensor], None]] = {
    "brightness": brightness,
    "contrast": contrast,
    "saturation": saturation,
    "hue": hue,
}


def _move_from(anchor: Tensor, pixels: Tensor, factors: Tensor) -> None:
    pixels.sub_(anchor).mul_(factors.view(-1, 1, 1, 1)).add_(anchor).clamp_(0, 1)


def _grey(pixels: Tensor) -> Tensor:
    """`[B, 1, H, W]`; for other than three channels their mean."""
    if pixels.shape[1] != len(LUMA):
        return pixels.mean(1, keepdim=True)
    return (pixels * _luma(pixels.device)).sum(1, keepdim=True)


@cache
def _luma(device: torch.device) -> Tensor:
    """`[1, 3, 1, 1]`, sent to the device once."""
    return send(torch.tensor(LUMA).view(1, -1, 1, 1), device)
