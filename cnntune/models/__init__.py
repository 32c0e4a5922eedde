"""Models by name: those of cnntune, and every classifier that torchvision and timm list.

It must not know data sets, recipes or training.
"""

from collections.abc import Callable
from functools import partial

from torch import nn

from cnntune.models import from_timm, from_torchvision
from cnntune.models.block_net import block_net
from cnntune.models.cifar_resnet import cifar_network
from cnntune.models.classics import lenet5, mobilenet_v1, se_resnet50, zfnet
from cnntune.models.from_timm import TIMM
from cnntune.models.small import small_cnn, small_resnet

_OWN: dict[str, Callable[..., nn.Module]] = {
    "small-cnn": small_cnn,
    "small-resnet": small_resnet,
    "block-net": block_net,
    "lenet5": lenet5,
    "zfnet": zfnet,
    "plain20": partial(cifar_network, 20, False),
    "plain56": partial(cifar_network, 56, False),
    "resnet20": partial(cifar_network, 20, True),
    "resnet56": partial(cifar_network, 56, True),
    "se_resnet50": se_resnet50,
    "mobilenet_v1": mobilenet_v1,
}
BUILT_IN: tuple[str, ...] = tuple(_OWN)


def builder(name: str) -> Callable[..., nn.Module]:
    """The builder of model `name`: float32 `[N, C, H, W]` -> logits `[N, num_classes]`.

    Its keyword arguments are `num_classes`, `in_shape` and, with their defaults, the keys of the
    recipe's `[model]`.

    Raises:
        KeyError: where cnntune, torchvision and timm have no model `name`.
        DeviceError: where torchvision is needed and cannot be imported.
        RecipeError: where timm is needed and not installed.
    """
    if name in _OWN:
        return _OWN[name]
    return from_timm.builder(name) if name.startswith(TIMM) else from_torchvision.builder(name)


def names(like: str = "") -> list[str]:
    """Every name that `builder` accepts; timm's thousand only where `like` starts with `timm:`."""
    return from_timm.names() if like.startswith(TIMM) else [*BUILT_IN, *from_torchvision.names()]


__all__ = ["BUILT_IN", "TIMM", "builder", "names", "small_cnn", "small_resnet"]
