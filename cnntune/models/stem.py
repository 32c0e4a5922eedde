"""Adapt a published network, made for 224 pixels and three channels, to other images."""

import itertools
import math
from typing import Any, Literal

import torch
from torch import nn
from torch.func import functional_call

from cnntune.errors import RecipeError

Stem = Literal["auto", "imagenet", "small"]

MAX_SMALL_IMAGE = 64  # pixels; a stem for 224 pixels leaves 2x2 of these before the last pooling
SMALL_KERNEL = 3  # He et al. 2015, section 4.2: the ResNets for CIFAR start with 3x3, stride 1
MAX_SIDE = 300  # pixels tried; Inception, which needs the most, was made for 299


def is_small(stem: Stem, in_shape: tuple[int, int, int]) -> bool:
    """Whether the first convolution should keep the size of the map."""
    return stem == "small" or (stem == "auto" and max(in_shape[1:]) <= MAX_SMALL_IMAGE)


def fit(model: nn.Module, name: str, in_shape: tuple[int, int, int], stem: Stem) -> None:
    """Adapt `model` to images of `in_shape`, in place.

    With `stem` "small" the first convolution keeps the size of the map (3x3, stride 1), the
    max-pooling after it is removed, and later ones round up. "auto" is "small" for images of up to
    64 pixels; "imagenet" changes only the number of channels.

    Raises:
        RecipeError: where images of this shape are too small for the model.
    """
    _fit_stem(model, in_shape[0], small=is_small(stem, in_shape))
    check_size(model, name, in_shape, ' or stem = "auto"' if stem == "imagenet" else "")


def _fit_stem(model: nn.Module, channels: int, *, small: bool) -> None:
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    pools = {name: m for name, m in model.named_modules() if isinstance(m, nn.MaxPool2d)}
    if small and first.stride != (1, 1):
        kernel = SMALL_KERNEL
        replace_first_conv(model, channels, kernel=kernel, stride=1, padding=kernel // 2)
        if pools:
            model.set_submodule(next(iter(pools)), nn.Identity())
    elif channels != first.in_channels:
        replace_first_conv(
            model, channels, kernel=first.kernel_size, stride=first.stride, padding=first.padding
        )
    if small:
        for pool in pools.values():
            pool.ceil_mode = True  # otherwise the five of a VGG leave nothing of 28 pixels


def replace_first_conv(model: nn.Module, channels: int, **geometry: Any) -> None:
    """Replace the first convolution, with weights scaled so that the RMS of its output is kept."""
    name, old = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    geometry["kernel_size"] = geometry.pop("kernel")
    new = nn.Conv2d(channels, old.out_channels, bias=old.bias is not None, **geometry)
    with torch.no_grad():
        fan_in, old_fan_in = new.weight[0].numel(), old.weight[0].numel()
        new.weight.normal_().mul_(old.weight.std() * math.sqrt(old_fan_in / fan_in))
    new.bias = old.bias
    model.set_submodule(name, new)


def check_size(model: nn.Module, name: str, in_shape: tuple[int, int, int], fix: str = "") -> None:
    """Run the model on one image on the meta device: no memory, no computation, no random numbers.

    Raises:
        RecipeError: where this fails; it names the smallest size that works.
    """
    channels, height, width = in_shape
    if _fits(model, in_shape):
        return
    sides = range(1, MAX_SIDE)
    side = next((side for side in sides if _fits(model, (channels, side, side))), None)
    needs = f"at least {side}x{side} pixels" if side else "another number of pixels"
    raise RecipeError(f"model {name}: needs images of {needs}{fix} (got {height}x{width})")


def _fits(model: nn.Module, shape: tuple[int, int, int]) -> bool:
    tensors = itertools.chain(model.named_parameters(), model.named_buffers())
    state = {name: tensor.to("meta") for name, tensor in tensors}
    training = model.training
    try:
        with torch.no_grad():
            functional_call(model.eval(), state, (torch.empty(1, *shape, device="meta"),))
    except (RuntimeError, ValueError, AssertionError):  # layers raise different types
        return False
    finally:
        model.train(training)
    return True
