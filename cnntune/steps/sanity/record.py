"""Record a forward pass: the output of each layer, be it a module or a function."""

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
DROPOUTS = (
    *(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout),
    *(F.feature_alpha_dropout, torch.dropout, torch.feature_dropout),
)
DETACHING = (torch.detach, Tensor.detach, Tensor.data.__get__)  # type: ignore[attr-defined]
JOINING = ("cat", "concat", "concatenate", "stack")
ADDING = (*JOINING, "add", "add_", "__add__", "__radd__", "__iadd__")
FLAT_TANH = 0.97  # of |tanh|: the slope is below 0.06 from here on
FLAT_SIGMOID = 0.47  # distance from 0.5: the slope is below 0.03 from here on


@dataclass(frozen=True)
class Output:
    """The output of one operation.

    `where` is the module that it ran in. `rms` is the root mean square over all values. `saturated`
    is the share of values in the flat parts of a tanh or sigmoid, 0 for other operations. `signal`
    is the standard deviation over images divided by `rms`. `input_rms` is the RMS of the input of
    an operation with weights, 0 for other operations.
    """

    where: str
    op: str
    rms: float
    finite: bool
    saturated: float = 0.0
    signal: float = 1.0
    input_rms: float = 0.0


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
    """Records the operations with weights, normalisations and nonlinearities, in their order."""

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
            input_rms = _rms(args[1 if op == "addmm" else 0]) if op in WEIGHT_OPS else 0.0
            output = _measure(self.where(), op.rstrip("_"), tensor)
            self.outputs.append(replace(output, input_rms=input_rms))
        return result


def _rms(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor.float())) / math.sqrt(max(1, tensor.numel()))


def _measure(where: str, op: str, tensor: Tensor) -> Output:
    values = tensor.detach().float()
    saturated = 0.0
    if op == "tanh":
        saturated = float((values.abs() > FLAT_TANH).float().mean())
    if op == "sigmoid":
        saturated = float(((values - 0.5).abs() > FLAT_SIGMOID).float().mean())
    if not values.numel():
        return Output(where, op, 0.0, finite=True)
    finite = math.isfinite(float(values.abs().amax()))
    count = len(values)
    variance, mean = torch.var_mean(values, 0, correction=0)  # one pass: large maps are slow
    rms = float((variance + mean.square()).mean().sqrt())
    differs = float(variance.mean().sqrt()) * math.sqrt(count / (count - 1)) if count > 1 else rms
    signal = differs / rms if rms > 0 else 0.0
    return Output(where, op, rms, finite, saturated, signal)


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
    """Turns dropout off within the block; `shares` collects the drop probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.shares: list[float] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run `func`, or return its input if it is a dropout."""
        if func not in DROPOUTS:
            return func(*args, **(kwargs or {}))
        named = dict(zip(("input", "p"), args, strict=False)) | (kwargs or {})
        self.shares.append(float(named.get("p", 0.5)))
        return named["input"]


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
