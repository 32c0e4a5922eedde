"""Two networks for images of 8-64 pixels, small enough for 50 trials in minutes.

The initial loss of both is about log C: He or Xavier weights keep the scale of the activations from
layer to layer, and the weights of the last layer start small (CS231n, weight initialisation and
step 1).
"""

import math
from collections import OrderedDict
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from cnntune.models.layers import (
    ACTIVATIONS,
    HEAD_STD,
    Activation,
    Dropout,
    Norm,
    halvings_of,
    head,
    norm_layer,
)

Width = Annotated[int, Field(ge=1)]
Depth = Annotated[int, Field(ge=1)]

NORMED_HEAD_STD = 0.7  # of the logits for features of RMS 1: adds at most 0.7^2 / 2 = 0.25 to log C


def small_cnn(
    *,
    num_classes: int,
    in_shape: tuple[int, int, int],
    width: Width = 32,
    depth: Depth = 3,
    dropout: Dropout = 0.0,
    norm: Norm = "batch",
    activation: Activation = "relu",
) -> nn.Module:
    """A stack of `depth` 3x3 convolutions: float32 `[N, C, H, W]` -> logits `[N, num_classes]`.

    The convolutions are divided evenly among the halvings that the image allows (the map stays at
    least 4x4): 32 pixels and depth 6 give three groups of two. The first of a group halves the map,
    and group g = 0, 1, ... has `width` * 2^g channels. Dropout is before the last layer.
    """
    channels, height, pixels = in_shape
    halvings = min(depth, halvings_of(min(height, pixels)))
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    last_group = -1
    for i in range(depth):
        group = i * halvings // depth
        out = width * 2**group
        halve = halvings > 0 and group > last_group
        layers[f"block{i + 1}"] = _block(channels, out, norm, activation, halve=halve)
        channels, last_group = out, group
    layers["head"] = head(channels, num_classes, dropout, _head_std(norm))
    return nn.Sequential(layers)


def small_resnet(
    *,
    num_classes: int,
    in_shape: tuple[int, int, int],
    width: Width = 16,
    depth: Depth = 3,
    dropout: Dropout = 0.0,
    norm: Norm = "batch",
    activation: Activation = "relu",
) -> nn.Module:
    """The residual network of He et al. 2015, section 4.2: `[N, C, H, W]` -> `[N, num_classes]`.

    A 3x3 convolution, then three stages of `depth` blocks with `width`, 2 `width` and 4 `width`
    channels: 6 `depth` + 2 layers, so the defaults give ResNet-20. Stages two and three halve the
    map while it stays at least 4x4. Dropout and `norm` are as in `small_cnn`.
    """
    channels, height, pixels = in_shape
    halvings = halvings_of(min(height, pixels))
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["stem"] = _block(channels, width, norm, activation)
    channels = width
    for stage in range(3):
        out = width * 2**stage
        for i in range(depth):
            stride = 2 if i == 0 and 1 <= stage <= halvings else 1
            block = ResidualBlock(channels, out, stride, norm, activation)
            block.scale_branch(1 / math.sqrt(3 * depth))
            layers[f"stage{stage + 1}-{i + 1}"] = block
            channels = out
    layers["head"] = head(channels, num_classes, dropout, _head_std(norm))
    return nn.Sequential(layers)


class ResidualBlock(nn.Module):
    """activation(shortcut(x) + branch(x)): two 3x3 convolutions; 1x1 where the shape changes."""

    def __init__(
        self, channels: int, out: int, stride: int, norm: Norm, activation: Activation
    ) -> None:
        super().__init__()
        self.conv1 = _conv(channels, out, 3, norm, activation, stride=stride)
        self.norm1 = norm_layer(norm, out)
        self.activation1 = ACTIVATIONS[activation][0]()
        self.conv2 = _conv(out, out, 3, norm, activation)
        self.norm2 = norm_layer(norm, out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            conv = _conv(channels, out, 1, norm, activation, stride=stride)
            self.shortcut = nn.Sequential(OrderedDict(conv=conv, norm=norm_layer(norm, out)))
        self.activation2 = ACTIVATIONS[activation][0]()

    def scale_branch(self, factor: float) -> None:
        """Multiply the initial output of the branch by `factor`.

        With 1 / sqrt(blocks) the activations of a deep stack grow by a factor of at most e, even
        without norms (Zhang, Dauphin and Ma 2019). Zero, the usual alternative, would start the
        convolutions of the branch without a gradient, just like a bug that `sanity` looks for.
        """
        last = self.conv2 if isinstance(self.norm2, nn.Identity) else self.norm2
        for parameter in last.parameters():
            parameter.data.mul_(factor)

    def forward(self, x: Tensor) -> Tensor:
        """Float `[N, channels, H, W]` -> `[N, out, H / stride, W / stride]`, rounded up."""
        branch = self.activation1(self.norm1(self.conv1(x)))
        branch = self.norm2(self.conv2(branch))
        total: Tensor = self.activation2(self.shortcut(x) + branch)
        return total


def _block(
    channels: int, out: int, norm: Norm, activation: Activation, *, halve: bool = False
) -> nn.Module:
    # Pooling first leaves norm and activation a quarter of the work (as in airbench).
    layers = OrderedDict[str, nn.Module](conv=_conv(channels, out, 3, norm, activation))
    if halve:
        layers["pool"] = nn.MaxPool2d(2)
    layers["norm"] = norm_layer(norm, out)
    layers["activation"] = ACTIVATIONS[activation][0]()
    return nn.Sequential(layers)


def _conv(
    channels: int, out: int, kernel: int, norm: Norm, activation: Activation, *, stride: int = 1
) -> nn.Conv2d:
    bias = norm == "none"  # a norm subtracts the mean, and so the bias
    conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=bias)
    nn.init.normal_(conv.weight, std=ACTIVATIONS[activation][1] / math.sqrt(channels * kernel**2))
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def _head_std(norm: Norm) -> float:
    return HEAD_STD if norm == "none" else NORMED_HEAD_STD
