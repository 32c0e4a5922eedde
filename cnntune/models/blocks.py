"""The building blocks of convolutional networks, one function each.

A block maps float `[N, channels, H, W]` to `[N, out, H, W]`: the size of the map does not change.
All use one style (norm and activation), so that they can be compared.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cnntune.machine.optional import import_torchvision
from cnntune.models.layers import ACTIVATIONS, Activation, Norm, norm_layer

Block = Literal[
    "plain",
    "residual",
    "bottleneck",
    "grouped",
    "dense",
    "squeeze-excitation",
    "inception",
    "separable",
    "inverted-residual",
    "convnext",
]

BOTTLENECK = 4  # He et al. 2015, figure 5: the 3x3 convolution has a quarter of the channels
RESNEXT_BOTTLENECK = 2  # Xie et al. 2017, table 1: half, in groups of four
GROUP_WIDTH = 4
DENSE_LAYERS = 4  # of a quarter of the channels each: together as wide as the block
REDUCTION = 16  # Hu et al. 2018, table 10
# Each unit is dead at initialisation with probability 1/2, since its inputs, the channel means,
# hardly differ between images; all 16 are dead in one of 65,536 blocks.
MIN_SQUEEZED = 16
EXPANSION = 6  # Sandler et al. 2018, section 4
CONVNEXT_KERNEL = 7  # Liu et al. 2022, section 2.5
CONVNEXT_EXPANSION = 4  # the same, section 2.4


@dataclass(frozen=True)
class Style:
    """The norm and activation of all convolutions of a network."""

    norm: Norm = "batch"
    activation: Activation = "relu"

    def unit(self, channels: int, out: int, kernel: int, **options: Any) -> nn.Module:
        """Convolution, norm, activation; with a bias only where no norm would subtract it."""
        none = self.norm == "none"
        settings: dict[str, Any] = {
            "kernel_size": kernel,
            "norm_layer": None if none else partial(norm_layer, self.norm),
            "activation_layer": ACTIVATIONS[self.activation][0],
            "inplace": None,
        }
        ops = import_torchvision().ops
        unit: nn.Module = ops.Conv2dNormActivation(channels, out, **(settings | options))
        return unit

    def linear_unit(self, channels: int, out: int, kernel: int, **options: Any) -> nn.Module:
        """Convolution and norm without activation: added to a shortcut, or a linear bottleneck."""
        return self.unit(channels, out, kernel, activation_layer=None, **options)


class Residual(nn.Module):
    """after(shortcut(x) + branch(x)); the shortcut is 1x1 where the width changes.

    `set_drop_rate` lets whole branches be skipped in training, separately per image (stochastic
    depth, Huang et al. 2016). Without `activate` there is no activation after the sum.
    """

    def __init__(
        self,
        branch: nn.Module,
        channels: int,
        out: int,
        style: Style,
        *,
        activate: bool = True,
    ) -> None:
        super().__init__()
        self.branch = branch
        same = channels == out
        self.shortcut = nn.Identity() if same else style.linear_unit(channels, out, 1)
        self.drop: nn.Module = nn.Identity()
        self.activated = activate
        self.after = ACTIVATIONS[style.activation][0]() if activate else nn.Identity()

    def set_drop_rate(self, rate: float) -> None:
        """Skip the branch for this fraction of the training images."""
        self.drop = import_torchvision().ops.StochasticDepth(rate, "row")

    def bare_convs(self) -> list[nn.Conv2d]:
        """The convolutions without a rectifier before them, whose initial gain should be 1.

        They are that of the shortcut, and the first of the branch where there is no activation
        after the sum: no rectifier has removed half of their input's variance.
        """
        ends = [self.shortcut] if self.activated else [self.shortcut, next(self.branch.children())]
        return [conv for end in ends for conv in end.modules() if isinstance(conv, nn.Conv2d)]

    def scale_branch(self, factor: float, *, weights: bool) -> None:
        """Multiply the initial output of the branch by `factor`.

        With 1 / sqrt(blocks) the activations of a deep stack grow by a factor of at most e, even
        without norms (Zhang, Dauphin and Ma 2019). Zero, the usual alternative, would start the
        convolutions of the branch without a gradient, just like a bug that `sanity` looks for.
        Scaled is the last norm, or the last convolution if there is no norm after it and `weights`
        is true.
        """
        *_, last = (m for m in self.branch.modules() if any(True for _ in m.parameters(False)))
        if weights or not isinstance(last, nn.Conv2d):
            for parameter in last.parameters(recurse=False):
                parameter.data.mul_(factor)

    def forward(self, x: Tensor) -> Tensor:
        """Float `[N, channels, H, W]` -> `[N, out, H, W]`."""
        total: Tensor = self.after(self.shortcut(x) + self.drop(self.branch(x)))
        return total


class Concatenated(nn.Module):
    """Several paths on the same input, concatenated along the channels."""

    def __init__(self, **paths: nn.Module) -> None:
        super().__init__()
        self.paths = nn.ModuleDict(paths)

    def forward(self, x: Tensor) -> Tensor:
        """Float `[N, channels, H, W]` -> `[N, sum of the paths' channels, H, W]`."""
        return torch.cat([path(x) for path in self.paths.values()], 1)


def plain(channels: int, out: int, style: Style) -> nn.Module:
    """Two 3x3 convolutions (Simonyan and Zisserman 2015)."""
    return _stack(first=style.unit(channels, out, 3), second=style.unit(out, out, 3))


def residual(channels: int, out: int, style: Style) -> nn.Module:
    """Two 3x3 convolutions and a shortcut around them (He et al. 2015)."""
    branch = _stack(first=style.unit(channels, out, 3), second=style.linear_unit(out, out, 3))
    return Residual(branch, channels, out, style)


def bottleneck(channels: int, out: int, style: Style) -> nn.Module:
    """1x1 down to a quarter of the channels, 3x3, 1x1 up again, and a shortcut (He et al. 2015)."""
    return _bottleneck(channels, out, style, inner=max(1, out // BOTTLENECK), groups=1)


def grouped(channels: int, out: int, style: Style) -> nn.Module:
    """A bottleneck whose 3x3 convolution has groups of four channels (ResNeXt)."""
    groups = max(1, out // (RESNEXT_BOTTLENECK * GROUP_WIDTH))
    return _bottleneck(channels, out, style, inner=groups * GROUP_WIDTH, groups=groups)


def _bottleneck(channels: int, out: int, style: Style, *, inner: int, groups: int) -> nn.Module:
    branch = _stack(
        reduce=style.unit(channels, inner, 1),
        conv=style.unit(inner, inner, 3, groups=groups),
        expand=style.linear_unit(inner, out, 1),
    )
    return Residual(branch, channels, out, style)


def dense(channels: int, out: int, style: Style) -> nn.Module:
    """Four 3x3 convolutions, each on the output of all before; 1x1 to `out` (Huang et al. 2017)."""
    growth = max(1, out // DENSE_LAYERS)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i in range(DENSE_LAYERS):
        new = style.unit(channels + i * growth, growth, 3)
        layers[f"layer{i + 1}"] = Concatenated(old=nn.Identity(), new=new)
    layers["transition"] = style.unit(channels + DENSE_LAYERS * growth, out, 1)
    return nn.Sequential(layers)


def squeeze_excitation(channels: int, out: int, style: Style) -> nn.Module:
    """A residual block that weights its channels by their means over the map (Hu et al. 2018).

    The weights are computed between the two convolutions, as in MobileNet V3: after the last norm,
    an instance norm would have made the channel means equal for all images.
    """
    excitation = import_torchvision().ops.SqueezeExcitation(
        out, max(MIN_SQUEEZED, out // REDUCTION), ACTIVATIONS[style.activation][0]
    )
    branch = _stack(
        first=style.unit(channels, out, 3),
        excitation=excitation,
        second=style.linear_unit(out, out, 3),
    )
    return Residual(branch, channels, out, style)


def inception(channels: int, out: int, style: Style) -> nn.Module:
    """1x1, 3x3, 5x5 and pooling in parallel, with the proportions of GoogLeNet's inception (3a)."""
    # Szegedy et al. 2015, table 1: 64, 96 -> 128, 16 -> 32 and 32 of 256 channels.
    one, three, five = out // 4, out // 2, max(1, out // 8)
    reduced_three, reduced_five = max(1, 3 * out // 8), max(1, out // 16)
    return Concatenated(
        one=style.unit(channels, one, 1),
        three=_stack(
            reduce=style.unit(channels, reduced_three, 1), conv=style.unit(reduced_three, three, 3)
        ),
        five=_stack(
            reduce=style.unit(channels, reduced_five, 1), conv=style.unit(reduced_five, five, 5)
        ),
        pooled=_stack(
            pool=nn.MaxPool2d(3, 1, 1), project=style.unit(channels, out - one - three - five, 1)
        ),
    )


def separable(channels: int, out: int, style: Style, stride: int = 1) -> nn.Module:
    """Depthwise 3x3, then pointwise 1x1 (MobileNet, Howard et al. 2017)."""
    return _stack(
        depthwise=style.unit(channels, channels, 3, stride=stride, groups=channels),
        pointwise=style.unit(channels, out, 1),
    )


def inverted_residual(channels: int, out: int, style: Style) -> nn.Module:
    """1x1 to six times the channels, depthwise 3x3, 1x1 down (Sandler et al. 2018).

    MobileNet V2 has no shortcut where the width changes; here it has a 1x1 convolution.
    """
    inner = EXPANSION * channels
    branch = _stack(
        expand=style.unit(channels, inner, 1),
        depthwise=style.unit(inner, inner, 3, groups=inner),
        project=style.linear_unit(inner, out, 1),
    )
    return Residual(branch, channels, out, style, activate=False)


def convnext(channels: int, out: int, style: Style) -> nn.Module:
    """Depthwise 7x7, norm, 1x1 to four times the channels, 1x1 back (Liu et al. 2022)."""
    without_norm = Style("none", style.activation)
    inner = CONVNEXT_EXPANSION * out
    branch = _stack(
        depthwise=style.linear_unit(channels, channels, CONVNEXT_KERNEL, groups=channels),
        expand=without_norm.unit(channels, inner, 1),
        project=without_norm.linear_unit(inner, out, 1),
    )
    return Residual(branch, channels, out, style, activate=False)


def _stack(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


BLOCKS: dict[Block, Callable[[int, int, Style], nn.Module]] = {
    "plain": plain,
    "residual": residual,
    "bottleneck": bottleneck,
    "grouped": grouped,
    "dense": dense,
    "squeeze-excitation": squeeze_excitation,
    "inception": inception,
    "separable": separable,
    "inverted-residual": inverted_residual,
    "convnext": convnext,
}
WITH_SHORTCUT: tuple[Block, ...] = (
    *("residual", "bottleneck", "grouped", "squeeze-excitation", "inverted-residual", "convnext"),
)
LINEAR_SUM: tuple[Block, ...] = ("inverted-residual", "convnext")  # no activation after the sum
