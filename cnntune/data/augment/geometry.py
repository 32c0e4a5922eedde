"""Geometric transforms: flips, crops, rotation, translation and zoom, with black outside the image.

`inputs` are float `[B, C, H, W]`; `black`, the normalised value of a pixel of 0, is `[1, C, 1, 1]`.
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from cnntune.data.augment.draws import Boxes, Draw, Shape, draw_boxes, uniform

HORIZONTAL, VERTICAL = 3, 2  # the axes of [B, C, H, W] that a flip reverses


@dataclass(frozen=True)
class Flip:
    """Flip each image along `axis` with probability 1/2."""

    axis: int

    def draw(self, shape: Shape, generator: Generator) -> Draw:
        """Which images are flipped."""
        return Draw({"mirrored": torch.rand(shape[0], generator=generator) < 0.5})

    def __call__(self, inputs: Tensor, draw: Draw) -> Tensor:
        """The images, some of them flipped."""
        mirrored = draw.rows["mirrored"].view(-1, 1, 1, 1)
        return torch.where(mirrored, inputs.flip(self.axis), inputs)


@dataclass(frozen=True)
class Crop:
    """Shift each image by up to `padding` pixels along both axes: pad, then crop."""

    padding: int
    black: Tensor

    def draw(self, shape: Shape, generator: Generator) -> Draw:
        """Where the crops start in the padded images."""
        top, left = torch.randint(2 * self.padding + 1, (2, shape[0]), generator=generator)
        return Draw({"top": top, "left": left})

    def __call__(self, inputs: Tensor, draw: Draw) -> Tensor:
        """The images, shifted."""
        count, _, height, width = inputs.shape
        edge = self.padding
        padded = F.pad(inputs, [edge] * 4)
        for strip in (padded[:, :, :edge], padded[:, :, -edge:]):
            strip[:] = self.black
        for strip in (padded[..., :edge], padded[..., -edge:]):
            strip[:] = self.black
        images = torch.arange(count, device=inputs.device)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view, without a copy
        chosen = windows[images, :, draw.rows["top"], draw.rows["left"]]
        return chosen.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class ResizedCrop:
    """Crop between `min_area` and all of each image's area, and resize it to the whole image.

    Width over height is between 1 / `max_ratio` and `max_ratio` (Szegedy et al. 2015).
    """

    min_area: float
    max_ratio: float

    def draw(self, shape: Shape, generator: Generator) -> Draw:
        """The boxes that are kept."""
        count, height, width = shape
        size = (height, width)
        boxes = draw_boxes(
            count,
            size,
            area=(self.min_area, 1.0),
            ratio=(1 / self.max_ratio, self.max_ratio),
            largest=size,
            generator=generator,
        )
        return Draw(_or_centre(boxes, size, self.max_ratio).rows())

    def __call__(self, inputs: Tensor, draw: Draw) -> Tensor:
        """The boxes, enlarged."""
        return enlarge(inputs, Boxes.of(draw.rows))


def _or_centre(boxes: Boxes, size: tuple[int, int], max_ratio: float) -> Boxes:
    """Where a box is empty, the centre of the image, as large as the ratio allows."""
    height, width = size
    box_height = min(height, round(width * max_ratio))
    box_width = min(width, round(height * max_ratio))
    empty = boxes.height == 0
    return Boxes(
        boxes.top.masked_fill(empty, (height - box_height) // 2),
        boxes.left.masked_fill(empty, (width - box_width) // 2),
        boxes.height.masked_fill(empty, box_height),
        boxes.width.masked_fill(empty, box_width),
    )


def enlarge(inputs: Tensor, boxes: Boxes) -> Tensor:
    """Resize each box to the whole image, bilinearly."""
    _, _, height, width = inputs.shape
    y = _sampled_at(boxes.top, boxes.height, height)
    x = _sampled_at(boxes.left, boxes.width, width)
    grid = torch.stack(
        [x.unsqueeze(1).expand(-1, height, -1), y.unsqueeze(2).expand(-1, -1, width)], dim=3
    )
    return _sample(inputs, grid)


def _sampled_at(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Where each of `size` pixels is sampled, `[B, size]`, in -1 ... 1 from edge to edge.

    Pixels outside the box do not contribute, as if the box had been cropped first.
    """
    start, length = start.view(-1, 1), length.view(-1, 1)
    centres = torch.arange(size, device=start.device) + 0.5
    positions = start + centres * length / size
    inside = torch.minimum(torch.maximum(positions, start + 0.5), start + length - 0.5)
    return inside * 2 / size - 1


