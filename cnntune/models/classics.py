"""Published networks that torchvision lacks, from its modules and from our blocks."""

import functools
from collections import OrderedDict
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from cnntune.machine.optional import import_torchvision
from cnntune.models.blocks import Style, separable
from cnntune.models.layers import ACTIVATIONS, HEAD_STD, Activation, Dropout, head, initialise
from cnntune.models.stem import Stem, fit

LENET_SIDE = 32  # pixels, to which the paper pads digits of 28
LENET_MAP = 5  # pixels per side of the map before the first linear layer
ZFNET_MAP = 6
SE_REDUCTION = 16  # Hu et al. 2018, section 3
# Howard et al. 2017, table 1: the channels of each separable convolution, and its stride.
MOBILENET = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1)),
)


def lenet5(
    *,
    num_classes: int,
    in_shape: tuple[int, int, int],
    activation: Activation = "tanh",
) -> nn.Module:
    """LeNet-5 (LeCun et al. 1998): float32 `[N, C, H, W]` -> logits `[N, num_classes]`.

    As usually implemented: every channel of the second convolution uses all six of the first.
    Images of less than 32 pixels are padded with zeros to 32x32, as in the paper; of larger ones
    the last map is averaged to 5x5.
    """
    act = ACTIVATIONS[activation][0]
    model = nn.Sequential(
        OrderedDict(
            field=PadTo32(),
            conv1=nn.Conv2d(in_shape[0], 6, 5),
            act1=act(),
            pool1=nn.AvgPool2d(2),
            conv2=nn.Conv2d(6, 16, 5),
            act2=act(),
            pool2=nn.AvgPool2d(2),
            mean=nn.AdaptiveAvgPool2d(LENET_MAP),
            flatten=nn.Flatten(),
            linear1=nn.Linear(16 * LENET_MAP**2, 120),
            act3=act(),
            linear2=nn.Linear(120, 84),
            act4=act(),
            linear3=nn.Linear(84, num_classes),
        )
    )
    initialise(model, "kaiming", activation)
    return model


class PadTo32(nn.Module):
    """Pads images of less than 32 pixels with zeros on all sides."""

    def forward(self, x: Tensor) -> Tensor:
        """Float `[N, C, H, W]` -> `[N, C, max(H, 32), max(W, 32)]`."""
        down, across = (max(0, LENET_SIDE - side) for side in x.shape[2:])
        return F.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2))


def zfnet(
    *,
    num_classes: int,
    in_shape: tuple[int, int, int],
    stem: Stem = "auto",
    dropout: Dropout = 0.5,
) -> nn.Module:
    """ZFNet (Zeiler and Fergus 2014): float32 `[N, C, H, W]` -> logits `[N, num_classes]`.

    As in the lecture: AlexNet with a first convolution of 7x7 and stride 2 instead of 11x11 and
    stride 4, and with 512, 1024 and 512 filters in the last three convolutions.
    """
    relu = functools.partial(nn.ReLU, inplace=True)
    features = nn.Sequential(
        *(nn.Conv2d(3, 96, 7, 2, 1), relu(), nn.MaxPool2d(3, 2, 1)),
        *(nn.Conv2d(96, 256, 5, 2), relu(), nn.MaxPool2d(3, 2, 1)),
        *(nn.Conv2d(256, 512, 3, padding=1), relu()),
        *(nn.Conv2d(512, 1024, 3, padding=1), relu()),
        *(nn.Conv2d(1024, 512, 3, padding=1), relu(), nn.MaxPool2d(3, 2)),
    )
    hidden = 4096
    classifier = nn.Sequential(
        *(nn.Dropout(dropout), nn.Linear(512 * ZFNET_MAP**2, hidden), relu()),
        *(nn.Dropout(dropout), nn.Linear(hidden, hidden), relu()),
    )
    last = nn.Linear(hidden, num_classes)
    model = nn.Sequential(
        OrderedDict(
            features=features,
            mean=nn.AdaptiveAvgPool2d(ZFNET_MAP),
            flatten=nn.Flatten(),
            classifier=classifier,
            last=last,
        )
    )
    initialise(model, "kaiming", "relu")
    last.weight.data.mul_(HEAD_STD)
    fit(model, "zfnet", in_shape, stem)
    return model


def se_resnet50(
    *, num_classes: int, in_shape: tuple[int, int, int], stem: Stem = "auto"
) -> nn.Module:
    """ResNet-50 with squeeze-and-excitation (Hu et al. 2018): `[N, C, H, W]` -> logits.

    torchvision's ResNet-50, with its squeeze-and-excitation after the last norm of each branch.
    """
    torchvision = import_torchvision()
    model: Any = torchvision.models.resnet50(num_classes=num_classes)
    for block in model.modules():
        if isinstance(block, torchvision.models.resnet.Bottleneck):
            out = block.bn3.num_features
            excitation = torchvision.ops.SqueezeExcitation(out, out // SE_REDUCTION)
            block.bn3 = nn.Sequential(OrderedDict(norm=block.bn3, excitation=excitation))
    fit(model, "se_resnet50", in_shape, stem)
    network: nn.Module = model
    return network


def mobilenet_v1(
    *,
    num_classes: int,
    in_shape: tuple[int, int, int],
    stem: Stem = "auto",
    dropout: Dropout = 0.0,
) -> nn.Module:
    """MobileNet (Howard et al. 2017): float32 `[N, C, H, W]` -> logits `[N, num_classes]`."""
    style = Style()
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=style.unit(3, 32, 3, stride=2))
    channels = 32
    for number, (out, stride) in enumerate(MOBILENET, start=1):
        layers[f"block{number}"] = separable(channels, out, style, stride)
        channels = out
    model = nn.Sequential(layers)
    initialise(model, "kaiming", "relu")
    model.add_module("head", head(channels, num_classes, dropout, HEAD_STD))
    fit(model, "mobilenet_v1", in_shape, stem)
    return model
