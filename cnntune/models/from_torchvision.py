"""The classifiers of torchvision, fresh, and fitted to our classes, channels and image size.

torchvision takes a second and a half to import, so nothing here does it before a name is looked up.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn
from torch.func import functional_call

from cnntune.errors import RecipeError
from cnntune.models.layers import Dropout
from cnntune.torchvision_import import import_torchvision

Stem = Literal["auto", "imagenet", "small"]

SMALL_IMAGE = 64  # pixels; a stem for 224 pixels leaves 2x2 of these before the last pooling
SMALL_KERNEL = 3  # He et al. 2015, section 4.2: the ResNets for CIFAR start with 3x3, stride 1
SMALL_PATCH = 4  # a ViT of 32 pixels then has 64 patches (Lee, Lee and Song 2021 use 4 and 8)
LARGEST_TRIED = 300  # pixels; Inception, the neediest, was made for 299

# Families whose constructor takes `dropout`.
DROPOUT = (
    *("alexnet", "efficientnet", "googlenet", "inception", "mnasnet", "mobilenet", "squeezenet"),
    *("swin", "vgg", "vit"),
)
# These warn without `init_weights`; False is what torchvision announces as its next default.
INCEPTIONS = ("googlenet", "inception_v3")
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
    """`build` for one name, with `dropout` among its arguments only where the model has any.

    Raises:
        KeyError: where torchvision lists no such classifier.
        DeviceError: where torchvision cannot be imported.
    """
    if name not in names():
        raise KeyError(name)
    return functools.partial(build_with_dropout if name.startswith(DROPOUT) else build, name)


def build(
    name: str, *, num_classes: int, in_shape: tuple[int, int, int], stem: Stem = "auto"
) -> nn.Module:
    """Classifier `name`: float32 `[N, *in_shape]` -> logits `[N, num_classes]`, in both modes.

    `stem` "small" lets the first convolution keep the size of the map (3x3, stride 1; ViT: patches
    of 4x4), takes out the max-pooling after it, and has later ones round up. "auto" is "small" for
    images of up to 64 pixels; "imagenet" changes nothing but the number of channels.

    Raises:
        RecipeError: where images of this shape do not get through the model.
        DeviceError: where torchvision cannot be imported.
    """
    return build_with_dropout(name, num_classes=num_classes, in_shape=in_shape, stem=stem)


def build_with_dropout(
    name: str,
    *,
    num_classes: int,
    in_shape: tuple[int, int, int],
    stem: Stem = "auto",
    dropout: Dropout | None = None,
) -> nn.Module:
    """`build`, with the rate of every dropout of the model; left out, it is as published."""
    options: dict[str, Any] = {} if dropout is None else {"dropout": dropout}
    channels, height, width = in_shape
    small = stem == "small" or (stem == "auto" and max(height, width) <= SMALL_IMAGE)
    if name in INCEPTIONS:
        options |= {"aux_logits": False, "init_weights": False}
    if name.startswith("maxvit"):
        _check_side(name, in_shape, MAXVIT_SIDE)
        options |= {"input_size": (height, width)}
    if name.startswith("vit_"):
        published = int(name.rpartition("_")[2])
        patch = SMALL_PATCH if small else published
        _check_side(name, in_shape, patch)
        # The constructor only takes an image that its own patches tile: as many as ours do.
        options |= {"image_size": height // patch * published}
    model: Any = import_torchvision().models.get_model(
        name, weights=None, num_classes=num_classes, **options
    )
    if name.startswith(FAN_OUT_HEADS):
        model.classifier[-1].weight.data.mul_(math.sqrt(num_classes / PUBLISHED_CLASSES))
    if name.startswith("vit_"):
        model.image_size, model.patch_size = height, patch
        _replace_first_conv(model, channels, kernel=patch, stride=patch, padding=0)
    else:
        _fit_stem(model, channels, small=small)
        _check_size(model, name, in_shape, stem)
    fitted: nn.Module = model
    return fitted


def _fit_stem(model: nn.Module, channels: int, *, small: bool) -> None:
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    pools = {name: m for name, m in model.named_modules() if isinstance(m, nn.MaxPool2d)}
    if small and first.stride != (1, 1):
        kernel = SMALL_KERNEL
        _replace_first_conv(model, channels, kernel=kernel, stride=1, padding=kernel // 2)
        if pools:
            model.set_submodule(next(iter(pools)), nn.Identity())
    elif channels != first.in_channels:
        _replace_first_conv(
            model, channels, kernel=first.kernel_size, stride=first.stride, padding=first.padding
        )
    if small:
        for pool in pools.values():
            pool.ceil_mode = True  # otherwise the five of a VGG leave nothing of 28 pixels


def _replace_first_conv(model: nn.Module, channels: int, **geometry: Any) -> None:
    """Put a new first convolution in place, its weights scaled so that outputs keep their size."""
    name, old = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    geometry["kernel_size"] = geometry.pop("kernel")
    new = nn.Conv2d(channels, old.out_channels, bias=old.bias is not None, **geometry)
    with torch.no_grad():
        fan_in, old_fan_in = new.weight[0].numel(), old.weight[0].numel()
        new.weight.normal_().mul_(old.weight.std() * math.sqrt(old_fan_in / fan_in))
    new.bias = old.bias
    model.set_submodule(name, new)


def _check_side(name: str, in_shape: tuple[int, int, int], side: int) -> None:
    _, height, width = in_shape
    if height != width or height % side:
        raise RecipeError(
            f"model {name}: needs square images with sides a multiple of {side} pixels"
            f" (got {height}x{width})"
        )


def _check_size(model: nn.Module, name: str, in_shape: tuple[int, int, int], stem: Stem) -> None:
    """Send the shape of one image through the model: no numbers, no memory, no random draw."""
    channels, height, width = in_shape
    if _fits(model, in_shape):
        return
    sides = range(1, LARGEST_TRIED)
    side = next((side for side in sides if _fits(model, (channels, side, side))), None)
    needs = f"at least {side}x{side} pixels" if side else "another number of pixels"
    hint = ' or stem = "auto"' if stem == "imagenet" else ""
    raise RecipeError(f"model {name}: needs images of {needs}{hint} (got {height}x{width})")


def _fits(model: nn.Module, shape: tuple[int, int, int]) -> bool:
    tensors = itertools.chain(model.named_parameters(), model.named_buffers())
    state = {name: tensor.to("meta") for name, tensor in tensors}
    training = model.training
    try:
        with torch.no_grad():
            functional_call(model.eval(), state, (torch.empty(1, *shape, device="meta"),))
    except RuntimeError:  # "output size is too small", in a different wording for each layer
        return False
    finally:
        model.train(training)
    return True
