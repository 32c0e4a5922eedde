"""Colour transforms: brightness, contrast, saturation and hue, as in torchvision's ColorJitter.

`pixels` are float `[B, C, H, W]` in 0..1, `factors` float `[B]`, one per image.
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from cnntune.data.augment.draws import uniform

LUMA = (0.2989, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601, as in torchvision


def jitter(pixels: Tensor, strengths: dict[str, float], generator: Generator) -> Tensor:
    """Change the colours of each image, in random order per image.

    `strengths` maps the names of changes to the ranges of their factors: 1 - s ... 1 + s, but not
    below 0, and for the hue -s ... s of a full turn.
    """
    count = len(pixels)
    factors = [_factors(name, s, count, generator) for name, s in strengths.items()]
    order = torch.rand(count, len(strengths), generator=generator).argsort(1)
    pixels = pixels.clone()
    for position in range(len(strengths)):
        for index, name in enumerate(strengths):
            chosen = (order[:, position] == index).nonzero().flatten()
            factor = factors[index][chosen].to(pixels.device)
            chosen = chosen.to(pixels.device)
            pixels[chosen] = CHANGES[name](pixels[chosen], factor)
    return pixels


def _factors(name: str, strength: float, count: int, generator: Generator) -> Tensor:
    if name == "hue":
        return uniform(-strength, strength, count, generator)
    return uniform(max(0.0, 1 - strength), 1 + strength, count, generator)


def brightness(pixels: Tensor, factors: Tensor) -> Tensor:
    """Scale all values: 0 is black, 1 changes nothing."""
    return (pixels * factors.view(-1, 1, 1, 1)).clamp(0, 1)


def contrast(pixels: Tensor, factors: Tensor) -> Tensor:
    """Move all values away from the mean grey of the image, or (below 1) towards it."""
    return _away_from(_grey(pixels).mean((1, 2, 3), keepdim=True), pixels, factors)


def saturation(pixels: Tensor, factors: Tensor) -> Tensor:
    """Move each colour of `[B, 3, H, W]` away from its grey, or (below 1) towards it."""
    return _away_from(_grey(pixels), pixels, factors)


def hue(pixels: Tensor, factors: Tensor) -> Tensor:
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
    return value.unsqueeze(1) - chroma.unsqueeze(1) * share


CHANGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": brightness,
    "contrast": contrast,
    "saturation": saturation,
    "hue": hue,
}


def _away_from(anchor: Tensor, pixels: Tensor, factors: Tensor) -> Tensor:
    return (anchor + factors.view(-1, 1, 1, 1) * (pixels - anchor)).clamp(0, 1)


def _grey(pixels: Tensor) -> Tensor:
    """`[B, 1, H, W]`; for other than three channels their mean."""
    if pixels.shape[1] != len(LUMA):
        return pixels.mean(1, keepdim=True)
    weights = torch.tensor(LUMA, device=pixels.device).view(1, -1, 1, 1)
    return (pixels * weights).sum(1, keepdim=True)
