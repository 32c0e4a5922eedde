"""The classifiers of torchvision, fresh, and fitted to our classes, channels and image size.

torchvision takes a second and a half to import, so nothing here does it before a name is looked up.
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
AUXILIARY_MAP = 17  # pixels: what Inception v3's auxiliary head gets from an image of 299
# Families that size the weights of the last layer by the number of classes, which was 1000: with 10
# they would start ten times too large, and the loss at 4 to 12 where log C is 2.3.
FAN_OUT_HEADS = ("efficientnet", "mnasnet")
PUBLISHED_CLASSES = 1000
MAXVIT_SIDE = 224  # pixels: its windows of 7x7 must tile a map 32 times smaller


def names() -> list[str]:
    """The names of all classifiers that the installed torchvision lists."""
    torchvision = import_torchvision()
    listed: list[str] = torchvision.models.list_models(module=torchvision.models)
    return listed


def builder(name: str) -> Callable[..., nn.Module]:
    """`build` for one name, with `dropout` and `auxiliary` only where the model has any.

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
        RecipeError: where images of this shape do not get through the model.
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
    """`build`, with the rate of every dropout of the model; left out, it is as published."""
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
    """`build_with_dropout`; in train mode the logits carry those of the auxiliary heads."""
    model: Any = _build(
        name,
        num_classes,
        in_shape,
        stem,
        dropout=dropout,
        aux_logits=auxiliary,
        # It warns without, and False is what torchvision announces as its next default.
        init_weights=False,
    )
    if auxiliary and name == "inception_v3":
        model.AuxLogits.register_forward_pre_hook(_to_published_map)
    if auxiliary:
        model.register_forward_hook(carry_auxiliary)
    fitted: nn.Module = model
    return fitted


def _to_published_map(_: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    """The map that the head was made for; nothing changes where it is as large already."""
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
        # The constructor only takes an image that its own patches tile: as many as ours do.
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
