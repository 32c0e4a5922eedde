"""Test-time augmentation: views of a test image, whose predictions are averaged."""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import TypeAlias

from torch import Tensor
from torch.nn import functional as F

from cnntune.config.recipe import FinalTestSection

View: TypeAlias = Callable[[Tensor], Tensor]

CROPPED = 256 / 224  # Krizhevsky et al. 2012, section 4.1: crops of 224 pixels from 256
MIDDLE = (0.5, 0.5)  # share of the margin that lies above a crop, and to its left
CORNERS = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))


def views(settings: FinalTestSection, black: Tensor) -> list[View]:
    """Functions from inputs `[B, C, H, W]` to the network's inputs, of the same shape.

    The whole image, or the four corners and the centre of an image enlarged by 256 / 224 ("five
    crops"); "flip" and "ten crops" add the mirror image of each. All of it once per scale: a larger
    image is cropped to its centre, and a smaller one padded with `black` (`[1, C, 1, 1]`).
    """
    crops = settings.views in ("five-crop", "ten-crop")
    positions = (MIDDLE, *CORNERS) if crops else (MIDDLE,)
    mirrored = (False, True) if settings.views in ("flip", "ten-crop") else (False,)
    enlarged = CROPPED if crops else 1.0
    return [
        partial(view, scale=scale * enlarged, position=position, mirror=mirror, black=black)
        for scale, position, mirror in product(settings.scales, positions, mirrored)
    ]


def view(
    inputs: Tensor, *, scale: float, position: tuple[float, float], mirror: bool, black: Tensor
) -> Tensor:
    """Resize `inputs` by `scale` and crop them to their old size at `position`."""
    height, width = inputs.shape[-2:]
    tall, wide = max(1, round(scale * height)), max(1, round(scale * width))
    if (tall, wide) != (height, width):
        size = [tall, wide]
        resized = F.interpolate(inputs - black, size, mode="bilinear", antialias=True)
        top, left = round(position[0] * (tall - height)), round(position[1] * (wide - width))
        # Negative padding crops.
        edges = [-left, left + width - wide, -top, top + height - tall]
        inputs = F.pad(resized, edges) + black
    return inputs.flip(3) if mirror else inputs
