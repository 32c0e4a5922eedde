"""Cutout and random erasing: the network has to learn from the rest of the image.

Erased pixels are 0, the mean colour of normalised inputs, as in the papers.
"""

import torch
from torch import Generator, Tensor

from cnntune.data.augment.draws import Boxes, draw_boxes

# torchvision's defaults, from section 4 of Zhong et al. 2017.
ERASED_AREA = (0.02, 0.33)  # of the image
ERASED_RATIO = (0.3, 3.3)  # height over width


def cutout(inputs: Tensor, side: int, generator: Generator) -> Tensor:
    """Erase a square of `side` pixels in each image (DeVries and Taylor 2017).

    Its centre is any pixel of the image, so the square may be partly outside.
    """
    count, _, height, width = inputs.shape
    top = torch.randint(height, (count,), generator=generator) - side // 2
    left = torch.randint(width, (count,), generator=generator) - side // 2
    sides = torch.full((count,), side)
    return _erased(inputs, Boxes(top, left, sides, sides))


def erase(inputs: Tensor, probability: float, generator: Generator) -> Tensor:
    """Erase a rectangle in each image with `probability` (random erasing, Zhong et al. 2017)."""
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
    return _erased(inputs, Boxes(boxes.top, boxes.left, boxes.height * chosen, boxes.width))


def _erased(inputs: Tensor, boxes: Boxes) -> Tensor:
    height, width = inputs.shape[-2:]
    return inputs.masked_fill(boxes.cover((height, width), inputs.device), 0.0)
