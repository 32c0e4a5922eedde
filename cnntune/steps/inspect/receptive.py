"""Receptive fields, computed in one forward pass.

Each tensor is labelled with the receptive field of one of its positions, and each function
propagates labels: a convolution or pooling widens the field by its kernel times the stride so far,
a sum or concatenation takes the widest field of its branches, and an operation that mixes all
positions has the whole image as its field. That is exact for sequences and for branches that are
centred on each other. It needs no values, so it runs on the meta device, and does not depend on the
weights, as measuring where the gradient is zero would. Attention counts as global, even in windows.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

Pair = tuple[float, float]
LABEL = "_cnntune_sight"


@dataclass(frozen=True)
class Sight:
    """The receptive field of a position in a feature map: `field` is (height, width) in pixels.

    `stride` is the distance between the fields of two neighbours, in pixels. A field larger than
    the image includes all of it, and padding.
    """

    field: Pair
    stride: Pair

    def after(self, kernel: Pair, stride: Pair) -> "Sight":
        """The field after a window of `kernel` positions that moves by `stride` positions."""
        down, across = (
            field + (k - 1) * step
            for field, k, step in zip(self.field, kernel, self.stride, strict=True)
        )
        return Sight((down, across), (self.stride[0] * stride[0], self.stride[1] * stride[1]))

    def whole(self, image: Pair) -> "Sight":
        """The field after an operation that mixes all positions."""
        field = (max(self.field[0], image[0]), max(self.field[1], image[1]))
        return Sight(field, image)


def sight_of(tensor: Any) -> Sight | None:
    """The label of a tensor; None if it is not computed from the image."""
    found: Sight | None = getattr(tensor, LABEL, None)
    return found


class Receptive(TorchFunctionMode):
    """Within the block, tensors computed from `images` `[N, C, H, W]` get a label."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.image = (float(images.shape[-2]), float(images.shape[-1]))
        setattr(images, LABEL, Sight((1.0, 1.0), (1.0, 1.0)))

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run `func` and label what it returns."""
        kwargs = kwargs or {}
        tensors = [t for t in _tensors([*args, *kwargs.values()]) if sight_of(t)]
        sights = [sight for tensor in tensors if (sight := sight_of(tensor))]
        result = func(*args, **kwargs)
        outputs = list(_tensors([result]))
        if sights and outputs:
            label = self._label(
                getattr(func, "__name__", ""), tensors, _merged(sights), args, kwargs
            )
            for output in outputs:
                setattr(output, LABEL, label)
        return result

    def _label(
        self, name: str, tensors: list[Tensor], before: Sight, args: tuple[Any, ...], kwargs: Any
    ) -> Sight:
        if _mixes_all(name, tensors, args, kwargs):
            return before.whole(self.image)
        if name in WINDOWS:
            given = dict(zip(WINDOWS[name][0], args, strict=False)) | kwargs
            return WINDOWS[name][1](before, given)
        if name == "__getitem__":
            return before.after((1.0, 1.0), _steps(args[1]))
        return before


def _tensors(values: Any) -> Iterator[Tensor]:
    """The tensors in nested lists, tuples and dicts."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
        elif isinstance(value, dict):
            yield from _tensors(value.values())


def _merged(sights: list[Sight]) -> Sight:
    """The widest field and the finest stride (a 1x1 gate may weight a whole map)."""
    return Sight(
        (max(s.field[0] for s in sights), max(s.field[1] for s in sights)),
        (min(s.stride[0] for s in sights), min(s.stride[1] for s in sights)),
    )


def _mixes_all(name: str, tensors: list[Tensor], args: tuple[Any, ...], kwargs: Any) -> bool:
    """Whether every output depends on every position of the map."""
    if name in ("scaled_dot_product_attention", "multi_head_attention_forward"):
        return True
    if name in ("matmul", "__matmul__", "bmm", "baddbmm", "einsum"):
        return len(tensors) > 1  # activations times activations: attention
    if name in ("adaptive_avg_pool2d", "adaptive_max_pool2d"):
        return kwargs.get("output_size", args[-1]) in (1, (1, 1), [1, 1])
    dims = tensors[0].ndim
    if name in ("linear", "addmm", "mm"):
        return dims == 2  # [N, features]; with more dimensions only the last one is mixed
    if name in ("mean", "sum", "amax", "max", "logsumexp") and dims > 2:
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        reduced = dim if isinstance(dim, list | tuple) else [dim]
        positions = {d % dims for d in reduced if isinstance(d, int)} - {0}
        return dim is None or len(positions) > 1 or (dims == 3 and positions == {1})
    return False


def _pair(value: Any) -> Pair:
    if isinstance(value, int | float):
        return float(value), float(value)
    return float(value[0]), float(value[-1])


def _convolved(before: Sight, given: dict[str, Any]) -> Sight:
    down, across = given["weight"].shape[-2:]
    spread = _pair(given.get("dilation", 1))
    kernel = ((down - 1) * spread[0] + 1, (across - 1) * spread[1] + 1)
    return before.after(kernel, _pair(given.get("stride", 1)))


def _transposed(before: Sight, given: dict[str, Any]) -> Sight:
    stride = _pair(given.get("stride", 1))
    finer = before.after((1.0, 1.0), (1 / stride[0], 1 / stride[1]))
    down, across = given["weight"].shape[-2:]
    # An output pixel depends on at most kernel / stride input pixels per axis.
    return Sight(
        before.after((math.ceil(down / stride[0]), math.ceil(across / stride[1])), stride).field,
        finer.stride,
    )


def _pooled(before: Sight, given: dict[str, Any]) -> Sight:
    kernel = _pair(given["kernel_size"])
    spread = _pair(given.get("dilation", 1))
    wide = ((kernel[0] - 1) * spread[0] + 1, (kernel[1] - 1) * spread[1] + 1)
    return before.after(wide, _pair(given.get("stride") or given["kernel_size"]))


def _adapted(before: Sight, given: dict[str, Any]) -> Sight:
    """Adaptive pooling: the largest of its windows, which may differ by one pixel."""
    sides = given["input"].shape[-2:]
    wanted = given["output_size"]
    asked = wanted if isinstance(wanted, list | tuple) else (wanted, wanted)
    outputs = [side if out is None else out for side, out in zip(sides, asked, strict=True)]
    kernels = [
        side / out if side % out == 0 else math.ceil(side / out) + 1
        for side, out in zip(sides, outputs, strict=True)
    ]
    ratios = [side / out for side, out in zip(sides, outputs, strict=True)]
    return before.after(_pair(kernels), _pair(ratios))


def _steps(index: Any) -> Pair:
    """The steps of `x[:, :, ::2, ::2]`."""
    parts = index if isinstance(index, tuple) else (index,)
    steps = [part.step or 1 if isinstance(part, slice) else 1 for part in parts]
    down, across = (steps[d] if len(steps) > d else 1 for d in (2, 3))
    return float(down), float(across)


_CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_POOL = ("input", "kernel_size", "stride", "padding")
Widen = Callable[[Sight, dict[str, Any]], Sight]
WINDOWS: dict[str, tuple[tuple[str, ...], Widen]] = {
    "conv2d": (_CONV, _convolved),
    "conv_transpose2d": (_CONV, _transposed),
    "max_pool2d": ((*_POOL, "dilation"), _pooled),
    "avg_pool2d": (_POOL, _pooled),
    "lp_pool2d": (("input", "norm_type", "kernel_size", "stride"), _pooled),
    "adaptive_avg_pool2d": (("input", "output_size"), _adapted),
    "adaptive_max_pool2d": (("input", "output_size"), _adapted),
}
