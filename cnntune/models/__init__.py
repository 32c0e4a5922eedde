"""Models by name: two small networks of our own, and every classifier that torchvision lists."""

from collections.abc import Callable

from torch import nn

from cnntune.models import from_torchvision
from cnntune.models.block_net import block_net
from cnntune.models.small import small_cnn, small_resnet

_SMALL: dict[str, Callable[..., nn.Module]] = {
    "small-cnn": small_cnn,
    "small-resnet": small_resnet,
    "block-net": block_net,
}
BUILT_IN: tuple[str, ...] = tuple(_SMALL)


def builder(name: str) -> Callable[..., nn.Module]:
    """The builder of model `name`: float32 `[N, C, H, W]` -> logits `[N, num_classes]`.

    Its keyword arguments are `num_classes`, `in_shape` and, with their defaults, the keys of the
    recipe's `[model]`.

    Raises:
        KeyError: where neither we nor torchvision know `name`.
        DeviceError: where torchvision is wanted and cannot be imported.
    """
    return _SMALL[name] if name in _SMALL else from_torchvision.builder(name)


def names() -> list[str]:
    """Every name that `builder` takes; imports torchvision."""
    return [*BUILT_IN, *from_torchvision.names()]


__all__ = ["BUILT_IN", "builder", "names", "small_cnn", "small_resnet"]
