"""Plain and residual networks for images of 32 pixels (He et al. 2015, section 4.2)."""

from collections import OrderedDict
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from cnntune.machine.optional import import_torchvision
from cnntune.models.layers import HEAD_STD, head, initialise

Width = Annotated[int, Field(ge=1)]
STAGES = 3
OTHER_LAYERS = 2  # the first convolution and the last layer


def cifar_network(
    layers: int,
    residual: bool,
    *,
    num_classes: int,
    in_shape: tuple[int, int, int],
    width: Width = 16,
) -> nn.Module:
    """The network of 6n + 2 `layers`: float32 `[N, C, H, W]` -> logits `[N, num_classes]`.

    A 3x3 convolution, then three stages of n pairs of 3x3 convolutions with `width`, 2 `width` and
    4 `width` channels; the second and third stage halve the map. With `residual` each pair has a
    shortcut without weights, which is padded with zeros where the width doubles (option A).
    """
    pairs = (layers - OTHER_LAYERS) // (2 * STAGES)
    model: OrderedDict[str, nn.Module] = OrderedDict()
    channels = width
    model["stem"] = _unit(in_shape[0], channels)
    for stage in range(STAGES):
        out = width * 2**stage
        for i in range(pairs):
            stride = 2 if stage and not i else 1
            pair = _residual(channels, out, stride) if residual else _plain(channels, out, stride)
            model[f"stage{stage + 1}-{i + 1}"] = pair
            channels = out
    body = nn.Sequential(model)
    initialise(body, "kaiming", "relu")
    body.add_module("head", head(channels, num_classes, 0.0, HEAD_STD))
    return body


def _unit(channels: int, out: int, stride: int = 1) -> nn.Module:
    unit: nn.Module = import_torchvision().ops.Conv2dNormActivation(channels, out, 3, stride)
    return unit


def _plain(channels: int, out: int, stride: int) -> nn.Module:
    return nn.Sequential(OrderedDict(first=_unit(channels, out, stride), second=_unit(out, out)))


def _residual(channels: int, out: int, stride: int) -> nn.Module:
    shortcut = None if channels == out and stride == 1 else PaddedShortcut(out - channels, stride)
    block: nn.Module = import_torchvision().models.resnet.BasicBlock(
        channels, out, stride, downsample=shortcut
    )
    return block


class PaddedShortcut(nn.Module):
    """Every `stride`-th pixel, padded with `more` channels of zeros."""

    def __init__(self, more: int, stride: int) -> None:
        super().__init__()
        self.more, self.stride = more, stride

    def forward(self, x: Tensor) -> Tensor:
        """Float `[N, C, H, W]` -> `[N, C + more, H / stride, W / stride]`, rounded up."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
