"""Generated coloured shapes: a data set of any size and difficulty, without a download.

Only the outline depends on the class: colours, position, size, rotation, background and clutter
have the same distribution for all classes.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Generator, Tensor

from cnntune.config.searchable import OTHER_IMAGES
from cnntune.data.source import (
    MIN_SIDE,
    TEST_FRACTION,
    VAL_FRACTION,
    ClassNames,
    Fraction,
    Images,
    PerClass,
    Size,
    Source,
    choose_classes,
    split_pool,
)

Noise = Annotated[
    float,
    Field(ge=0, le=1, description="standard deviation of the pixel noise, as a share of the range"),
    OTHER_IMAGES,
]
LabelNoise = Annotated[
    float, Field(ge=0, le=1, description="share of the training labels that are wrong")
]
DrawnSide = Annotated[
    int, Field(ge=MIN_SIDE, description="side of the square images, in pixels"), OTHER_IMAGES
]

CHUNK = 500  # images drawn at once; their float arrays then take a few MB
RADIUS = (0.5, 0.85)  # of a shape, as a fraction of half the image: 8 to 14 pixels of 32
DARK = (0.0, 0.5)  # background, separately per channel, as a fraction of the full range
CONTRAST = (0.25, 0.5)  # of the shape to the background, likewise
STROKES = 3  # lines of clutter per image, the last one in front of the shape
STROKE_LENGTH = 0.6  # half of it, as a fraction of half the image
STROKE_WIDTH = 0.05  # half of it, likewise
GRADIENT = 0.2  # of the background, from the centre to an edge, as a fraction of the full range


def shapes(
    *,
    seed: int,
    size: Size = 4000,
    classes: ClassNames | None = None,
    per_class: PerClass | None = None,
    noise: Noise = 0.05,
    label_noise: LabelNoise = 0.0,
    image_size: DrawnSide = 32,
    val_fraction: Fraction = VAL_FRACTION,
    test_fraction: Fraction = TEST_FRACTION,
) -> Source:
    """`size` images in total over the sets, uint8 `[N, 3, image_size, image_size]`, 8 classes.

    `classes` keeps some of the shapes, such as ["star", "ring"], and `per_class` at most that many
    training images of each. `noise` is the standard deviation of the pixel noise as a fraction of
    the full range. `label_noise` is the fraction of training labels replaced by another class;
    validation and test labels stay correct. The same arguments give the same images.

    Raises:
        DataError: where there is no such shape.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(size) % len(SHAPES)
    drawn = [_draw(chunk, image_size, noise, generator) for chunk in torch.split(labels, CHUNK)]
    pool, names = choose_classes(
        Images(torch.cat(drawn), labels), tuple(SHAPES), classes or [*SHAPES]
    )
    source = split_pool(
        pool,
        names,
        seed=seed,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        per_class=per_class,
    )
    assert isinstance(source.train, Images)
    mislabelled = _mislabel(source.train.labels, len(names), label_noise, generator)
    return replace(source, train=replace(source.train, labels=mislabelled))


def _mislabel(labels: Tensor, classes: int, share: float, generator: Generator) -> Tensor:
    chosen = torch.randperm(len(labels), generator=generator)[: round(share * len(labels))]
    shift = torch.randint(1, classes, (len(chosen),), generator=generator)
    noisy = labels.clone()
    noisy[chosen] = (labels[chosen] + shift) % classes
    return noisy