@dataclass(frozen=True)
class Affine:
    """Rotate, translate, zoom and shear each image about its centre, in one resampling.

    `rotate` and `shear` are the maximum angles in degrees, `translate` the maximum shift as a
    fraction of the side, rounded to pixels; the zoom is between 1 - `zoom` and 1 + `zoom`.
    """

    black: Tensor
    rotate: float = 0.0
    translate: float = 0.0
    zoom: float = 0.0
    shear: float = 0.0

    def draw(self, shape: Shape, generator: Generator) -> Draw:
        """The matrices of `sources`."""
        count, height, width = shape
        down_limit, right_limit = self.translate * height, self.translate * width
        angle = uniform(-self.rotate, self.rotate, count, generator)
        right = uniform(-right_limit, right_limit, count, generator).round()
        down = uniform(-down_limit, down_limit, count, generator).round()
        factor = uniform(1 - self.zoom, 1 + self.zoom, count, generator)
        shear_angle = uniform(-self.shear, self.shear, count, generator)
        return Draw({"matrices": sources(angle, right, down, factor, shear_angle)})

    def __call__(self, inputs: Tensor, draw: Draw) -> Tensor:
        """The images, resampled; black outside."""
        return warp(inputs, self.black, draw.rows["matrices"])


def sources(
    angle: Tensor, right: Tensor, down: Tensor, factor: Tensor, shear_angle: Tensor
) -> Tensor:
    """Matrices `[B, 2, 3]` from the position of a pixel to the position that it is sampled from.

    Positions are in pixels from the centre of the image. Angles are clockwise in degrees; the image
    is sheared along x by `shear_angle`, zoomed by `factor`, rotated, and shifted, in this order.
    """
    angle, tangent = torch.deg2rad(angle), torch.deg2rad(shear_angle).tan()
    cos, sin = angle.cos() / factor, angle.sin() / factor
    across = torch.stack([cos - tangent * sin, sin + tangent * cos], dim=1)
    along = torch.stack([-sin, cos], dim=1)
    rotated = torch.stack([across, along], dim=1)
    shift = -rotated @ torch.stack([right, down], dim=1).unsqueeze(2)
    return torch.cat([rotated, shift], dim=2)


def warp(inputs: Tensor, black: Tensor, matrices: Tensor) -> Tensor:
    """Sample each pixel at the position that `matrices` give, bilinearly."""
    _, _, height, width = inputs.shape
    # From pixels to -1 ... 1.
    scaled = torch.stack([matrices[:, 0] / (width / 2), matrices[:, 1] / (height / 2)], dim=1)
    to_x, to_y, shift = scaled.unbind(2)
    x = torch.arange(width, device=inputs.device) + 0.5 - width / 2
    y = torch.arange(height, device=inputs.device) + 0.5 - height / 2
    along_rows = to_x.view(-1, 1, 1, 2) * x.view(1, 1, -1, 1)
    down_columns = to_y.view(-1, 1, 1, 2) * y.view(1, -1, 1, 1) + shift.view(-1, 1, 1, 2)
    return _sample(inputs - black, along_rows + down_columns) + black  # grid_sample pads with 0


def _sample(inputs: Tensor, grid: Tensor) -> Tensor:
    sampled = F.grid_sample(inputs, grid, align_corners=False)
    return sampled.contiguous(memory_format=torch.channels_last)
