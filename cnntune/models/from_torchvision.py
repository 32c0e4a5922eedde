"""The classifiers of torchvision, untrained and adapted to the classes, channels and image size.

torchvision takes 1.5 s to import, so it is imported only when a name is looked up.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from cnntune.errors import RecipeError
from cnntune.machine.optional import import_torchvision
from cnntune.models.auxiliary import carry_auxiliary
from cnntune.models.layers import Dropout
from cnntune.models.stem import Stem, fit, is_small, replace_first_conv

SMALL_PATCH = 4  # a ViT of 32 pixels then has 64 patches (Lee, Lee and Song 2021 use 4 and 8)

# Families whose constructor takes `dropout`.
DROPOUT = (
    *("alexnet", "efficientnet", "googlenet", "inception", "mnasnet", "mobilenet", "squeezenet"),
    *("swin", "vgg", "vit"),
)
INCEPTIONS = ("googlenet", "inception_v3")
AUXILIARY_MAP = 17  # pixels: the input of Inception v3's auxiliary head for images of 299
# Families that scale the initial weights of the last layer by the number of classes, 1000: with 10
# they would be ten times too large, and the initial loss 4 to 12 instead of log C = 2.3.
FAN_OUT_HEADS = ("efficientnet", "mnasnet")
PUBLISHED_CLASSES = 1000
MAXVIT_SIDE = 224  # pixels: its windows of 7x7 must tile a map 32 times smaller


def names() -> list[str]:
    """The names of all classifiers that the installed torchvision lists."""
    torchvision = import_torchvision()
    listed: list[str] = torchvision.models.list_models(module=torchvision.models)
    return listed


def builder(name: str) -> Callable[..., nn.Module]:
    """`build` for one name, with `dropout` and `auxiliary` only where the model has them.

    Raises:
        KeyError: where torchvision lists no such classifier.
        DeviceError: where torchvision cannot be imported.
    """
    if name not in names():
        raise KeyError(name)
    if name in INCEPTIONS:
        return functools.partial(build_inception, name)
    return functools.partial(build_with_dropout if name.startswith(DROPOUT) else build, name)


def build(
    name: str, *, num_classes: int, in_shape: tuple[int, int, int], stem: Stem = "auto"
) -> nn.Module:
    """Classifier `name`: float32 `[N, *in_shape]` -> logits `[N, num_classes]`, in both modes.

    `stem` is that of `cnntune.models.stem.fit`; for a ViT "small" means patches of 4x4.

    Raises:
        RecipeError: where images of this shape do not fit the model.
        DeviceError: where torchvision cannot be imported.
    """
    return _build(name, num_classes, in_shape, stem)


def build_with_dropout(
    name: str,
    *,
    num_classes: int,
    in_shape: tuple[int, int, int],
    stem: Stem = "auto",
    dropout: Dropout | None = None,
) -> nn.Module:
    """`build`, with the rate of every dropout layer of the model; None keeps the published one."""
    return _build(name, num_classes, in_shape, stem, dropout=dropout)


def build_inception(
    name: str,
    *,
    num_classes: int,
    in_shape: tuple[int, int, int],
    stem: Stem = "auto",
    dropout: Dropout | None = None,
    auxiliary: bool = True,
) -> nn.Module:
    """`build_with_dropout`; in train mode the auxiliary logits are attached to the logits."""
    model: Any = _build(
        name,
        num_classes,
        in_shape,
        stem,
        dropout=dropout,
        aux_logits=auxiliary,
        # torchvision warns without it, and announces False as the next default.
        init_weights=False,
    )
    if auxiliary and name == "inception_v3":
        model.AuxLogits.register_forward_pre_hook(_to_published_map)
    if auxiliary:
        model.register_forward_hook(carry_auxiliary)
    fitted: nn.Module = model
    return fitted


def _to_published_map(_: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    """The map resized to what the head was made for; a no-op where it has that size."""
    return F.adaptive_avg_pool2d(inputs[0], AUXILIARY_MAP)


def _build(
    name: str,
    num_classes: int,
    in_shape: tuple[int, int, int],
    stem: Stem,
    **options: bool | float | None,
) -> nn.Module:
    given: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
    channels, height, width = in_shape
    if name.startswith("maxvit"):
        _check_side(name, in_shape, MAXVIT_SIDE)
        given |= {"input_size": (height, width)}
    if name.startswith("vit_"):
        published = int(name.rpartition("_")[2])
        patch = SMALL_PATCH if is_small(stem, in_shape) else published
        _check_side(name, in_shape, patch)
        # The constructor needs a size that its own patches tile: as many patches as ours.
        given |= {"image_size": height // patch * published}
    model: Any = import_torchvision().models.get_model(
        name, weights=None, num_classes=num_classes, **given
    )
    if name.startswith(FAN_OUT_HEADS):
        model.classifier[-1].weight.data.mul_(math.sqrt(num_classes / PUBLISHED_CLASSES))
    if name.startswith("vit_"):
        model.image_size, model.patch_size = height, patch
        replace_first_conv(model, channels, kernel=patch, stride=patch, padding=0)
    else:
        fit(model, name, in_shape, stem)
    fitted: nn.Module = model
    return fitted


def _check_side(name: str, in_shape: tuple[int, int, int], side: int) -> None:
    _, height, width = in_shape
    if height != width or height % side:
        raise RecipeError(
            f"model {name}: needs square images with sides a multiple of {side} pixels"
            f" (got {height}x{width})"
        )
