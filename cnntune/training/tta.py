"""Ways to look at an image when it is tested, whose answers are averaged."""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import TypeAlias

from torch import Tensor
from torch.nn import functional as F

from cnntune.config.recipe import FinalTestSection

View: TypeAlias = Callable[[Tensor], Tensor]

CROPPED = 256 / 224  # Krizhevsky et al. 2012, section 4.1: crops of 224 pixels from 256
MIDDLE = (0.5, 0.5)  # of the room around a crop, above it and to its left
CORNERS = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))


def views(settings: FinalTestSection, black: Tensor) -> list[View]:
    """Functions from inputs `[B, C, H, W]` to what the network sees, of the same shape.

    The whole image, or its four corners and the middle of an image enlarged by 256 / 224 ("five
    crops"), each mirrored as well with "flip" and "ten crops". All of it once for each scale: a
    larger image is cut to its middle, and `black` (`[1, C, 1, 1]`) is put around a smaller one.
    """
    crops = settings.views in ("five-crop", "ten-crop")
    places = (MIDDLE, *CORNERS) if crops else (MIDDLE,)
    mirrored = (False, True) if settings.views in ("flip", "ten-crop") else (False,)
    enlarged = CROPPED if crops else 1.0
    return [
        partial(look, scale=scale * enlarged, place=place, mirror=mirror, black=black)
        for scale, place, mirror in product(settings.scales, places, mirrored)
    ]


def look(
    inputs: Tensor, *, scale: float, place: tuple[float, float], mirror: bool, black: Tensor
) -> Tensor:
    """Enlarge `inputs` and cut them to their old size at `place`."""
    height, width = inputs.shape[-2:]
    tall, wide = max(1, round(scale * height)), max(1, round(scale * width))
    if (tall, wide) != (height, width):
        size = [tall, wide]
        resized = F.interpolate(inputs - black, size, mode="bilinear", antialias=True)
        top, left = round(place[0] * (tall - height)), round(place[1] * (wide - width))
        # Padding by less than nothing cuts off.
        edges = [-left, left + width - wide, -top, top + height - tall]
        inputs = F.pad(resized, edges) + black
    return inputs.flip(3) if mirror else inputs
