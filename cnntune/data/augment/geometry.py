"""Where pixels go: flips, shifts, turns and zooms, with black behind what lies outside.

`inputs` are float `[B, C, H, W]`; `black`, what a pixel of 0 is to the network, is `[1, C, 1, 1]`.
"""

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from cnntune.data.augment.draws import Boxes, draw_boxes, uniform

HORIZONTAL, VERTICAL = 3, 2  # the axes of [B, C, H, W] that a flip turns over


def flip(inputs: Tensor, axis: int, generator: Generator) -> Tensor:
    """Mirror half of the images."""
    mirrored = torch.rand(len(inputs), generator=generator) < 0.5
    return torch.where(mirrored.to(inputs.device).view(-1, 1, 1, 1), inputs.flip(axis), inputs)


def crop(inputs: Tensor, padding: int, black: Tensor, generator: Generator) -> Tensor:
    """Shift each image by up to `padding` pixels in both directions: pad, then crop back."""
    count, _, height, width = inputs.shape
    padded = F.pad(inputs, [padding] * 4)
    for edge in (padded[:, :, :padding], padded[:, :, -padding:]):
        edge[:] = black
    for edge in (padded[..., :padding], padded[..., -padding:]):
        edge[:] = black
    offsets = torch.randint(2 * padding + 1, (2, count), generator=generator).to(inputs.device)
    images = torch.arange(count, device=inputs.device)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view: no window is stored
    chosen = windows[images, :, offsets[0], offsets[1]]
    return chosen.contiguous(memory_format=torch.channels_last)


def resized_crop(
    inputs: Tensor, smallest: float, largest_ratio: float, generator: Generator
) -> Tensor:
    """Cut out between `smallest` and all of each image's area, and enlarge it to the whole.

    Width over height lies between 1 / `largest_ratio` and `largest_ratio` (Szegedy et al. 2015).
    """
    count, _, height, width = inputs.shape
    boxes = draw_boxes(
        count,
        (height, width),
        area=(smallest, 1.0),
        ratio=(1 / largest_ratio, largest_ratio),
        largest=(height, width),
        generator=generator,
    )
    return enlarge(inputs, _or_middle(boxes, (height, width), largest_ratio))


def _or_middle(boxes: Boxes, size: tuple[int, int], largest_ratio: float) -> Boxes:
    """The middle of an image too oblong for any box, as large as the ratio allows."""
    height, width = size
    tall = min(height, round(width * largest_ratio))
    wide = min(width, round(height * largest_ratio))
    empty = boxes.height == 0
    return Boxes(
        boxes.top.masked_fill(empty, (height - tall) // 2),
        boxes.left.masked_fill(empty, (width - wide) // 2),
        boxes.height.masked_fill(empty, tall),
        boxes.width.masked_fill(empty, wide),
    )


def enlarge(inputs: Tensor, boxes: Boxes) -> Tensor:
    """Stretch what lies in each box over the whole image, bilinearly."""
    _, _, height, width = inputs.shape
    y = _places(boxes.top, boxes.height, height, inputs.device)
    x = _places(boxes.left, boxes.width, width, inputs.device)
    grid = torch.stack(
        [x.unsqueeze(1).expand(-1, height, -1), y.unsqueeze(2).expand(-1, -1, width)], dim=3
    )
    return _sample(inputs, grid)


def _places(start: Tensor, length: Tensor, size: int, device: torch.device) -> Tensor:
    """Where in the image each of `size` pixels looks, `[B, size]`, with -1 and 1 at the edges.

    None looks beyond the pixels of its box, as if the box had been cut out first.
    """
    start, length = start.to(device).view(-1, 1), length.to(device).view(-1, 1)
    centres = torch.arange(size, device=device) + 0.5
    places = start + centres * length / size
    inside = torch.minimum(torch.maximum(places, start + 0.5), start + length - 0.5)
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
    """Turn, shift, zoom and shear each image about its middle, in one pass.

    `rotate` and `shear` are the largest angles in degrees, `translate` the largest shift as a share
    of the side, in whole pixels; the zoom lies between 1 - `zoom` and 1 + `zoom`.
    """
    count, _, height, width = inputs.shape
    angle = uniform(-rotate, rotate, count, generator)
    right = uniform(-translate * width, translate * width, count, generator).round()
    down = uniform(-translate * height, translate * height, count, generator).round()
    factor = uniform(1 - zoom, 1 + zoom, count, generator)
    lean = uniform(-shear, shear, count, generator)
    return warp(inputs, black, sources(angle, right, down, factor, lean))


def sources(angle: Tensor, right: Tensor, down: Tensor, factor: Tensor, lean: Tensor) -> Tensor:
    """Matrices `[B, 2, 3]` from a pixel's place to where its colour comes from.

    Places are in pixels from the middle of the image. Angles are clockwise degrees; the image is
    sheared along x by `lean`, zoomed by `factor`, turned, and shifted, in this order.
    """
    angle, tangent = torch.deg2rad(angle), torch.deg2rad(lean).tan()
    cos, sin = angle.cos() / factor, angle.sin() / factor
    across = torch.stack([cos - tangent * sin, sin + tangent * cos], dim=1)
    along = torch.stack([-sin, cos], dim=1)
    turned = torch.stack([across, along], dim=1)
    shift = -turned @ torch.stack([right, down], dim=1).unsqueeze(2)
    return torch.cat([turned, shift], dim=2)


def warp(inputs: Tensor, black: Tensor, matrices: Tensor) -> Tensor:
    """Fetch the colour of each pixel from where `matrices` say, bilinearly."""
    _, _, height, width = inputs.shape
    half = torch.tensor([width / 2, height / 2])  # from pixels to -1 ... 1
    to_x, to_y, shift = (matrices / half.view(1, 2, 1)).to(inputs.device).unbind(2)
    x = torch.arange(width, device=inputs.device) + 0.5 - width / 2
    y = torch.arange(height, device=inputs.device) + 0.5 - height / 2
    along_rows = to_x.view(-1, 1, 1, 2) * x.view(1, 1, -1, 1)
    down_columns = to_y.view(-1, 1, 1, 2) * y.view(1, -1, 1, 1) + shift.view(-1, 1, 1, 2)
    return _sample(inputs - black, along_rows + down_columns) + black  # outside it reads 0


def _sample(inputs: Tensor, grid: Tensor) -> Tensor:
    sampled = F.grid_sample(inputs, grid, align_corners=False)
    return sampled.contiguous(memory_format=torch.channels_last)