def _draw(labels: Tensor, image_size: int, noise: float, generator: Generator) -> Tensor:
    """One image per label: background, strokes behind, the shape, one stroke in front, noise."""
    count = len(labels)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    # Pixel centres, in units of half the image. x and y are [1, 1, S] and [1, S, 1].
    centres = (torch.arange(image_size) + 0.5) * 2 / image_size - 1
    x, y = centres[None, None, :], centres[None, :, None]

    def paint(image: Tensor, colour: Tensor, distance: Tensor) -> Tensor:
        """Paint `colour` inside the outline, with an edge of one pixel."""
        cover = (0.5 - distance * image_size / 2).clamp(0, 1)[:, None]
        return image + cover * (colour - image)

    background = uniform(*DARK, 3, 1, 1)
    slope = uniform(-GRADIENT, GRADIENT, 2, 3, 1, 1)
    image = background + slope[:, 0] * x[:, None] + slope[:, 1] * y[:, None]
    strokes = [
        (
            uniform(0, 1, 3, 1, 1),
            _stroke(x, y, uniform(-1, 1, 2, 1, 1), uniform(0, 2 * math.pi, 1, 1)),
        )
        for _ in range(STROKES)
    ]
    for colour, distance in strokes[:-1]:
        image = paint(image, colour, distance)

    colour = background + uniform(*CONTRAST, 3, 1, 1)
    radius = uniform(*RADIUS, 1, 1)
    centre = uniform(-1, 1, 2, 1, 1) * (1 - radius[:, None])  # completely inside the image
    u, v = _rotated(x - centre[:, 0], y - centre[:, 1], uniform(0, 2 * math.pi, 1, 1))
    distance = torch.empty(count, image_size, image_size)
    for label, outline in enumerate(SHAPES.values()):
        of_class = labels == label
        size = radius[of_class]
        distance[of_class] = outline(u[of_class] / size, v[of_class] / size) * size
    image = paint(image, colour, distance)
    image = paint(image, *strokes[-1])

    image = image + noise * torch.randn(image.shape, generator=generator)
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)


def _rotated(x: Tensor, y: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    cos, sin = angle.cos(), angle.sin()
    return cos * x + sin * y, cos * y - sin * x


def _stroke(x: Tensor, y: Tensor, middle: Tensor, angle: Tensor) -> Tensor:
    u, v = _rotated(x - middle[:, 0], y - middle[:, 1], angle)
    along = (u.abs() - STROKE_LENGTH).clamp(min=0)
    return (along.square() + v.square()).sqrt() - STROKE_WIDTH


# The outlines: signed distance to the edge, negative inside, of a shape that fits in the circle of
# radius 1. `x` and `y` are float32 [N, S, S]. (Convex ones as in Quilez, "2D distance functions".)


def _circle(x: Tensor, y: Tensor) -> Tensor:
    return (x.square() + y.square()).sqrt() - 0.8  # about the same area as the others


def _ring(x: Tensor, y: Tensor) -> Tensor:
    return ((x.square() + y.square()).sqrt() - 0.75).abs() - 0.2


def _crescent(x: Tensor, y: Tensor) -> Tensor:
    bite = ((x - 0.5).square() + y.square()).sqrt() - 0.75
    return torch.maximum((x.square() + y.square()).sqrt() - 0.95, -bite)


def _cross(x: Tensor, y: Tensor) -> Tensor:
    x, y = x.abs(), y.abs()
    return torch.maximum(torch.maximum(x, y) - 0.9, torch.minimum(x, y) - 0.3)


def _polygon(x: Tensor, y: Tensor, sides: int) -> Tensor:
    """Distances from the lines through all sides of a regular polygon: `[sides, N, S, S]`."""
    inner = math.cos(math.pi / sides)
    turns = [2 * math.pi * side / sides for side in range(sides)]
    return torch.stack([math.cos(turn) * x + math.sin(turn) * y - inner for turn in turns])


def _triangle(x: Tensor, y: Tensor) -> Tensor:
    return _polygon(x, y, 3).amax(0)


def _square(x: Tensor, y: Tensor) -> Tensor:
    return _polygon(x, y, 4).amax(0)


def _pentagon(x: Tensor, y: Tensor) -> Tensor:
    return _polygon(x, y, 5).amax(0)


def _star(x: Tensor, y: Tensor) -> Tensor:
    """Inside at least four of the five lines that join the points of a pentagram."""
    inner = math.cos(2 * math.pi / 5)  # of the inner pentagon, when the points are at radius 1
    shrunk = _polygon(x, y, 5) + math.cos(math.pi / 5) - inner
    return shrunk.topk(2, dim=0).values[1]


SHAPES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "pentagon": _pentagon,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
    "crescent": _crescent,
}
