"""Record a forward pass: the output of each layer, be it a module or a function."""

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

WEIGHT_OPS = ("convolution", "addmm", "mm", "linear")
NORM_OPS = (
    "native_batch_norm",
    "native_group_norm",
    "native_layer_norm",
    "cudnn_batch_norm",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_functional",
    "_batch_norm_with_update",
    "_batch_norm_with_update_functional",
    "batch_norm",
)
SQUASHERS = ("tanh", "tanh_", "sigmoid", "sigmoid_")
FLAT_TANH = 0.97  # of |tanh|: the slope is below 0.06 from here on
FLAT_SIGMOID = 0.47  # distance from 0.5: the slope is below 0.03 from here on
DROPOUTS = (
    *(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout),
    *(F.feature_alpha_dropout, torch.dropout, torch.feature_dropout),
)
DETACHING = (torch.detach, Tensor.detach, Tensor.data.__get__)  # type: ignore[attr-defined]
JOINING = ("cat", "concat", "concatenate", "stack")
ADDING = (*JOINING, "add", "add_", "__add__", "__radd__", "__iadd__")


@dataclass(frozen=True)
class Output:
    """The output of one operation.

    `where` is the module that it ran in. `rms` is the root mean square over all values.
    `saturated` is the share of values in the flat parts of a tanh or sigmoid.
    """

    where: str
    op: str
    rms: float
    finite: bool
    saturated: float = 0.0


class Observation(TorchDispatchMode):
    """A mode that runs every operation as it is, and that torch does not compile.

    Torch excludes a mode from compilation when its class is made, and loads the compiler for it at
    the first operation, which takes 1.5 s. Only user code that compiles needs that.
    """

    excluded = False

    def __init__(self) -> None:
        super().__init__()
        mode = type(self)
        if "torch._dynamo" in sys.modules and not mode.excluded:
            observed = torch.compiler.disable(mode.__torch_dispatch__)
            mode.__torch_dispatch__ = observed  # type: ignore[method-assign]
            mode.excluded = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Whether torch excludes the class when it is made."""
        return False


class Recorder(Observation):
    """Records the operations with weights, normalisations, tanhs and sigmoids, in their order."""

    def __init__(self, where: Callable[[], str]) -> None:
        super().__init__()
        self.where = where
        self.outputs: list[Output] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the operation and record its output."""
        result = func(*args, **(kwargs or {}))
        op = func.overloadpacket.__name__
        if op in WEIGHT_OPS + NORM_OPS + SQUASHERS:
            tensor = result[0] if isinstance(result, tuple | list) else result
            self.outputs.append(_measure(self.where(), op.rstrip("_"), tensor))
        return result


def _measure(where: str, op: str, tensor: Tensor) -> Output:
    values = tensor.detach().float()
    rms = float(torch.linalg.vector_norm(values)) / math.sqrt(max(1, values.numel()))
    return Output(where, op, rms, bool(torch.isfinite(values).all()), _saturated(op, values))


def _saturated(op: str, values: Tensor) -> float:
    if op == "tanh":
        return float((values.abs() > FLAT_TANH).float().mean())
    if op == "sigmoid":
        return float(((values - 0.5).abs() > FLAT_SIGMOID).float().mean())
    return 0.0


@contextmanager
def recording(model: nn.Module) -> Iterator[Recorder]:
    """Record the forward passes of `model` within the block."""
    stack = ["the model itself"]
    hooks = []
    for name, module in model.named_modules():
        if name:
            hooks.append(module.register_forward_pre_hook(_enter(stack, name)))
            hooks.append(module.register_forward_hook(_leave(stack), always_call=True))
    try:
        with Recorder(lambda: stack[-1]) as recorder:
            yield recorder
    finally:
        for hook in hooks:
            hook.remove()


def _enter(stack: list[str], name: str) -> Callable[..., None]:
    return lambda *_: stack.append(name)


def _leave(stack: list[str]) -> Callable[..., None]:
    def leave(*_: Any) -> None:
        stack.pop()

    return leave


class NoDropout(TorchFunctionMode):
    """Turns dropout off within the block."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run `func`, or return its input if it is a dropout."""
        if func not in DROPOUTS:
            return func(*args, **(kwargs or {}))
        return args[0] if args else (kwargs or {})["input"]


class Detached(TorchFunctionMode):
    """Detects a tensor that is detached and then added to, or concatenated with, others."""

    def __init__(self) -> None:
        super().__init__()
        self.cut: list[Tensor] = []
        self.added = False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run `func`; record detached results and whether an addition uses them."""
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if func in DETACHING and args[0].requires_grad:
            self.cut.append(result)
        if name in ADDING:
            parts = args[0] if name in JOINING else args
            self.added |= any(part is cut for part in parts for cut in self.cut)
        return result
