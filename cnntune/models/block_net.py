"""One network with any block: for searches that compare architectures on small images."""

import math
from collections import OrderedDict
from typing import Annotated, Any

from pydantic import WrapValidator
from pydantic_core import PydanticCustomError
from torch import nn

from cnntune.errors import RecipeError
from cnntune.models.blocks import BLOCKS, LINEAR_SUM, WITH_SHORTCUT, Block, Residual, Style
from cnntune.models.layers import (
    ACTIVATIONS,
    HEAD_STD,
    Activation,
    Dropout,
    Init,
    Norm,
    halvings_of,
    head,
    initialise,
    keeps_scale,
)

STAGES = 3  # He et al. 2015, section 4.2: 32, 16 and 8 pixels
MIN_WIDTH = 8  # channels; an inception block divides them into eighths


def _at_least(minimum: int) -> WrapValidator:
    """Validate one number for all stages or a list with one per stage, with a single message."""

    def check(value: Any, validate: Any) -> Any:
        try:
            numbers = validate(value)
        except ValueError:
            numbers = []
        if not numbers or min([numbers] if isinstance(numbers, int) else numbers) < minimum:
            text = f"must be an integer >= {minimum}, or a list with one per stage"
            raise PydanticCustomError("per_stage", "{text}", {"text": text})
        return numbers

    return WrapValidator(check)


Widths = Annotated[int | list[int], _at_least(MIN_WIDTH)]
Depths = Annotated[int | list[int], _at_least(1)]


def block_net(
    *,
    num_classes: int,
    in_shape: tuple[int, int, int],
    block: Block = "residual",
    widths: Widths = 16,
    depths: Depths = 2,
    norm: Norm = "batch",
    activation: Activation = "relu",
    init: Init = "kaiming",
    dropout: Dropout = 0.0,
    stochastic_depth: Dropout = 0.0,
) -> nn.Module:
    """Stages of one kind of block: float32 `[N, C, H, W]` -> logits `[N, num_classes]`.

    A 3x3 convolution, then the stages, with 2x2 max-pooling between them while the map stays at
    least 4x4, then the mean over the map and a linear layer. Inverted residual and ConvNeXt blocks
    have no activation after the sum, so a last 1x1 convolution follows them, as in MobileNet V2.

    `widths` and `depths` are the channels and the blocks of each stage; a single width doubles from
    stage to stage, a single depth is used for all, and without a list there are three stages.
    Dropout is before the last layer. `stochastic_depth` is the fraction of images that skip the
    last branch; earlier ones are skipped less, in proportion to their depth (Huang et al. 2016).
    With `init` "normal:STD" or "default" no weight is rescaled, so that the lecture's experiments
    on initialisation can be repeated.

    Raises:
        RecipeError: where `widths` and `depths` are lists of different lengths, or
            stochastic depth is used with a block that has no shortcut.
    """
    stages = _stages(widths, depths)
    if stochastic_depth and block not in WITH_SHORTCUT:
        raise RecipeError(
            f"model.stochastic_depth: must be 0 with block {block!r}, which has no shortcut;"
            f" blocks with one: {', '.join(WITH_SHORTCUT)}"
        )
    model = _body(block, in_shape, stages, Style(norm, activation))
    initialise(model, init, activation)
    blocks = [module for module in model if isinstance(module, Residual)]
    for number, residual in enumerate(blocks, start=1):
        residual.scale_branch(1 / math.sqrt(len(blocks)), weights=keeps_scale(init))
        if init == "kaiming":
            for conv in residual.bare_convs():
                conv.weight.data.div_(ACTIVATIONS[activation][1])
        if stochastic_depth:
            residual.set_drop_rate(stochastic_depth * number / len(blocks))
    last = head(stages[-1][0], num_classes, dropout, HEAD_STD)
    if not keeps_scale(init):
        initialise(last, init, activation)
    model.add_module("head", last)
    return model


def _body(
    block: Block, in_shape: tuple[int, int, int], stages: list[tuple[int, int]], style: Style
) -> nn.Sequential:
    """The network without its head."""
    channels, height, pixels = in_shape
    poolings = halvings_of(min(height, pixels))
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["stem"] = style.unit(channels, stages[0][0], 3)
    channels = stages[0][0]
    for number, (width, depth) in enumerate(stages):
        if 1 <= number <= poolings:
            layers[f"pool{number}"] = nn.MaxPool2d(2)
        for i in range(depth):
            layers[f"stage{number + 1}-{i + 1}"] = BLOCKS[block](channels, width, style)
            channels = width
    if block in LINEAR_SUM:
        layers["last"] = style.unit(channels, channels, 1)
    return nn.Sequential(layers)


def _stages(widths: int | list[int], depths: int | list[int]) -> list[tuple[int, int]]:
    """Channels and blocks of each stage."""
    lists = [numbers for numbers in (widths, depths) if not isinstance(numbers, int)]
    count = len(lists[0]) if lists else STAGES
    if len(lists) == 2 and len(lists[1]) != count:
        raise RecipeError(
            "model.depths: must have one number for each of the"
            f" {len(lists[0])} widths (got {len(lists[1])})"
        )
    if isinstance(widths, int):
        widths = [widths * 2**stage for stage in range(count)]
    if isinstance(depths, int):
        depths = [depths] * count
    return list(zip(widths, depths, strict=True))
