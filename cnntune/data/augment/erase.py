"""Holes in images: the network has to learn from what is left.

A hole holds 0, the mean colour of normalised inputs, as the papers have it.
"""

import torch
from torch import Generator, Tensor

from cnntune.data.augment.draws import Boxes, draw_boxes

ERASED_AREA = (0.02, 0.33)  # of the image; these two are torchvision's defaults, after section 4 of
ERASED_RATIO = (0.3, 3.3)  # Zhong et al. 2017: height over width


def cutout(inputs: Tensor, side: int, generator: Generator) -> Tensor:
    """Cut a square of `side` pixels out of each image (DeVries and Taylor 2017).

    Its middle is any pixel of the image, so that a part of it may lie outside.
    """
    count, _, height, width = inputs.shape
    top = torch.randint(height, (count,), generator=generator) - side // 2
    left = torch.randint(width, (count,), generator=generator) - side // 2
    sides = torch.full((count,), side)
    return _emptied(inputs, Boxes(top, left, sides, sides))


def erase(inputs: Tensor, probability: float, generator: Generator) -> Tensor:
    """Cut a rectangle out of that share of the images (random erasing, Zhong et al. 2017)."""
    count, _, height, width = inputs.shape
    chosen = torch.rand(count, generator=generator) < probability
    low, high = ERASED_RATIO
    boxes = draw_boxes(
        count,
        (height, width),
        area=ERASED_AREA,
        ratio=(1 / high, 1 / low),
        largest=(height - 1, width - 1),
        generator=generator,
    )
    return _emptied(inputs, Boxes(boxes.top, boxes.left, boxes.height * chosen, boxes.width))


def _emptied(inputs: Tensor, boxes: Boxes) -> Tensor:
    height, width = inputs.shape[-2:]
    return inputs.masked_fill(boxes.cover((height, width), inputs.device), 0.0)
