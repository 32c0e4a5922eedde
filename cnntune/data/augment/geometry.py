"""Geometric transforms: flips, crops, rotation, translation and zoom, with black outside the image.

`inputs` are float `[B, C, H, W]`; `black`, the normalised value of a pixel of 0, is `[1, C, 1, 1]`.
"""

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from cnntune.data.augment.draws import Boxes, draw_boxes, uniform

HORIZONTAL, VERTICAL = 3, 2  # the axes of [B, C, H, W] that a flip reverses


def flip(inputs: Tensor, axis: int, generator: Generator) -> Tensor:
    """Flip each image with probability 1/2."""
    mirrored = torch.rand(len(inputs), generator=generator) < 0.5
    return torch.where(mirrored.to(inputs.device).view(-1, 1, 1, 1), inputs.flip(axis), inputs)


def crop(inputs: Tensor, padding: int, black: Tensor, generator: Generator) -> Tensor:
    """Shift each image by up to `padding` pixels along both axes: pad, then crop."""
    count, _, height, width = inputs.shape
    padded = F.pad(inputs, [padding] * 4)
    for edge in (padded[:, :, :padding], padded[:, :, -padding:]):
        edge[:] = black
    for edge in (padded[..., :padding], padded[..., -padding:]):
        edge[:] = black
    offsets = torch.randint(2 * padding + 1, (2, count), generator=generator).to(inputs.device)
    images = torch.arange(count, device=inputs.device)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view, without a copy
    chosen = windows[images, :, offsets[0], offsets[1]]
    return chosen.contiguous(memory_format=torch.channels_last)


def resized_crop(inputs: Tensor, min_area: float, max_ratio: float, generator: Generator) -> Tensor:
    """Crop between `min_area` and all of each image's area, and resize it to the whole image.

    Width over height is between 1 / `max_ratio` and `max_ratio` (Szegedy et al. 2015).
    """
    count, _, height, width = inputs.shape
    boxes = draw_boxes(
        count,
        (height, width),
        area=(min_area, 1.0),
        ratio=(1 / max_ratio, max_ratio),
        largest=(height, width),
        generator=generator,
    )
    return enlarge(inputs, _or_centre(boxes, (height, width), max_ratio))


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
    y = _sampled_at(boxes.top, boxes.height, height, inputs.device)
    x = _sampled_at(boxes.left, boxes.width, width, inputs.device)
    grid = torch.stack(
        [x.unsqueeze(1).expand(-1, height, -1), y.unsqueeze(2).expand(-1, -1, width)], dim=3
    )
    return _sample(inputs, grid)


def _sampled_at(start: Tensor, length: Tensor, size: int, device: torch.device) -> Tensor:
    """Where each of `size` pixels is sampled, `[B, size]`, in -1 ... 1 from edge to edge.

    Pixels outside the box do not contribute, as if the box had been cropped first.
    """
    start, length = start.to(device).view(-1, 1), length.to(device).view(-1, 1)
    centres = torch.arange(size, device=device) + 0.5
    positions = start + centres * length / size
    inside = torch.minimum(torch.maximum(positions, start + 0.5), start + length - 0.5)
    return inside * 2 / size - 1


def affine(
    inputs: Tensor,
    black: Tensor,
    generator: Generator,
    *,
    rotate: float = 0.0,
    translate: float = 0.0,
    zoom: float = 0.0,
    shear: float = 0.0,
) -> Tensor:
    """Rotate, translate, zoom and shear each image about its centre, in one resampling.

    `rotate` and `shear` are the maximum angles in degrees, `translate` the maximum shift as a
    fraction of the side, rounded to pixels; the zoom is between 1 - `zoom` and 1 + `zoom`.
    """
    count, _, height, width = inputs.shape
    angle = uniform(-rotate, rotate, count, generator)
    right = uniform(-translate * width, translate * width, count, generator).round()
    down = uniform(-translate * height, translate * height, count, generator).round()
    factor = uniform(1 - zoom, 1 + zoom, count, generator)
    shear_angle = uniform(-shear, shear, count, generator)
    return warp(inputs, black, sources(angle, right, down, factor, shear_angle))


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
    half = torch.tensor([width / 2, height / 2])  # from pixels to -1 ... 1
    to_x, to_y, shift = (matrices / half.view(1, 2, 1)).to(inputs.device).unbind(2)
    x = torch.arange(width, device=inputs.device) + 0.5 - width / 2
    y = torch.arange(height, device=inputs.device) + 0.5 - height / 2
    along_rows = to_x.view(-1, 1, 1, 2) * x.view(1, 1, -1, 1)
    down_columns = to_y.view(-1, 1, 1, 2) * y.view(1, -1, 1, 1) + shift.view(-1, 1, 1, 2)
    return _sample(inputs - black, along_rows + down_columns) + black  # grid_sample pads with 0


def _sample(inputs: Tensor, grid: Tensor) -> Tensor:
    sampled = F.grid_sample(inputs, grid, align_corners=False)
    return sampled.contiguous(memory_format=torch.channels_last)
