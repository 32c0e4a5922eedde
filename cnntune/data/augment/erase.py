"""Cutout and random erasing: the network has to learn from the rest of the image.

Erased pixels are 0, the mean colour of normalised inputs, as in the papers.
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from cnntune.data.augment.draws import Boxes, Draw, Shape, draw_boxes

# torchvision's defaults, from section 4 of Zhong et al. 2017.
ERASED_AREA = (0.02, 0.33)  # of the image
ERASED_RATIO = (0.3, 3.3)  # height over width


@dataclass(frozen=True)
class Cutout:
    """Erase a square of `side` pixels in each image (DeVries and Taylor 2017).

    Its centre is any pixel of the image, so the square may be partly outside.
    """

    side: int

    def draw(self, shape: Shape, generator: Generator) -> Draw:
        """The squares."""
        count, height, width = shape
        top = torch.randint(height, (count,), generator=generator) - self.side // 2
        left = torch.randint(width, (count,), generator=generator) - self.side // 2
        sides = torch.full((count,), self.side)
        return Draw(Boxes(top, left, sides, sides).rows())

    def __call__(self, inputs: Tensor, draw: Draw) -> Tensor:
        """The images without their squares."""
        return _erased(inputs, Boxes.of(draw.rows))


@dataclass(frozen=True)
class Erase:
    """Erase a rectangle in each image with `probability` (random erasing, Zhong et al. 2017)."""

    probability: float

    def draw(self, shape: Shape, generator: Generator) -> Draw:
        """The rectangles; an image that keeps all of its pixels has an empty one."""
        count, height, width = shape
        chosen = torch.rand(count, generator=generator) < self.probability
        low, high = ERASED_RATIO
        boxes = draw_boxes(
            count,
            (height, width),
            area=ERASED_AREA,
            ratio=(1 / high, 1 / low),
            largest=(height - 1, width - 1),
            generator=generator,
        )
        return Draw(Boxes(boxes.top, boxes.left, boxes.height * chosen, boxes.width).rows())

    def __call__(self, inputs: Tensor, draw: Draw) -> Tensor:
        """The images without their rectangles."""
        return _erased(inputs, Boxes.of(draw.rows))


def _erased(inputs: Tensor, boxes: Boxes) -> Tensor:
    height, width = inputs.shape[-2:]
    return inputs.masked_fill(boxes.cover((height, width)), 0.0)
